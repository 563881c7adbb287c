"""What a dry run says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from cluster.budget.prices import load_prices
from cluster.campaign.forecast import Course, forecast, run_course
from cluster.campaign.hours import Hours, Zones
from cluster.telephony.hours import parse_hours
from tests.fixtures.campaign import TEXT, Folder

HOURS = Hours(parse_hours("Mo-Fr 09:00-20:00"))
BERLIN: Zones = ("Europe/Berlin",)
NEW_YORK: Zones = ("America/New_York",)
NEVER: Zones = ("Europe/Berlin", "Pacific/Auckland")


def utc(text: str) -> float:
    """Seconds of a UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NIGHT = utc("2026-11-30T00:00:00")


def course(counts: Mapping[tuple[str, ...], int], rate: float = 1.0, **limits: float) -> Course:
    """A course from midnight of a Monday on, without limits."""
    most_calls = int(limits.get("most_calls", sum(counts.values())))
    return run_course(counts, HOURS, rate, NIGHT, stop_at=limits.get("stop_at", math.inf), most_calls=most_calls)


def test_calls_follow_the_sun() -> None:
    """Berlin opens at 8:00 UTC, New York at 14:00."""
    assert course({BERLIN: 60, NEW_YORK: 60}) == Course(120, utc("2026-11-30T08:00"), utc("2026-11-30T14:01"))


def test_who_closes_first_is_called_first() -> None:
    """At 14:00 UTC Berlin still has five hours."""
    both = {NEW_YORK: 3600, BERLIN: 8 * 3600}
    assert course(both) == Course(9 * 3600, utc("2026-11-30T08:00"), utc("2026-11-30T17:00"))


def test_a_day_may_not_suffice() -> None:
    """Eleven hours at one a minute are 660 calls; the others have to wait."""
    assert course({BERLIN: 661}, rate=1 / 60) == Course(661, utc("2026-11-30T08:00"), utc("2026-12-01T08:01"))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"most_calls": 10}, Course(10, utc("2026-11-30T08:00"), utc("2026-11-30T08:00:10"))),
        ({"stop_at": utc("2026-11-30T08:00:20")}, Course(20, utc("2026-11-30T08:00"), utc("2026-11-30T08:00:20"))),
        ({"stop_at": NIGHT - 1}, Course(0, None, None)),
    ],
)
def test_the_campaign_stops_before(limits: dict[str, float], expected: Course) -> None:
    """By calls or by time."""
    assert course({BERLIN: 60}, **limits) == expected


def test_a_zone_whose_hours_never_come() -> None:
    """It is not waited for."""
    assert course({NEVER: 5, BERLIN: 1}).calls == 1
    assert course({}) == Course(0, None, None)


def test_years_are_not_followed() -> None:
    """A campaign that never ends is not computed to its end."""
    assert course({BERLIN: 10**9}, rate=1 / 3600).calls < 10**9


def test_a_forecast_adds_up(folder: Folder) -> None:
    """Contacts, rejected rows and money."""
    folder.write("contacts.csv", "first,phone,when\nA,+14155550101,x\nB,+12125550102,x\nC,1,x\n")
    campaign = folder.load(TEXT + "expect: {answered: 1, talk_s: 60}\n")
    found = forecast(campaign, campaign.contacts(NIGHT), load_prices(), NIGHT)
    assert (found.contacts, found.course.calls, len(found.rejected)) == (2, 2, 1)
    assert 0 < found.estimate_usd_micros < found.at_most_usd_micros == 1_000_000
    capped = folder.load(TEXT + "stop: {max_usd: 0.000002, at: 2027-01-01T00:00:00Z}\n")
    found = forecast(capped, capped.contacts(NIGHT), load_prices(), NIGHT)
    assert found.estimate_usd_micros == found.at_most_usd_micros == 2
