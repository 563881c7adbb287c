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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, Final

from cluster.campaign.states import State
from cluster.campaign.store import CampaignStore
from cluster.storage import open_engine
from tests.campaign import oracle
from tests.e2e.conftest import System, budget_pool_process, joined, running_system
from tests.e2e.test_campaigns import progress, start
from tests.fixtures.campaign import around_the_clock

CONCURRENCY, CALLS_PER_SECOND = 6, 5.0
FILE = around_the_clock("phones", calls_per_second=CALLS_PER_SECOND, concurrency=CONCURRENCY, most_calls=2, busy="1s")
REFUSE: Final[Mapping[str, list[str]]] = {
    "0486": ["caller/busy", "caller/busy"],
    "0603": ["caller/declined"],
    "0404": ["caller/number-not-found"],
}
"""What comes of calling a number that ends so, without a word."""
ANSWER: Final[Mapping[str, list[str]]] = {
    "0101": ["success/agent-ended"],
    "0202": ["success/caller-hung-up"],
    "0408": ["caller/no-answer"],
}
"""The same, with somebody or nobody at the phone."""
OUTCOMES: Final[Mapping[tuple[int, str | None], str]] = {
    (200, "room-deleted"): "success/agent-ended",
    (200, "phone-hung-up"): "success/caller-hung-up",
    (487, "unanswered"): "caller/no-answer",
    (486, "refused"): "caller/busy",
    (603, "refused"): "caller/declined",
    (404, "refused"): "caller/number-not-found",
}
"""What the carrier saw, in the words of the report."""
AREAS: Final = {
    212: "America/New_York",
    312: "America/Chicago",
    415: "America/Los_Angeles",
    617: "America/New_York",
    713: "America/Chicago",
}
SLACK_S: Final = 1.0
"""Ringmaster and the phones share two cores: how long a call may be on its way to the carrier."""
PAUSE_S: Final = (2.0, 9.0)
"""Between two kills."""


@dataclass(frozen=True)
class Seen:
    """A call, as the carrier's log has it. Times are UTC seconds."""

    number: str
    call_id: str
    at: float
    ended_at: float
    outcome: str

    @classmethod
    def of(cls, log: Mapping[str, Any]) -> Seen:
        """Of one entry of the log; every attempt has a room of its own."""
        how = (log["sip_status"], log["ending"])
        return cls(
            number=log["number"],
            call_id=log["room"],
            at=log["started_at"],
            ended_at=log["started_at"] + log["ended_s"],
            outcome=OUTCOMES.get(how, f"{how}"),
        )


def numbers(endings: Iterable[str], contacts: int) -> Mapping[str, str]:
    """So many numbers, of each ending as many, and their time zones."""
    places = ((f"+1{area}{exchange}", zone) for exchange, (area, zone) in product(range(200, 1_000), AREAS.items()))
    return {place + ending: zone for (place, zone), ending in islice(zip(places, cycle(endings)), contacts)}


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


def rules_for(zones: Mapping[str, str]) -> oracle.Rules:
    """What `FILE` says."""
    return oracle.Rules(
        zones=zones,
        opens="00:00",
        closes="24:00",
        every_day=True,
        waits_s={"caller/busy": (1.0,)},
        most_calls=2,
        concurrency=CONCURRENCY,
        calls_per_second=CALLS_PER_SECOND,
    )


def main() -> int:
    """0 if the report adds up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=40)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--no-media", action="store_true", help="only phones that refuse the call")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    endings = REFUSE if options.no_media else {**ANSWER, **REFUSE}
    zones = numbers(endings, options.contacts)
    began = time.monotonic()
    settings = {"RINGMASTER_MAX_CALLS": "8", "RINGMASTER_PARKED": "reminder=6"}
    with (
        tempfile.TemporaryDirectory(prefix="ringmaster-phones-") as home,
        running_system(None, settings, 6, 8) as system,
        joined(system),
    ):
        folder = Path(home)
        rows = [f"Sam,{number},tomorrow at nine" for number in zones]
        (folder / "contacts.csv").write_text("\n".join(["first,phone,when", *rows]), encoding="utf-8")
        (folder / "campaign.yaml").write_text(FILE, encoding="utf-8")
        job = kill_both(system, folder, options.kills, random.Random(options.seed))  # noqa: S311 - the same again
        last = progress(job)[-1]
        engine = open_engine(system.settings().database_url)
        report = list(CampaignStore(engine).report("phones"))
        engine.dispose()
        seen = [Seen.of(log) for log in system.carrier.get("/_calls").json()["calls"]]
        wrong = oracle.broken(seen, rules_for(zones), SLACK_S) + oracle.adds_up(seen, report)
        known = (row for row in report if row["state"] != State.UNKNOWN)
        wrong += [
            f"{row['number']}: {row['outcomes']}" for row in known if row["outcomes"] != endings[row["number"][-4:]]
        ]
        if len(report) != options.contacts:
            wrong.append(f"{len(report)} contacts reported of {options.contacts}")
        if round(last["spent_usd"] * 1_000_000) != sum(row["cost_usd_micros"] for row in report):
            wrong.append("the money of the job and of its report differ")
    for line in (f"{last}", *wrong, f"{time.monotonic() - began:.0f} s: {len(wrong)} rules broken"):
        print(line)  # noqa: T201 a command's output
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
