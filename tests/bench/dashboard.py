"""`python -m tests.bench.dashboard`: what the dashboard costs, and how late it is, while 500 calls go on.

The calls have no media: one Ray actor tells of them what `BudgetPool` and `Records` would, as often as real calls do.
The dashboard runs in a Ray actor of its own, so its CPU is the process's, with Ray's part of asking. A browser is a
client of the stream; an update's delay is from the event until the row with it has arrived.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from statistics import median, quantiles
from typing import Any, Final

import ray

from actors.control_plane import Remote
from cluster.dashboard.session import COOKIE
from cluster.messages import CallEvent
from cluster.records.board import Board
from tests.dashboard.site import build_site, served
from tests.dispatch.doubles import KEY, PRINCIPALS, RoomsDouble
from tests.dispatch.test_api import make_front

CALLS: Final = 500
PERIOD_S: Final = 2.0
"""Each call speaks a piece of a sentence, and its heartbeat changes its cost, once in so long."""
MEASURED_S: Final = 20.0
WARM_UP_S: Final = 5.0
SENT: Final = re.compile(rb"sent at ([0-9.]+)")


class House:
    """500 calls that go on, as the two control actors tell of them."""

    def __init__(self) -> None:
        self._board = Board(time.time_ns() // 1000)
        self._live = {f"call_{n:03}": self._call(n) for n in range(CALLS)}
        self._talking = asyncio.get_running_loop().create_task(self._talk_for_ever())

    def _call(self, number: int) -> dict[str, Any]:
        return {
            "call_id": f"call_{number:03}",
            "tenant": "acme",
            "state": "answered",
            "direction": "inbound",
            "profile": "receptionist",
            "number": f"+*********{number % 100:02}",
            "started_at": time.time(),
            "duration_s": 0.0,
            "talk_s": 0.0,
            "cost_usd_micros": 0,
            "charges_usd_micros": {"model": 0, "trunk": 0},
            "reserved_usd_micros": 50_000,
            "slot": f"call-slot-0123abcd-{number}",
        }

    async def _talk_for_ever(self) -> None:
        turn = 0
        while True:
            for call_id, call in self._live.items():
                text = f"We are open from eight to two, and this was sent at {time.time():.3f}"
                fields = {"who": "agent" if turn % 2 else "caller", "text": text}
                self._board.note(call_id, [CallEvent(call_id=call_id, kind="line", at_s=0.0, fields=fields)])
                call["cost_usd_micros"] += 53
                await asyncio.sleep(PERIOD_S / CALLS)
            turn += 1

    async def live_calls(self, _tenant: str | None) -> list[dict[str, Any]]:
        """As `BudgetPool`."""
        return list(self._live.values())

    async def authenticate(self, _digest: str) -> Any:
        """As `BudgetPool`; one key is as good as another."""
        return PRINCIPALS[KEY]

    async def standings(self, version: int) -> list[dict[str, Any]]:
        """As `Records`."""
        return self._board.since(version)


class Dashboard:
    """The application's pages, in a process of their own."""

    def __init__(self, house: Any) -> None:
        port: Any = Remote(lambda: house)
        rooms: Any = RoomsDouble()
        self._app = build_site(make_front(port, port, rooms, rooms))
        self._serving = served(self._app)

    async def open(self) -> str:
        """Serve; returns the URL."""
        return await self._serving.__aenter__()

    def cpu_s(self) -> float:
        """Seconds of CPU that this process has used."""
        times = os.times()
        return times.user + times.system


class Browser:
    """Follows the live calls."""

    def __init__(self, url: str) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self.delays_s: list[float] = []

    async def _ask(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._host, int(self._port), limit=1 << 24)
        writer.write(f"{request}\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode())
        return reader, writer

    async def watch(self) -> None:
        """Log in and look, until cancelled."""
        origin = f"http://{self._host}:{self._port}"
        head = f"Host: {self._host}:{self._port}\nOrigin: {origin}\n"
        reader, writer = await self._ask(f"POST /login HTTP/1.1\n{head}Content-Length: {len(KEY) + 4}\n\nkey={KEY}")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        cookie = re.search(rf"{COOKIE}=[^;]+".encode(), answer)
        assert cookie is not None, answer
        reader, writer = await self._ask(f"GET /live HTTP/1.1\n{head}Cookie: {cookie[0].decode()}\n")
        try:
            while line := await reader.readline():
                now = time.time()
                self.delays_s += [now - float(sent) for sent in SENT.findall(line)]
        finally:
            writer.close()


async def measure(url: str, dashboard: Any, browsers: int) -> str:
    """One line: what so many browsers cost, and how late they are."""
    watching = [Browser(url) for _ in range(browsers)]
    tasks = [asyncio.create_task(browser.watch()) for browser in watching]
    await asyncio.sleep(WARM_UP_S)
    for browser in watching:
        browser.delays_s.clear()
    before, began = await dashboard.cpu_s.remote(), time.monotonic()
    await asyncio.sleep(MEASURED_S)
    used = (await dashboard.cpu_s.remote() - before) / (time.monotonic() - began)
    delays = sorted(delay for browser in watching for delay in browser.delays_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    percentile = quantiles(delays, n=100)
    figures = f"p50 {median(delays):.2f} s, p99 {percentile[98]:.2f} s, longest {delays[-1]:.2f} s"
    rows_per_s = len(delays) / browsers / MEASURED_S
    return f"{browsers:>2} browsers: {used:.1%} of a core, {rows_per_s:.0f} rows/s each; {figures}"


async def main() -> None:
    """Measure with one browser, and with ten."""
    house: Any = ray.remote(House).options(num_cpus=0).remote()
    dashboard: Any = ray.remote(Dashboard).options(num_cpus=0).remote(house)
    url = await dashboard.open.remote()
    for browsers in (1, 10):
        sys.stdout.write(f"{CALLS} live calls, {await measure(url, dashboard, browsers)}\n")


if __name__ == "__main__":
    os.environ.update({"RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"})
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    asyncio.run(main())
