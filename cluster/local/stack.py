"""The embedded stack: livekit-server, a Live endpoint and a carrier on this machine, each a process of its own.

What it gives is a set of environment variables. Production code reads them as it reads those of any other deployment,
and does not know that the parts behind them are local.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import aiohttp
from livekit.api.sip_service import SipService
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration
from livekit.protocol.sip import (
    CreateSIPDispatchRuleRequest,
    CreateSIPInboundTrunkRequest,
    CreateSIPOutboundTrunkRequest,
    SIPDispatchRule,
    SIPDispatchRuleIndividual,
    SIPInboundTrunkInfo,
    SIPOutboundTrunkInfo,
)

from cluster.local.livekit_server import LivekitServer, die_with_parent, ensure_binary
from cluster.local.scenario import load_scenario

START_WITHIN_S = 60
STOP_WITHIN_S = 5
LOCAL_KEY = "local-endpoint-accepts-this-key"
NUMBER = "+15550000100"
"""The number that callers ring and that callees see."""
AGENT_NAME = "gemini-sip-agent"


class LivekitKeys(NamedTuple):
    """Where a LiveKit server is and how to be let in."""

    url: str
    api_key: str
    api_secret: str

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which every program finds it; a secret on a command line could be read by others."""
        return {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": self.api_key, "LIVEKIT_API_SECRET": self.api_secret}


@dataclass(frozen=True, slots=True)
class LocalStack:
    """Where the parts listen, and the variables that lead Ringmaster to them."""

    carrier_url: str
    meter_url: str
    """The Live endpoint's own account of tokens and turns, for measurements."""
    environ: dict[str, str]


@asynccontextmanager
async def local_stack(
    folder: Path,
    *,
    scenario: Path | None = None,
    webhook_url: str | None = None,
    host: str = "127.0.0.1",
    progress: Callable[[str], None] = lambda _line: None,
) -> AsyncIterator[LocalStack]:
    """Start the three parts, wait until each answers, and stop them by their pids when the scope ends.

    `folder` holds their logs and the certificate; `webhook_url` is where livekit-server reports its events; `host` is
    the address that all listen on: another than loopback only where others than this machine need them. Where the
    scenario has nothing transcribed, neither the endpoint nor the phones recognize speech.
    """
    async with AsyncExitStack() as scope:
        livekit = await scope.enter_async_context(_livekit(webhook_url, host, progress))
        progress("starting the Live endpoint")
        options = ["--host", host, "--port", "0", *(["--scenario", str(scenario)] if scenario else [])]
        deaf = ["--no-transcribe"] if scenario and load_scenario(scenario).transcribe == "off" else []
        live = await scope.enter_async_context(
            _part(folder, "cluster.local.live", "--state-dir", str(folder), *options)
        )
        progress("starting the carrier")
        carrier = await scope.enter_async_context(
            _part(folder, "cluster.local.carrier", *options, *deaf, environ=livekit.environ)
        )
        trunk_id = await _provision(carrier["url"], livekit.api_key, livekit.api_secret)
        yield LocalStack(
            carrier_url=carrier["url"],
            meter_url=live["token_url"].removesuffix("/token"),
            environ={
                **livekit.environ,
                "RINGMASTER_SIP_URL": carrier["url"],
                "RINGMASTER_OUTBOUND_TRUNK_ID": trunk_id,
                "GEMINI_API_KEY": LOCAL_KEY,
                "GOOGLE_GEMINI_BASE_URL": live["url"],
                "SSL_CERT_FILE": live["ca_file"],
            },
        )


@asynccontextmanager
async def _livekit(webhook_url: str | None, host: str, progress: Callable[[str], None]) -> AsyncIterator[LivekitKeys]:
    """The server that `LIVEKIT_URL` names, else one of our own."""
    if url := os.environ.get("LIVEKIT_URL"):
        yield LivekitKeys(url, os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
        return
    binary = await asyncio.to_thread(ensure_binary, progress)
    progress("starting livekit-server")
    async with LivekitServer(binary, webhook_url=webhook_url, node_ip=host) as server:
        yield LivekitKeys(server.url, server.api_key, server.api_secret)


async def _provision(url: str, api_key: str, api_secret: str) -> str:
    """What an operator does once: a trunk each way, and a rule that sends callers to the agent. Returns the way out."""
    async with aiohttp.ClientSession() as http:
        sip = SipService(http, url, api_key, api_secret)
        inbound = await sip.create_inbound_trunk(
            CreateSIPInboundTrunkRequest(trunk=SIPInboundTrunkInfo(name="local", numbers=[NUMBER]))
        )
        await sip.create_dispatch_rule(
            CreateSIPDispatchRuleRequest(
                name="receptionist",
                trunk_ids=[inbound.sip_trunk_id],
                rule=SIPDispatchRule(dispatch_rule_individual=SIPDispatchRuleIndividual(room_prefix="call-")),
                room_config=RoomConfiguration(
                    agents=[RoomAgentDispatch(agent_name=AGENT_NAME, metadata='{"profile": "receptionist"}')]
                ),
            )
        )
        outbound = await sip.create_outbound_trunk(
            CreateSIPOutboundTrunkRequest(
                trunk=SIPOutboundTrunkInfo(name="local", address="carrier.invalid", numbers=[NUMBER])
            )
        )
        return outbound.sip_trunk_id


@asynccontextmanager
async def _part(
    folder: Path, module: str, *arguments: str, environ: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[dict[str, str]]:
    """Run one part; its first line of output is JSON and says where it listens."""
    log = (folder / f"{module}.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=os.environ | environ,
        preexec_fn=die_with_parent,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        async with asyncio.timeout(START_WITHIN_S):
            line = await process.stdout.readline()
        if not line:
            message = f"{module} ended before it was ready; its log is {log.name}"
            raise RuntimeError(message)
        yield json.loads(line)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        log.close()
