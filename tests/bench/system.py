"""Ours: the embedded stack and the application, in processes of their own, as `tests/e2e` starts them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import httpx2
from livekit.api import LiveKitAPI
from livekit.api.sip_service import SipService
from livekit.protocol import sip as pb
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration

from cluster.local.stack import AGENT_NAME, NUMBER
from tests.bench import linux

ROOT: Final = Path(__file__).parents[2]
SCENARIO: Final = Path(__file__).with_name("scenario.yaml")
PEER_NAME: Final = "peer"
PEER_NUMBER: Final = "+15550000200"
ERRORS: Final = "errors.log"
START_WITHIN_S: Final = 120
STOP_WITHIN_S: Final = 30
RINGING_S: Final = 20
WARM_WITHIN_S: Final = 120
POLL_EVERY_S: Final = 0.1
_OTHERS: Final = ("RINGMASTER_", "LIVEKIT_", "GOOGLE_", "GEMINI_", "DATABASE_URL", "SSL_CERT_FILE", "RAY_")
_SETTINGS: Final = {
    "RINGMASTER_RAY_DASHBOARD": "false",
    "RINGMASTER_LOG_LEVEL": "warning",
    "RINGMASTER_DAILY_BUDGET_USD": "100000",
}

Json = dict[str, Any]


class Side(Protocol):
    """Ours or the peer: an agent at the same LiveKit server, with a name and a telephone number."""

    @property
    def agent_name(self) -> str:
        """What dispatches call it."""

    @property
    def number(self) -> str:
        """What phones call."""

    async def until_warm(self) -> None:
        """Return once a call would find everything ready."""

    def call_processes(self) -> list[int]:
        """The pids of all processes that serve a call or wait for one."""


@dataclass(frozen=True)
class System:
    """Where the running system answers."""

    agent_name: ClassVar[str] = AGENT_NAME
    number: ClassVar[str] = NUMBER
    api: httpx2.AsyncClient
    carrier: httpx2.AsyncClient
    meter: httpx2.AsyncClient
    livekit: LiveKitAPI
    ready: Json
    pid: int
    database: Path
    parked: int
    free: int
    _names: Any = field(default_factory=lambda: count(1))

    def room(self) -> str:
        """A name that no room had."""
        return f"bench-{next(self._names)}"

    async def ring(self, number: str, steps: list[Json], *, media: bool = True) -> str:
        """A phone calls in; returns the carrier's id of the call."""
        caller = f"+1415556{next(self._names):04}"
        answer = await self.carrier.post("/_calls", json={"from": caller, "to": number, "steps": steps, "media": media})
        answer.raise_for_status()
        return str(answer.json()["call_id"])

    async def phone(self, call_id: str, until: str = "ended", timeout_s: float = 120) -> Json:
        """The carrier's log of a call, once it was answered or has ended."""
        answer = await self.carrier.get(f"/_calls/{call_id}", params={"until": until, "timeout_s": timeout_s})
        answer.raise_for_status()
        log: Json = answer.json()
        return log

    async def sessions(self) -> list[Json]:
        """The Live endpoint's account of every session that there ever was."""
        found: list[Json] = (await self.meter.get("/_sessions")).json()
        return found

    async def until_warm(self) -> None:
        """Every actor that should be parked is, and no call is live."""

        async def warm() -> bool:
            statistics = (await self.api.get("/readyz")).json()
            return bool(statistics.get("parked", 0) >= self.parked and statistics["free"] == self.free)

        await until(warm)

    def call_processes(self) -> list[int]:
        """The call actors' processes."""
        return self.processes("ray::CallActor")

    def processes(self, *titles: str) -> list[int]:
        """Our processes whose title begins so."""
        return [pid for pid in linux.children(self.pid) if linux.command(pid).startswith(titles)]


async def until(probe: Callable[[], Awaitable[bool]], timeout_s: float = WARM_WITHIN_S) -> None:
    """Return once `probe` is true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not await probe():
        if time.monotonic() > deadline:
            raise TimeoutError("what the bench waited for did not come about in time")
        await asyncio.sleep(POLL_EVERY_S)


def clean_environ() -> dict[str, str]:
    """This process's environment without what leads to another LiveKit server, endpoint or cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}


