"""The money machine for as long as a night: `python -m tests.budget.machines [operations]`, by default a million."""

from __future__ import annotations

import sys
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.budget.money_machine import MoneyMachine

ROUND = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def main(operations: int) -> None:
    """Round after round, each with other random choices; the first failure ends it, with the shortest way to it."""
    began = time.monotonic()
    while MoneyMachine.operations < operations:
        run_state_machine_as_test(MoneyMachine, settings=ROUND)
        done, seconds = MoneyMachine.operations, time.monotonic() - began
        print(f"{done:>9,} operations, {MoneyMachine.calls:>7,} calls, {seconds:5.0f} s: no cap passed", flush=True)  # noqa: T201 - its output


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
