"""Calling hours, in the time of the place that a number belongs to."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from cluster.telephony import hours as h

BERLIN, NEW_YORK, TOLL_FREE, NOWHERE = "+4930123456", "+12125550100", "+18005550100", "+8823456789012"
WEEK = "Mo-Fr 09:00-20:00; Sa 10:00-16:00"


def at(text: str, zone: str = "Europe/Berlin") -> float:
    """A local time as UTC seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("number", "when", "opens_in_s"),
    [
        pytest.param(BERLIN, at("2026-11-24 09:00"), 0.0, id="from the first minute"),
        pytest.param(BERLIN, at("2026-11-24 08:59:30"), 30.0, id="not half a minute earlier"),
        pytest.param(BERLIN, at("2026-11-24 20:00"), 13 * 3600.0, id="until the next morning"),
        pytest.param(BERLIN, at("2026-11-28 16:00"), 41 * 3600.0, id="over Sunday"),
        pytest.param(BERLIN, at("2026-10-24 16:00"), 42 * 3600.0, id="over the night with an hour more"),
        pytest.param(NEW_YORK, at("2026-11-24 09:00"), 6 * 3600.0, id="in the callee's time, not ours"),
        pytest.param(NOWHERE, at("2026-11-24 12:00"), None, id="a satellite is nowhere"),
        pytest.param("+1", at("2026-11-24 12:00"), None, id="no number"),
    ],
)
def test_when_a_number_may_be_dialled(number: str, when: float, opens_in_s: float | None) -> None:
    """At once, in so many seconds, or never, since nobody knows."""
    assert h.opens_in_s(h.parse_hours(WEEK), number, when) == opens_in_s


def test_a_number_in_many_zones_is_dialled_when_it_is_day_in_all_of_them() -> None:
    """And never where that does not come."""
    zones = h.zones_of(TOLL_FREE)
    assert len(zones) > 10
    noon = at("2026-11-24 12:00", "America/New_York")
    wait_s = h.opens_in_s(h.parse_hours(WEEK), TOLL_FREE, noon)
    assert wait_s is not None
    assert all(9 <= datetime.fromtimestamp(noon + wait_s, zone).hour < 20 for zone in zones)
    assert h.opens_in_s(h.parse_hours("Mo-Su 09:00-10:00"), TOLL_FREE, noon) is None


def test_hours_of_several_days_and_around_the_week() -> None:
    """Lists, ranges that pass Sunday, and whole days."""
    hours = h.parse_hours("Sa-Mo,We 00:00-24:00; We 10:00-11:00")
    assert [len(day) for day in hours.windows] == [1, 0, 2, 0, 0, 1, 1]
    assert h.checked_hours(WEEK) == WEEK


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9 to 5", "is not calling hours"),
        ("Mo-Fr 09:00-20:00;", "'' is not calling hours"),
        ("Mo 20:00-09:00", "ends before it begins"),
        ("Mo 09:00-24:01", "24:01 is not a time of day"),
        ("Mo 09:60-12:00", "09:60 is not a time of day"),
        ("Mo-Xx 09:00-12:00", "'Xx' is not a day"),
    ],
)
def test_text_that_is_not_hours(text: str, words: str) -> None:
    """Whoever wrote it learns how to write it."""
    with pytest.raises(h.HoursError, match=words):
        h.parse_hours(text)