@asynccontextmanager
async def running(parked: Mapping[str, int], max_calls: int) -> AsyncIterator[System]:
    """Start everything with so many parked actors per profile, and stop it at the end."""
    async with AsyncExitStack() as scope:
        folder = Path(scope.enter_context(tempfile.TemporaryDirectory(prefix="ringmaster-bench-")))
        settings = {
            "RINGMASTER_PARKED": ",".join(f"{profile}={number}" for profile, number in parked.items()),
            "RINGMASTER_MAX_CALLS": str(max_calls),
            "DATABASE_URL": f"sqlite:///{folder / 'bench.db'}",
        }
        process = await scope.enter_async_context(_application(folder, settings))
        ready = await asyncio.wait_for(_ready(process, folder / ERRORS), START_WITHIN_S)
        clients = await scope.enter_async_context(_clients(ready))
        system = System(
            *clients,
            ready=ready,
            pid=process.pid,
            database=folder / "bench.db",
            parked=sum(parked.values()),
            free=max_calls,
        )
        await _provision_peer(ready)
        await system.until_warm()
        yield system


@asynccontextmanager
async def _application(folder: Path, settings: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "tests.e2e.system_process", str(SCENARIO))
    environ = clean_environ() | _SETTINGS | settings
    pipe = asyncio.subprocess.PIPE
    with (folder / ERRORS).open("wb") as log:
        # Ray lets a process live for 3 s after a SIGTERM, which is too short to stop everything.
        ask_by = signal.SIGINT
        async with own_process(*command, environ=environ, ask_by=ask_by, stdout=pipe, stderr=log) as process:
            yield process


@asynccontextmanager
async def own_process(
    *command: str, environ: dict[str, str], ask_by: signal.Signals = signal.SIGTERM, **streams: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a session of its own; at the end it is asked to stop, then it and its children are made to."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=ROOT, start_new_session=True, limit=2**22, **streams
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(ask_by)
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _ready(process: asyncio.subprocess.Process, errors: Path) -> Json:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if line.startswith(b'{"url"'):
            ready: Json = json.loads(line)
            return ready
    said = await asyncio.to_thread(errors.read_text, errors="replace")
    raise RuntimeError(f"the system ended before it was ready:\n{said[-4000:]}")


@asynccontextmanager
async def _clients(
    ready: Json,
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient, httpx2.AsyncClient, LiveKitAPI]]:
    options: dict[str, Any] = {"trust_env": False, "timeout": 150, "limits": httpx2.Limits(max_connections=200)}
    headers = {"Authorization": f"Bearer {ready['key']}"}
    async with (
        httpx2.AsyncClient(base_url=ready["url"], headers=headers, **options) as ours,
        httpx2.AsyncClient(base_url=ready["carrier"], **options) as carrier,
        httpx2.AsyncClient(base_url=ready["meter"], **options) as meter,
        LiveKitAPI(*_keys(ready)) as livekit,
    ):
        yield ours, carrier, meter, livekit


def _keys(ready: Json) -> tuple[str, str, str]:
    environ = ready["environ"]
    return environ["LIVEKIT_URL"], environ["LIVEKIT_API_KEY"], environ["LIVEKIT_API_SECRET"]


async def _provision_peer(ready: Json) -> None:
    """The peer's own number, whose callers are sent to the peer's agent."""
    _, *keys = _keys(ready)
    async with LiveKitAPI(ready["carrier"], *keys) as client:
        sip: SipService = client.sip
        trunk = pb.SIPInboundTrunkInfo(name=PEER_NAME, numbers=[PEER_NUMBER])
        trunk.ringing_timeout.FromSeconds(RINGING_S)
        made = await sip.create_inbound_trunk(pb.CreateSIPInboundTrunkRequest(trunk=trunk))
        individual = pb.SIPDispatchRuleIndividual(room_prefix="peer-")
        rule = pb.CreateSIPDispatchRuleRequest(
            name=PEER_NAME,
            trunk_ids=[made.sip_trunk_id],
            rule=pb.SIPDispatchRule(dispatch_rule_individual=individual),
            room_config=RoomConfiguration(agents=[RoomAgentDispatch(agent_name=PEER_NAME)]),
        )
        await sip.create_dispatch_rule(rule)
