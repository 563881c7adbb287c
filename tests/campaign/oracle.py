"""What a campaign may do, said a second time, from the outside: by the carrier's log and its file."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol
from zoneinfo import ZoneInfo


class Seen(Protocol):
    """A call, as the carrier saw it. Times are UTC seconds."""

    @property
    def number(self) -> str:
        """Who was called."""

    @property
    def call_id(self) -> str:
        """Ours."""

    @property
    def at(self) -> float:
        """When the phone was dialled."""

    @property
    def ended_at(self) -> float:
        """When that was over."""

    @property
    def outcome(self) -> str:
        """What came of it."""


@dataclass(frozen=True)
class Rules:
    """What the campaign's file says, written down once more by the test."""

    zones: Mapping[str, str]
    """Of every number that may be called."""
    opens: str
    closes: str
    """Clock times, on weekdays or every day."""
    waits_s: Mapping[str, Sequence[float]]
    most_calls: int
    concurrency: int
    calls_per_second: float
    every_day: bool = False


def broken(seen: Iterable[Seen], rules: Rules, slack_s: float = 1e-6) -> list[str]:
    """Every rule that was broken. `slack_s`: how long a message may take from the driver to the phone."""
    calls = sorted(seen, key=lambda call: call.at)
    wrong = [f"{call_id} was dialled {n} times" for call_id, n in Counter(c.call_id for c in calls).items() if n > 1]
    by_number: dict[str, list[Seen]] = defaultdict(list)
    for call in calls:
        by_number[call.number].append(call)
        zone = rules.zones.get(call.number)
        if zone is None:
            wrong.append("somebody was called who is no contact")
            continue
        local = datetime.fromtimestamp(call.at, ZoneInfo(zone))
        weekend = local.isoweekday() > 5 and not rules.every_day
        if weekend or not rules.opens <= local.strftime("%H:%M") < rules.closes:
            wrong.append(f"a call at {local:%a %H:%M} in {zone}")
    for attempts in by_number.values():
        wrong += _broken_retries(attempts, rules, slack_s)
    return wrong + _broken_pace(calls, rules, slack_s)


def _broken_pace(calls: Sequence[Seen], rules: Rules, slack_s: float) -> list[str]:
    wrong = []
    edges = sorted([(call.at, 1) for call in calls] + [(call.ended_at, -1) for call in calls])
    at_once = 0
    for at, change in edges:
        at_once += change
        if at_once > rules.concurrency:
            wrong.append(f"{at_once} calls at once at {at}")
    ahead_s = -math.inf
    for nth, call in enumerate(calls):
        late_s = call.at - nth / rules.calls_per_second
        if late_s < ahead_s - slack_s:
            wrong.append(f"calls came {ahead_s - late_s:.3f} s faster than {rules.calls_per_second} a second")
        ahead_s = max(ahead_s, late_s)
    return wrong


def _broken_retries(attempts: Sequence[Seen], rules: Rules, slack_s: float) -> list[str]:
    wrong = []
    if len(attempts) > rules.most_calls:
        wrong.append(f"{len(attempts)} calls to one contact")
    for nth, (last, call) in enumerate(pairwise(attempts), start=1):
        waits = rules.waits_s.get(last.outcome, ())
        before = sum(earlier.outcome == last.outcome for earlier in attempts[:nth])
        if before > len(waits):
            wrong.append(f"called again after {last.outcome}, {before} times")
        elif call.at < last.ended_at + waits[before - 1] - slack_s:
            wrong.append(f"called again {call.at - last.ended_at:.0f} s after {last.outcome}")
    return wrong


def adds_up(seen: Iterable[Seen], report: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where the campaign's own report differs from what the carrier saw. Who is parked may have a call more."""
    calls: dict[str, list[Seen]] = defaultdict(list)
    for call in sorted(seen, key=lambda call: call.at):
        calls[call.number].append(call)
    wrong = []
    for row in report:
        mine = [call.outcome for call in calls.pop(row["number"], [])]
        parked = row["state"] == "unknown"
        if row["outcomes"] != mine and not (parked and row["outcomes"] == mine[:-1]):
            wrong.append(f"line {row['line']}: reported {row['outcomes']}, was {mine}")
        if row["state"] not in {"done", "unknown"}:
            wrong.append(f"line {row['line']} is {row['state']}")
    return wrong + [f"{len(more)} calls to nobody" for more in calls.values()]
