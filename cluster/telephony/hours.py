"""Calling hours: when a number may be dialled, in the time of the place that it belongs to. Pure.

Rules of this file:
1. Hours are OpenStreetMap's opening hours, as far as calling hours need them: `Mo-Fr 09:00-20:00; Sa 10:00-16:00`.
2. The place follows from the number, by libphonenumber's table. A number that may be in several time zones may be
   dialled when all of them are within the hours; one whose zone nobody knows, never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import timezone

DAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_RULE: Final = re.compile(r"(?P<days>[A-Z][a-z](?:[-,][A-Z][a-z])*) (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d)")
_DAY_MINUTES: Final = 24 * 60
_UNKNOWN: Final = "Etc/Unknown"
_LOOK_AHEAD_DAYS: Final = 8
"""A week, and the rest of today: hours that open at all have opened by then."""


class HoursError(ValueError):
    """The text is not calling hours; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Minutes of the day from which and until which calls may be made, for each day of the week from Monday on."""

    windows: tuple[tuple[tuple[int, int], ...], ...]

    def are_open(self, local: datetime) -> bool:
        """Whether that local time is within the hours."""
        minute = local.hour * 60 + local.minute
        return any(begin <= minute < end for begin, end in self.windows[local.weekday()])


@lru_cache(maxsize=256)
def parse_hours(text: str) -> Hours:
    """Read hours such as `Mo-Fr 09:00-20:00; Sa 10:00-16:00`. Raises `HoursError`."""
    windows: Mapping[str, list[tuple[int, int]]] = {day: [] for day in DAYS}
    for rule in text.split(";"):
        found = _RULE.fullmatch(rule.strip())
        if found is None:
            message = f"{rule.strip()!r} is not calling hours; write them as Mo-Fr 09:00-20:00; Sa 10:00-16:00"
            raise HoursError(message)
        begin, end = _minute(found["from"]), _minute(found["to"])
        if begin >= end:
            raise HoursError(f"{rule.strip()!r} ends before it begins; calling hours do not pass midnight")
        for day in _days(found["days"]):
            windows[day].append((begin, end))
    return Hours(tuple(tuple(windows[day]) for day in DAYS))


def checked_hours(text: str) -> str:
    """The text itself, if it is hours. Raises `HoursError`."""
    parse_hours(text)
    return text


def opens_in_s(hours: Hours, number: str, utc: float) -> float | None:
    """In how many seconds the number may be dialled: 0 for now, None if its place, and so its time, is not known.

    `number` is E.164, `utc` in UTC seconds. None too for hours that its time zones never share.
    """
    zones = zones_of(number)
    if not zones:
        return None
    if _all_open(hours, zones, utc):
        return 0.0
    return next((at - utc for at in sorted(_openings(hours, zones, utc)) if _all_open(hours, zones, at)), None)


@lru_cache(maxsize=4096)
def zones_of(number: str) -> tuple[ZoneInfo, ...]:
    """The time zones that a number (E.164) may be in; none where they are not known."""
    try:
        names = timezone.time_zones_for_number(phonenumbers.parse(number, None))
        return () if _UNKNOWN in names else tuple(map(ZoneInfo, names))
    except (phonenumbers.NumberParseException, ZoneInfoNotFoundError):
        return ()


def _all_open(hours: Hours, zones: tuple[ZoneInfo, ...], utc: float) -> bool:
    return all(hours.are_open(datetime.fromtimestamp(utc, zone)) for zone in zones)


def _openings(hours: Hours, zones: tuple[ZoneInfo, ...], utc: float) -> Iterator[float]:
    """Every moment at which the hours open in one of the zones, within the next days."""
    for zone in zones:
        today = datetime.fromtimestamp(utc, zone).date()
        for day in (today + timedelta(days=ahead) for ahead in range(_LOOK_AHEAD_DAYS)):
            for begin, _ in hours.windows[day.weekday()]:
                at = datetime.combine(day, time(begin // 60, begin % 60), zone).timestamp()
                if at > utc:
                    yield at


def _minute(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    of_day = hour * 60 + minute
    if minute >= 60 or of_day > _DAY_MINUTES:  # noqa: PLR2004 an hour's minutes
        raise HoursError(f"{text} is not a time of day; it is 00:00 to 24:00")
    return of_day


def _days(text: str) -> Iterator[str]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        for day in (first, last or first):
            if day not in DAYS:
                raise HoursError(f"{day!r} is not a day; the days are {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        yield from (DAYS[place % len(DAYS)] for place in range(begin, end + 1 + (len(DAYS) if end < begin else 0)))
