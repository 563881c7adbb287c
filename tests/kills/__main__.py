"""`make kills`: a hundred calls that lose their process in the middle, and what their callers noticed.

The fault is a process that is killed or frozen, a node whose raylet is killed, or `BudgetPool`, which no caller may
notice at all.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.e2e.conftest import System, joined, running_system
from tests.kills import budget_pool
from tests.kills.moments import MOMENTS
from tests.kills.order_book import OrderBook, order_book
from tests.kills.run import Result, Strike, freeze, kill, lose_node, take_away

SCENARIO = Path(__file__).with_name("scenario.yaml")
LIMIT_S: Final = {"kill": 1.0, "freeze": 4.0, "node": 4.0}
"""Until the next process is audible, p95."""
COLD_LIMIT_S: Final = 5.0
STRIKES: Final[Mapping[str, Strike]] = {"kill": kill, "freeze": freeze, "node": lose_node}
MAX_CALLS: Final = 8


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not pass."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)] if values else float("nan")


def judge(results: Sequence[Result], limit_s: float) -> list[tuple[str, float, float]]:
    """What was found, and the limit of each."""
    back = [one.back_s for one in results if one.back_s is not None]
    return [
        ("calls whose leg did not stay up", sum(not one.leg_up for one in results), 0.0),
        ("calls that forgot the planted fact", sum(one.leg_up and not one.remembered for one in results), 0.0),
        ("lines that stand twice", sum(len(one.doubled) for one in results), 0.0),
        ("lines lost beside the one under way", sum(max(0, len(one.missing) - 1) for one in results), 0.0),
        ("orders that were written down twice", sum(one.orders > max(1, one.asked) for one in results), 0.0),
        ("until the next process is audible, p95, s", p95(back), limit_s),
        ("longest silence in a call, p95, s", p95([one.silence_s for one in results]), limit_s + 3.5),
    ]


def show(rows: Sequence[tuple[str, float, float]]) -> bool:
    """Draw the table; whether everything holds."""
    table = Table("", "found", "limit")
    for what, found, limit in rows:
        table.add_row(what, f"{found:g}", f"{limit:g}", style="" if found <= limit else "red")
    Console().print(table)
    return all(found <= limit for _, found, limit in rows)


@contextmanager
def office(at_once: int, call_nodes: int = 0, *, cold: bool = False) -> Iterator[tuple[System, OrderBook]]:
    """The system with a warm actor for each of the calls and for whoever takes one over, and the agent's tool.

    `cold`: there is one call at a time, no actor beside it, and no room for another.
    """
    parked = {"receptionist": 1} if cold else {"receptionist": at_once + 1, "reminder": 1}
    most = 1 if cold else MAX_CALLS
    with order_book() as book, tempfile.TemporaryDirectory(prefix="ringmaster-kills-") as folder:
        book.write_profiles(Path(folder))
        given = {
            "RINGMASTER_PROFILES_DIR": folder,
            "RINGMASTER_PARKED": ",".join(f"{profile}={number}" for profile, number in parked.items()),
            "RINGMASTER_MAX_CALLS": str(most),
            "RINGMASTER_MIN_NODES": str(call_nodes or 1),
        }
        with (
            running_system(SCENARIO, given, sum(parked.values()), most, call_nodes) as system,
            joined(system),
        ):
            yield system, book


def lose_processes(options: argparse.Namespace) -> list[Result]:
    """So many calls, `at_once` of them side by side."""
    results: list[Result] = []
    console = Console()
    order = options.moment or list(MOMENTS)
    strike, call_nodes = STRIKES[options.fault], 2 if options.fault == "node" else 0

    def one(number: int) -> None:
        moment = order[number % len(order)]
        result = take_away(system, book, moment, strike, random.Random(options.seed * 1_000 + number))  # noqa: S311 - the same kills again
        results.append(result)
        console.print(f"{len(results)}/{options.calls} {asdict(result)}", highlight=False, soft_wrap=True)

    with (
        office(options.at_once, call_nodes, cold=options.cold) as (system, book),
        ThreadPoolExecutor(options.at_once) as callers,
    ):
        try:
            list(callers.map(one, range(options.calls)))
        finally:
            write(options.json, [asdict(result) for result in results])
    return results


def write(file: Path | None, content: Any) -> None:
    """What was found, for a program."""
    if file:
        file.write_text(json.dumps(content), encoding="utf-8")


def main() -> int:
    """0 where everything holds."""
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--fault", choices=[*STRIKES, "budget-pool"], default="kill")
    parser.add_argument("--calls", type=int, default=100, help="or so many kills of BudgetPool")
    parser.add_argument(
        "--moment", action="append", choices=list(MOMENTS), help="only there; may be given several times"
    )
    parser.add_argument("--at-once", type=int, default=2, help="calls side by side")
    parser.add_argument("--cold", action="store_true", help="no warm actor is there to take over; one call at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    options.at_once = 1 if options.cold else options.at_once
    if options.fault == "budget-pool":
        with office(options.at_once) as (system, _):
            report = budget_pool.kill_again_and_again(system, options.calls, options.at_once, options.seed)
            write(options.json, asdict(report))
            good = show(budget_pool.judge(report))
        return 0 if good else 1
    return 0 if show(judge(lose_processes(options), COLD_LIMIT_S if options.cold else LIMIT_S[options.fault])) else 1


if __name__ == "__main__":
    sys.exit(main())
