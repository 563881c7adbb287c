"""When a contact may be called: in the hours that the campaign allows, on the contact's own clock. Pure.

Rules of this file:
1. Seconds are UTC seconds since the epoch; minutes are those of a local day, and spans are half-open.
2. A contact has every time zone that its number may belong to, and is called only while the hours fit in all of them.
   No zone at all means never.
3. `is_open` is the law and reads the wall clock. `next_open` follows from it: it looks at every moment at which the
   answer can change, the change of daylight saving time among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_number

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HORIZON_DAYS: Final = 32
"""How far `next_open` looks: hours repeat every week, so only a long list of closed days reaches further."""
MINUTES_PER_DAY: Final = 1440
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-5][0-9])")
_GRID: Final = timedelta(minutes=30)
"""Clocks change on full or half hours of UTC, everywhere."""

Span = tuple[int, int]
Zones = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hours:
    """The open spans of each weekday, Monday first, and the dates on which nobody is called."""

    week: tuple[tuple[Span, ...], ...]
    closed: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `opens_at` to just before `closes_at` calls may be placed."""

    opens_at: float
    closes_at: float


def parse_days(text: str) -> tuple[int, ...]:
    """`mon`, or `mon-fri`, as numbers from 0 for Monday. Raises `ValueError`."""
    first, separator, last = text.partition("-")
    if first not in DAYS or (separator and last not in DAYS):
        raise ValueError(f"is not a day or a range of days; write {', '.join(DAYS)}, or mon-fri")
    start, end = DAYS.index(first), DAYS.index(last or first)
    if end < start:
        raise ValueError("ends before it begins; write the days of the two weeks one by one")
    return tuple(range(start, end + 1))


def parse_span(text: str) -> Span:
    """`09:00-20:00` as minutes of the day; 24:00 is the end of it. Raises `ValueError`."""
    start, _, end = text.partition("-")
    first, last = _minute(start.strip()), _minute(end.strip())
    if first is None or last is None or first >= last:
        raise ValueError("is no span of a day; write it as 09:00-20:00, and what passes midnight as two")
    return first, last


def parse_hours(by_days: Mapping[str, tuple[str, ...]], closed: frozenset[date]) -> Hours:
    """The hours of a campaign's file: spans by day or range of days. Raises `ValueError`."""
    week: list[set[Span]] = [set() for _ in DAYS]
    for days, spans in by_days.items():
        for day in parse_days(days):
            week[day].update(map(parse_span, spans))
    return Hours(tuple(tuple(sorted(spans)) for spans in week), closed)


def zones_of(number: str) -> Zones:
    """The time zones that an E.164 number may be in, as libphonenumber knows them; none where it does not."""
    zones: Zones = tuple(time_zones_for_number(phonenumbers.parse(number, None)))
    return zones if UNKNOWN_TIMEZONE not in zones and all(map(is_zone, zones)) else ()


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


def _minute(text: str) -> int | None:
    clock = _CLOCK.fullmatch(text)
    found = int(clock[1]) * 60 + int(clock[2]) if clock else MINUTES_PER_DAY + 1
    return found if found <= MINUTES_PER_DAY else None


def _is_open_in(hours: Hours, zone: str, at: float) -> bool:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    return local.date() not in hours.closed and any(a <= minute < b for a, b in hours.week[local.weekday()])


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
    for span in hours.week[day.weekday()]:
        for minute in span:
            moment = midnight + timedelta(minutes=minute)
            yield from (moment.timestamp(), moment.replace(fold=1).timestamp())
