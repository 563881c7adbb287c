"""`make bench`: the numbers of the README on this machine, ours beside those of LiveKit Agents.

Ours are measured while the peer does not run, the peer's with our parked processes idle beside it, both with the same
phones, LiveKit server and Live endpoint. Nothing decodes speech meanwhile. Admission is measured first and alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from cluster.call import engine
from tests.bench import admission, arrivals, costs, peer, system, talk
from tests.bench.figures import Samples, show, write
from tests.bench.system import Side, System


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, which makes the samples of a few figures."""

    name: str
    measure: Callable[[System, Side, int], Awaitable[Samples]]
    with_peer: bool = False
    long: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """A system to start, and what is measured on it. `idle` is the peer's processes that wait for calls."""

    parked: dict[str, int]
    max_calls: int
    idle: int
    rows: tuple[Row, ...]


SETTINGS = (
    Setting(
        {"receptionist": 2, "reminder": 2},
        max_calls=8,
        idle=2,
        rows=(
            Row("dispatch", arrivals.dispatches, with_peer=True),
            Row("hint", arrivals.phones, with_peer=True),
            Row("outbound", arrivals.outbound),
            Row("response", talk.responses, with_peer=True),
            Row("barge-in", talk.barge_ins, with_peer=True),
            Row("resources", costs.resources, with_peer=True),
            Row("beat", costs.beat),
            Row("over-capacity", arrivals.over_capacity),
        ),
    ),
    Setting(
        {"receptionist": 12},
        max_calls=12,
        idle=12,
        rows=(
            Row("burst", arrivals.burst, with_peer=True),
            Row("eight", talk.eight_at_once, with_peer=True),
            Row("hundred", costs.hundred_calls, long=True),
        ),
    ),
)
ADMISSION = "admission"
"""The row that needs no system."""
ROW_NAMES = (ADMISSION, *(row.name for setting in SETTINGS for row in setting.rows))


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: what was asked for, and what was found so far."""

    options: argparse.Namespace
    console: Console
    ours: dict[str, Sequence[float]]
    peer: dict[str, Sequence[float]]
    failed: list[str]
    """Rows that could not be measured."""

    async def run_admission(self) -> None:
        """Measure how fast calls are admitted, if that is wanted."""
        if not self.options.only or ADMISSION in self.options.only:
            self._say(f"{ADMISSION}, load {os.getloadavg()[0]:.1f}")
            self.ours.update(await admission.decisions())

    async def run(self, setting: Setting) -> None:
        """Measure the wanted rows of one setting, the peer's after ours."""
        rows = [row for row in setting.rows if self._wanted(row)]
        if not rows:
            return
        self._say(f"starting the system with {setting.parked} parked")
        async with system.running(setting.parked, setting.max_calls) as running:
            for row in rows:
                await self._measure(row, running, running, self.ours)
            beside = [row for row in rows if row.with_peer and not self.options.no_peer]
            if not beside:
                return
            self._say("starting the peer")
            with tempfile.TemporaryDirectory(prefix="ringmaster-bench-peer-") as folder:
                async with peer.running(running, setting.idle, Path(folder), self._say) as other:
                    for row in beside:
                        await self._measure(row, running, other, self.peer)

    async def _measure(self, row: Row, running: System, side: Side, samples: dict[str, Sequence[float]]) -> None:
        self._say(f"{row.name} of {side.agent_name}, load {os.getloadavg()[0]:.1f}")
        try:
            samples.update(await row.measure(running, side, self.options.runs))
        except Exception as error:  # noqa: BLE001 - the other rows are worth having
            self.failed.append(row.name)
            self.console.print(f"[red]{row.name} of {side.agent_name}: {type(error).__name__}: {error}[/red]")

    def _wanted(self, row: Row) -> bool:
        if self.options.only:
            return row.name in self.options.only
        return self.options.long or not row.long

    def _say(self, what: str) -> None:
        self.console.print(f"[dim]{what}[/dim]")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=ROW_NAMES, help="this row; may be given several times")
    parser.add_argument("--runs", type=int, default=15, help="samples of each row that has many (default: 15)")
    parser.add_argument("--no-peer", action="store_true", help="measure ours only")
    parser.add_argument("--long", action="store_true", help="a hundred calls too, and what they leave behind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples there")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> bool:
    main = asyncio.current_task()
    assert main is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 140)
    load = os.getloadavg()[0]
    bench = Bench(options, console, {}, {}, [])
    try:
        await bench.run_admission()
        for setting in SETTINGS:
            await bench.run(setting)
    finally:
        met = show(console, bench.ours, bench.peer)
        if options.json:
            write(options.json, bench.ours, bench.peer, load)
    return met and not bench.failed


if __name__ == "__main__":
    engine.prepare()
    # With the loop that Ray gives its actors.
    sys.exit(0 if uvloop.run(_run(_options())) else 1)
