"""When a contact may be called: in the hours that the campaign allows, on the contact's own clock. Pure.

Rules of this file:
1. Seconds are UTC seconds since the epoch.
2. A contact has every time zone that its number may belong to, and is called only while the hours fit in all of them.
   No zone at all means never.
3. `is_open` is the law and reads the wall clock. `next_open` follows from it: it looks at every moment at which the
   answer can change, the change of daylight saving time among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cluster.telephony import hours as telephony

HORIZON_DAYS: Final = 32
"""How far `next_open` looks: hours repeat every week, so only a long list of closed days reaches further."""
_GRID: Final = timedelta(minutes=30)
"""Clocks change on full or half hours of UTC, everywhere."""

Zones = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of every week, and the dates on which nobody is called."""

    week: telephony.Hours
    closed: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `opens_at` to just before `closes_at` calls may be placed."""

    opens_at: float
    closes_at: float


def zones_of(number: str) -> Zones:
    """The time zones that an E.164 number may be in; none where they are not known."""
    return tuple(zone.key for zone in telephony.zones_of(number))


def is_zone(name: str) -> bool:
    """Whether it is a name of the time zone database, such as Europe/Berlin, and this machine has it."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_open(hours: Hours, zones: Zones, at: float) -> bool:
    """Whether a contact in these zones may be called at `at`."""
    return bool(zones) and all(_is_open_in(hours, zone, at) for zone in zones)


def next_open(hours: Hours, zones: Zones, at: float) -> Stretch | None:
    """The first open stretch that is not over at `at`; None if there is none within a month."""
    today = datetime.fromtimestamp(at, UTC).date()
    return next((stretch for stretch in _stretches(hours, zones, today) if stretch.closes_at > at), None)


def _is_open_in(hours: Hours, zone: str, at: float) -> bool:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    return local.date() not in hours.closed and hours.week.are_open(local)


@lru_cache(maxsize=4096)
def _stretches(hours: Hours, zones: Zones, today: date) -> tuple[Stretch, ...]:
    """What is open from the day before `today` (UTC) on, in order."""
    days = [today + timedelta(days=day) for day in range(-1, HORIZON_DAYS)]
    edges = {edge for zone in zones for day in days for edge in _edges(hours, ZoneInfo(zone), day)}
    found: list[Stretch] = []
    for start, end in pairwise(sorted(edges)):
        if not is_open(hours, zones, start):
            continue
        if found and found[-1].closes_at == start:
            start = found.pop().opens_at  # noqa: PLW2901 they are one
        found.append(Stretch(start, end))
    return tuple(found)


def _edges(hours: Hours, zone: ZoneInfo, day: date) -> Iterator[float]:
    """The moments of a local day at which the answer can change."""
    midnight = datetime.combine(day, time(), zone)
    end = datetime.combine(day + timedelta(days=1), time(), zone)
    if midnight.utcoffset() != end.utcoffset():
        grid = midnight.astimezone(UTC)
        while grid < end:
            yield grid.timestamp()
            grid += _GRID
    for span in hours.week.windows[day.weekday()]:
        for minute in span:
            moment = midnight + timedelta(minutes=minute)
            yield from (moment.timestamp(), moment.replace(fold=1).timestamp())
