"""A campaign over the whole system: `python -m tests.campaign.phones [--contacts N] [--kills N] [--no-media]`.

The job is a process in a real Ray cluster, the phones ring in rooms of a real livekit-server. Both the job and
`BudgetPool` may be killed again and again meanwhile. What is reported is held against the carrier's own log.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, Final

from cluster.campaign.states import State
from cluster.campaign.store import CampaignStore
from cluster.storage import open_engine
from tests.e2e.conftest import System, budget_pool_process, joined, running_system
from tests.e2e.test_campaigns import progress, start
from tests.fixtures.campaign import around_the_clock

CONCURRENCY, CALLS_PER_SECOND = 6, 5.0
FILE = around_the_clock("phones", calls_per_second=CALLS_PER_SECOND, concurrency=CONCURRENCY, most_calls=2, busy="1s")
TALK: Final[Mapping[str, list[str]]] = {
    "0101": ["success/agent-ended"],
    "0202": ["success/caller-hung-up"],
    "0408": ["caller/no-answer"],
}
"""What comes of calling a number that ends so."""
REFUSE: Final[Mapping[str, list[str]]] = {
    "0486": ["caller/busy", "caller/busy"],
    "0603": ["caller/declined"],
    "0404": ["caller/number-not-found"],
}
"""The same, without a word: no media but the agent's own."""
AREAS: Final = (212, 312, 415, 617, 713)
PAUSE_S: Final = (2.0, 9.0)
"""Between two kills."""


def numbers(endings: Mapping[str, list[str]], contacts: int) -> Iterator[str]:
    """So many numbers, of each ending as many."""
    places = (f"+1{area}{exchange}" for exchange, area in product(range(200, 1_000), AREAS))
    return islice((place + ending for place, ending in zip(places, cycle(endings), strict=False)), contacts)


def kill_both(system: System, folder: Path, kills: int, dice: random.Random) -> subprocess.Popen[str]:
    """Start the job, kill it and `BudgetPool` so many times in all, and return the one that runs."""
    job = start(system, folder)
    for number in range(kills):
        time.sleep(dice.uniform(*PAUSE_S))
        if job.poll() is not None:
            break
        if number % 2:
            with suppress(ProcessLookupError):
                os.kill(budget_pool_process(), signal.SIGKILL)
        else:
            job.kill()
            job.communicate()
            job = start(system, folder)
    return job


def broken(report: list[dict[str, Any]], calls: list[dict[str, Any]], endings: Mapping[str, list[str]]) -> list[str]:
    """What the report says and the carrier does not, and what should not have happened at all."""
    rang = Counter(call["number"] for call in calls)
    wrong = []
    for row in report:
        number, outcomes, expected = row["number"], row["outcomes"], endings[row["number"][-4:]]
        is_known = row["state"] != State.UNKNOWN
        if is_known and outcomes != expected:
            wrong.append(f"{number}: {outcomes} instead of {expected}")
        if rang[number] > len(expected) or (is_known and rang[number] != len(outcomes)):
            wrong.append(f"{number}: rang {rang[number]} times, reported {outcomes}")
    return wrong


def main() -> int:
    """0 if the report adds up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=40)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--no-media", action="store_true", help="only phones that refuse the call")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    endings = REFUSE if options.no_media else {**TALK, **REFUSE}
    began = time.monotonic()
    settings = {"RINGMASTER_MAX_CALLS": "8", "RINGMASTER_PARKED": "reminder=6"}
    with (
        tempfile.TemporaryDirectory(prefix="ringmaster-phones-") as home,
        running_system(None, settings, 6, 8) as system,
        joined(system),
    ):
        folder = Path(home)
        rows = [f"Sam,{number},tomorrow at nine" for number in numbers(endings, options.contacts)]
        (folder / "contacts.csv").write_text("\n".join(["first,phone,when", *rows]), encoding="utf-8")
        (folder / "campaign.yaml").write_text(FILE, encoding="utf-8")
        job = kill_both(system, folder, options.kills, random.Random(options.seed))  # noqa: S311 - the same again
        last = progress(job)[-1]
        engine = open_engine(system.settings().database_url)
        report = list(CampaignStore(engine).report("phones"))
        engine.dispose()
        wrong = broken(report, system.carrier.get("/_calls").json()["calls"], endings)
        if len(report) != options.contacts:
            wrong.append(f"{len(report)} contacts reported of {options.contacts}")
        if round(last["spent_usd"] * 1_000_000) != sum(row["cost_usd_micros"] for row in report):
            wrong.append("the money of the job and of its report differ")
    for line in (f"{last}", *wrong, f"{time.monotonic() - began:.0f} s: {len(wrong)} rules broken"):
        print(line)  # noqa: T201 a command's output
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
