"""`ringmaster demo`: the whole system on this machine, with one inbound and one outbound call side by side.

It is a user like any other: it starts the embedded stack, sets the environment variables that lead to it, runs `up`,
and then only talks to the HTTP API.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from actors import up
from cluster.dispatch.requests import DEFAULT_TENANT
from cluster.keys import create_key
from cluster.local.stack import NUMBER, LocalStack, local_stack
from cluster.logs import configure_logging
from cluster.settings import load_settings
from cluster.storage import open_engine, upgrade

INBOUND_FROM = "+14155550101"
OUTBOUND_TO = "+14155550102"
CALLS_WITHIN_S = 150
READY_WITHIN_S = 120
PARKED = 2
REFRESH_S = 0.25
WIDTH = 58


@dataclass(slots=True)
class Shown:
    """One call as the demo shows it."""

    title: str
    call_id: str = ""
    call: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """It has its record."""
        return self.call.get("state") == "ended"

    @property
    def succeeded(self) -> bool:
        """It ended as a call should, with words of both sides."""
        said = {line["who"] for line in self.call.get("transcript", [])}
        return self.ended and self.call["outcome"]["result"] == "success" and said == {"caller", "agent"}


def run() -> int:
    """Run the demo; returns the exit code: 0 if both calls went right."""
    return asyncio.run(_run(Console()))


async def _run(console: Console) -> int:
    with tempfile.TemporaryDirectory(prefix="ringmaster-demo-") as folder:
        port = int(os.environ.get("RINGMASTER_HTTP_PORT") or free_port())
        webhook_url = f"http://127.0.0.1:{port}/livekit/webhook"
        with console.status("starting") as status:
            async with local_stack(Path(folder), webhook_url=webhook_url, progress=status.update) as stack:
                key = configure(stack, Path(folder), port)
                status.update("starting Ray and the application")
                # In this thread, though it blocks: Ray wants to set signal handlers.
                url = up.start(load_settings())
                try:
                    async with httpx2.AsyncClient(
                        base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
                    ) as api:
                        status.update("warming call actors")
                        await _wait_until_warm(api)
                        status.stop()
                        return await _show(console, api, stack, url, key)
                finally:
                    await asyncio.to_thread(up.stop)


def configure(stack: LocalStack, folder: Path, port: int) -> str:
    """Set the variables that lead Ringmaster to the embedded stack; returns an API key."""
    os.environ.update(stack.environ)
    os.environ["RINGMASTER_STATE_DIR"] = str(folder)
    os.environ["RINGMASTER_HTTP_PORT"] = str(port)
    os.environ.setdefault("RINGMASTER_PARKED", "receptionist=1,reminder=1")
    os.environ.setdefault("RINGMASTER_LOG_LEVEL", "error")
    configure_logging(load_settings())
    engine = open_engine(load_settings().database_url)
    upgrade(engine)
    return create_key(engine, tenant=DEFAULT_TENANT, scopes=("calls", "admin"))


async def _wait_until_warm(api: httpx2.AsyncClient) -> None:
    """Both calls find a parked actor: what a phone system in service looks like."""
    async with asyncio.timeout(READY_WITHIN_S):
        while (await api.get("/readyz")).json().get("parked", 0) < PARKED:  # noqa: ASYNC110 - polled over HTTP
            await asyncio.sleep(REFRESH_S)


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _show(console: Console, api: httpx2.AsyncClient, stack: LocalStack, url: str, key: str) -> int:
    inbound = Shown(f"inbound call from {INBOUND_FROM}")
    outbound = Shown(f"outbound call to {OUTBOUND_TO}")
    async with httpx2.AsyncClient(base_url=stack.carrier_url, trust_env=False) as carrier:
        outbound.call_id = await _dial(api)
        ringing = await carrier.post("/_calls", json={"from": INBOUND_FROM, "to": NUMBER, "script": "receptionist"})
        ringing.raise_for_status()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            started = time.monotonic()
            while not (inbound.ended and outbound.ended) and time.monotonic() - started < CALLS_WITHIN_S:
                await _refresh(api, inbound, outbound)
                live.update(Columns([_panel(inbound), _panel(outbound)]), refresh=True)
                await asyncio.sleep(REFRESH_S)
        phones = (await carrier.get("/_calls")).json()["calls"]
    console.print(Columns([_panel(inbound), _panel(outbound)]))
    console.print(_records(inbound, outbound))
    went_right = _went_right(console, inbound, phones) & _went_right(console, outbound, phones)
    console.print(f"dashboard:         {url}/")
    console.print(f"API documentation: {url}/docs")
    console.print(f"key for both:      {key}", soft_wrap=True)
    if sys.stdin.isatty() and console.is_terminal:
        console.print("Ctrl-C ends the demo.")
        await _until_interrupted()
    return 0 if went_right else 1


async def _until_interrupted() -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


async def _dial(api: httpx2.AsyncClient) -> str:
    context = {"name": "Sam", "when": "tomorrow morning at nine"}
    answer = await api.post(
        "/v1/calls",
        json={"to": OUTBOUND_TO, "from": NUMBER, "profile": "reminder", "context": context},
        headers={"Idempotency-Key": "demo"},
    )
    answer.raise_for_status()
    return str(answer.json()["call_id"])


async def _refresh(api: httpx2.AsyncClient, inbound: Shown, outbound: Shown) -> None:
    if not inbound.call_id:
        calls = (await api.get("/v1/calls")).json()["calls"]
        inbound.call_id = next((call["call_id"] for call in calls if call["direction"] == "inbound"), "")
    for shown in (inbound, outbound):
        if shown.call_id:
            shown.call = (await api.get(f"/v1/calls/{shown.call_id}")).json()


def _went_right(console: Console, shown: Shown, phones: list[dict[str, Any]]) -> bool:
    """The call ended well, and the phone understood every line that the agent says it said to the end."""
    phone: dict[str, Any] = next((p for p in phones if p["direction"] == shown.call.get("direction")), {"lines": []})
    understood = [line["text"] for line in phone["lines"] if line["who"] == "agent"]
    said = [line["text"] for line in shown.call.get("transcript", []) if line["who"] == "agent" and line["heard"]]
    heard = [_words(text) for text in understood]
    matches = shown.succeeded and bool(said) and all(_words(text) in heard for text in said)
    verdict = "went right" if matches else "went wrong"
    console.print(f"{shown.title} {verdict}. The phone understood:", style="" if matches else "red")
    for text in understood:
        console.print(f"  {text}", style="dim")
    return matches


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _panel(shown: Shown) -> Panel:
    call = shown.call
    lines = [
        Text(
            f"{line['who']:>6}  {line['text']}{'' if line['heard'] else ' …'}",
            style="cyan" if line["who"] == "agent" else "",
        )
        for line in call.get("transcript", [])
    ]
    cost = call.get("cost", {}).get("usd", 0.0)
    answer_ms = call.get("timings_ms", {}).get("turn_p50")
    footer = f"{call.get('state', 'starting')}, ${cost:.4f}" + (f", answers in {answer_ms:.0f} ms" if answer_ms else "")
    return Panel(Group(*lines), title=shown.title, subtitle=footer, width=WIDTH)


def _records(*calls: Shown) -> Table:
    table = Table(title="records")
    for column in ("direction", "outcome", "duration", "cost", "in the room", "first sound", "answers in"):
        table.add_column(column, no_wrap=True)
    for shown in calls:
        call, timings = shown.call, shown.call.get("timings_ms", {})
        outcome = call.get("outcome") or {"result": "-", "reason": "-"}
        table.add_row(
            call.get("direction", "-"),
            f"{outcome['result']}/{outcome['reason']}",
            f"{call.get('duration_s') or 0:.1f} s",
            f"${call.get('cost', {}).get('usd', 0.0):.4f}",
            *(f"{timings[n]:.0f} ms" if n in timings else "-" for n in ("joined", "first_audio_p50", "turn_p50")),
        )
    return table
