"""Calling hours, against wall clocks that are read another way."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.campaign.hours import Hours, is_open, is_zone, next_open, zones_of
from cluster.telephony import hours as telephony
from cluster.telephony.hours import parse_hours

WORK = Hours(parse_hours("Mo-Fr 09:00-12:00; Mo-Fr 13:00-20:00; Sa 10:00-14:00"))
BERLIN, NEW_YORK = ("Europe/Berlin",), ("America/New_York",)


def utc(text: str) -> float:
    """Seconds of a UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_number_tells_its_time_zones() -> None:
    """One, several, or none where it belongs to nobody."""
    assert zones_of("+14155550101") == ("America/Los_Angeles",)
    assert "Europe/London" in zones_of("+447911123456")
    assert zones_of("+15550000100") == ()


def test_a_zone_is_known_or_not() -> None:
    """Names come from people too."""
    assert is_zone("Europe/Berlin")
    assert not is_zone("Europe/Berlinn")
    assert not is_zone("../etc/passwd")
    assert not is_zone("Europe")


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-11-30T07:59:59", False),
        ("2026-11-30T08:00:00", True),
        ("2026-11-30T10:59:59", True),
        ("2026-11-30T11:00:00", False),
        ("2026-11-30T18:59:59", True),
        ("2026-11-30T19:00:00", False),
        ("2026-12-05T09:30:00", True),
        ("2026-12-06T09:30:00", False),
    ],
)
def test_spans_are_half_open(at: str, expected: bool) -> None:  # noqa: FBT001 a parameter of the test
    """Berlin is an hour ahead in winter."""
    assert is_open(WORK, BERLIN, utc(at)) is expected


def test_several_zones_have_to_agree() -> None:
    """Nobody knows which of them the phone is in."""
    both = (*BERLIN, *NEW_YORK)
    assert next_open(WORK, both, utc("2026-11-30T00:00:00")) == next_open(WORK, NEW_YORK, utc("2026-11-30T14:00:00"))
    assert not is_open(WORK, both, utc("2026-11-30T09:00:00"))
    assert not is_open(WORK, (), utc("2026-11-30T09:00:00"))
    assert next_open(WORK, ("Europe/Berlin", "Pacific/Auckland"), utc("2026-11-30T00:00:00")) is None


def test_closed_dates_are_the_contacts_own() -> None:
    """When Christmas begins in Berlin it is the 24th in New York."""
    hours = Hours(parse_hours("Mo-Su 00:00-24:00"), frozenset({date(2026, 12, 25)}))
    assert not is_open(hours, BERLIN, utc("2026-12-24T23:30:00"))
    assert is_open(hours, NEW_YORK, utc("2026-12-24T23:30:00"))
    stretch = next_open(hours, BERLIN, utc("2026-12-24T12:00:00"))
    assert stretch is not None
    assert stretch.closes_at == utc("2026-12-24T23:00:00")


ZONES = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Tehran"]
)
SPANS = st.lists(
    st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda span: span[0] < span[1]), max_size=2
).map(lambda spans: tuple(sorted(spans)))
MOMENTS = st.one_of(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 made UTC below
    # around changes of daylight saving time
    st.sampled_from([datetime(2026, 3, 29), datetime(2026, 10, 25), datetime(2026, 11, 1), datetime(2026, 4, 5)]),  # noqa: DTZ001
)


@settings(max_examples=60, deadline=None)
@given(
    week=st.tuples(*[SPANS] * 7),
    zones=st.lists(ZONES, min_size=1, max_size=2, unique=True).map(tuple),
    start=MOMENTS,
    minutes=st.integers(0, 2880),
)
def test_the_next_opening_is_the_first_open_minute(
    week: tuple[tuple[tuple[int, int], ...], ...], zones: tuple[str, ...], start: datetime, minutes: int
) -> None:
    """An oracle that walks minute by minute and compares clock texts."""
    at = start.replace(tzinfo=UTC, second=0, microsecond=0) + timedelta(minutes=minutes)
    hours = Hours(telephony.Hours(week))

    def oracle(moment: datetime) -> bool:
        for zone in zones:
            wall = moment.astimezone(ZoneInfo(zone))
            clock = f"{wall:%H:%M}"
            spans = [(f"{a // 60:02}:{a % 60:02}", f"{b // 60:02}:{b % 60:02}") for a, b in week[int(f"{wall:%u}") - 1]]
            if not any(a <= clock < b for a, b in spans):
                return False
        return True

    walk = (at + timedelta(minutes=n) for n in range(8 * 1440))
    first = next((moment for moment in walk if oracle(moment)), None)
    found = next_open(hours, zones, at.timestamp())
    if first is None:
        assert found is None or found.opens_at > (at + timedelta(days=7)).timestamp()
        return
    assert found is not None
    assert max(found.opens_at, at.timestamp()) == first.timestamp()
    assert is_open(hours, zones, found.closes_at - 1)
    assert not is_open(hours, zones, found.closes_at)
