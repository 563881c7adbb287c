"""Whether one more call may be placed now."""

from __future__ import annotations

import math

import pytest

from cluster.campaign.pace import Limits, Pace, Tally


def a_pace(tally: Tally, **limits: float | None) -> Pace:
    """Two calls per second, three at once, a dollar each at most; made at time 0."""
    fields = {"calls_per_second": 2.0, "concurrency": 3, "max_cost_usd_micros": 1_000_000} | limits
    return Pace(Limits(**fields), tally, 0.0)  # type: ignore[arg-type]


def test_calls_are_spread_evenly_and_end_before_others_begin() -> None:
    """Also after a restart; how long a placing took does not matter."""
    pace = a_pace(Tally(waiting=9))
    assert pace.wait_s(0.2) == pytest.approx(0.3)
    for now in (1.0, 2.0, 3.0):
        assert pace.wait_s(now) == 0.0
        pace.begun()
        pace.placed(now)
    assert pace.wait_s(9.0) is None
    pace.ended("success/agent-ended", 20, again=False)
    assert pace.wait_s(9.0) == 0.0
    assert (pace.tally.waiting, pace.tally.open, pace.tally.done, pace.tally.calls) == (6, 2, 1, 3)


def test_a_call_that_was_not_placed_does_not_count() -> None:
    """Its contact waits as before."""
    pace = a_pace(Tally(waiting=1))
    pace.begun()
    pace.put_off()
    assert pace.tally == Tally(waiting=1)


def test_a_contact_whose_call_is_unknown_is_neither_waiting_nor_done() -> None:
    """Until the end is found; then it may have another call."""
    pace = a_pace(Tally(waiting=1))
    pace.begun()
    pace.parked()
    assert (pace.tally.open, pace.tally.unknown) == (0, 1)
    pace.found()
    pace.ended("caller/busy", 0, again=True)
    assert pace.tally.as_json() == {
        "waiting": 1,
        "calling": 0,
        "done": 0,
        "unknown": 0,
        "calls": 1,
        "spent_usd": 0.0,
        "outcomes": {"caller/busy": 1},
    }


@pytest.mark.parametrize(
    ("tally", "limits", "why"),
    [
        (Tally(), {}, None),
        (Tally(), {"stop_at": 5.0}, "time"),
        (Tally(calls=4), {"max_calls": 4}, "calls"),
        (Tally(spent_usd_micros=3), {"max_usd_micros": 1_000_002}, "money"),
        (Tally(open=1), {"max_usd_micros": 1_999_999}, None),
        (Tally(unknown=1), {"max_usd_micros": 1_999_999}, "money"),
    ],
)
def test_what_ends_a_campaign(tally: Tally, limits: dict[str, float], why: str | None) -> None:
    """A call whose end nobody knows counts with its limit; one that runs may give some back."""
    assert a_pace(tally, **limits).stop(5.0) == why
    assert a_pace(Tally(), stop_at=math.inf).stop(1e12) is None
