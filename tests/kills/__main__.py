"""`make kills`: a hundred calls whose process is killed or frozen in the middle, and what their callers noticed."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import ray
from rich.console import Console
from rich.table import Table

from actors import names
from cluster.settings import load_settings
from tests.e2e.conftest import running_system
from tests.kills.run import MOMENTS_S, Result, take_away

SCENARIO = Path(__file__).with_name("scenario.yaml")


def p95(values: Sequence[float]) -> float:
    """The value that 95 of 100 do not pass."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)] if values else float("nan")


def show(results: Sequence[Result], limit_s: float) -> bool:
    """Draw the table; whether everything holds."""
    back = [one.back_s for one in results if one.back_s is not None]
    rows = [
        ("calls whose leg did not stay up", sum(not one.leg_up for one in results), 0.0),
        ("calls that forgot the planted fact", sum(one.leg_up and not one.remembered for one in results), 0.0),
        ("lines that stand twice", sum(len(one.doubled) for one in results), 0.0),
        ("lines lost beside the one under way", sum(max(0, len(one.missing) - 1) for one in results), 0.0),
        ("until the next process is audible, p95, s", p95(back), limit_s),
    ]
    table = Table("", "found", "limit")
    for what, found, limit in rows:
        table.add_row(what, f"{found:g}", f"{limit:g}", style="" if found <= limit else "red")
    Console().print(table)
    return all(found <= limit for _, found, limit in rows)


def main() -> int:
    """0 where everything holds."""
    parser = argparse.ArgumentParser(prog="make kills", description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--fault", choices=["kill", "freeze"], default="kill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file for the results")
    arguments = parser.parse_args()
    fault, limit_s = (signal.SIGKILL, 1.0) if arguments.fault == "kill" else (signal.SIGSTOP, 4.0)
    dice = random.Random(arguments.seed)  # noqa: S311 - the same kills again
    results: list[Result] = []
    console = Console()
    with running_system(SCENARIO) as system:
        names.connect(load_settings(system.ready["environ"] | {"RINGMASTER_RAY_ADDRESS": system.ready["ray"]}))
        try:
            for number in range(arguments.calls):
                moment = list(MOMENTS_S)[number % len(MOMENTS_S)]
                results.append(take_away(system, moment, fault, dice))
                console.print(f"{number + 1}/{arguments.calls} {asdict(results[-1])}", highlight=False)
        finally:
            ray.shutdown()
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(one) for one in results]), encoding="utf-8")
    return 0 if show(results, limit_s) else 1


if __name__ == "__main__":
    sys.exit(main())
