"""`make chaos`: many calls, a thousand faults, and what became of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.table import Table

from cluster.local.live import LiveEndpoint
from cluster.models import load_models
from cluster.profiles import load_profiles
from tests.chaos.run import FAULTS, INSTRUCTIONS, Chaos, Tally, scenario, settings_for

PROFILE: Final = {"instructions": INSTRUCTIONS, "limits": {"idle_reminder_s": 30, "silence_s": 60}}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result."""

    what: str
    found: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it is as it has to be."""
        return self.found <= self.limit


async def run(
    at_once: int,
    seconds: float,
    faults: Sequence[dict[str, Any]],
    *,
    rounds: int = 2,
    clock_speed: float = 1.0,
    **changes: Any,
) -> tuple[Tally, int]:
    """Hold calls for that long; returns what they add up to, and how many tokens the endpoint reported."""
    with tempfile.TemporaryDirectory(prefix="ringmaster-chaos-") as folder:
        (Path(folder) / "baker.yaml").write_text(yaml.safe_dump(PROFILE), encoding="utf-8")
        async with LiveEndpoint(scenario(faults, **changes), clock_speed=clock_speed) as endpoint:
            profile = load_profiles(Path(folder), load_models())["baker"]
            tally = await Chaos(endpoint, settings_for(endpoint, folder), profile).calls(at_once, seconds, rounds)
            return tally, sum(usage.prompt + usage.response for usage in endpoint.reported.values())


def checks(tally: Tally, reported: int) -> list[Check]:
    """What has to hold."""
    return [
        Check("calls lost", len(tally.lost), 0),
        Check("questions unanswered", len(tally.unanswered), 0),
        Check("planted facts forgotten", tally.forgotten, 0),
        Check("rotation: gap, p95, ms", tally.p95(tally.rotation_gap_ms), 300),
        Check("abrupt end: agent audible again, p95, ms", tally.p95(tally.audible_ms), 2_000),
        Check("tokens: ours beside the endpoint's", abs(tally.tokens - reported), 0),
    ]


def main() -> int:
    """0 where everything holds."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--at-once", type=int, default=20, help="calls at the same time")
    parser.add_argument(
        "--seconds", type=float, default=450, help="how long new calls are begun; the last ones take 90 s"
    )
    parser.add_argument("--rounds", type=int, default=2, help="how often a call asks every question")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    began = time.monotonic()
    tally, reported = asyncio.run(run(options.at_once, options.seconds, FAULTS, rounds=options.rounds))
    found = checks(tally, reported)
    table = Table("", "found", "limit", title=f"{tally.faults.total()} faults in {tally.calls} calls")
    for check in found:
        table.add_row(check.what, f"[{'green' if check.holds else 'red'}]{check.found:g}", f"{check.limit:g}")
    console = Console()
    console.print(table)
    console.print(
        f"questions {tally.questions}, asked again by the model {tally.asked_again}, cures {dict(tally.stalls)}"
    )
    console.print(
        f"rotations {len(tally.rotation_gap_ms)}, and {len(tally.struck_gap_ms)} whose next connection failed at first:"
        f" gap p95 {tally.p95(tally.struck_gap_ms):.0f} ms"
    )
    console.print(f"faults {dict(tally.faults)}")
    console.print(f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")
    for lost in (*tally.lost, *tally.unanswered):
        console.print(f"[red]{lost}")
    if options.json:
        options.json.write_text(json.dumps({check.what: check.found for check in found}), encoding="utf-8")
    return 0 if all(check.holds for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
