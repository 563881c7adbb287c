"""Who is called again."""

from __future__ import annotations

import pytest

from cluster import outcome as o
from cluster.campaign.retries import UNCERTAIN, may_have_rung, parse_wait, retry_after_s
from cluster.outcome import Outcome, Result

WAITS = {"busy": (60.0, 600.0), "no-answer": (3600.0,)}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([o.BUSY], 60.0),
        ([o.BUSY, o.BUSY], 600.0),
        ([o.BUSY, o.BUSY, o.BUSY], None),
        ([o.BUSY, o.NO_ANSWER], 3600.0),
        ([o.NO_ANSWER, o.NO_ANSWER], None),
        ([o.DECLINED], None),
        ([o.AGENT_ENDED], None),
        ([o.BUSY, o.AGENT_ENDED], None),
        ([Outcome(Result.OURS, "busy")], None),
        ([o.WAITED_TOO_LONG] * 9, 60.0),
        ([o.OUTSIDE_HOURS] * 9 + [o.BUSY], 60.0),
        ([o.PRIORITY_ONLY], 60.0),
        ([o.OVER_CAMPAIGN_CALLS], 60.0),
        ([Outcome(Result.POLICY, "unknown-profile")], 60.0),
        ([o.ROOM_UNREACHABLE], 60.0),
        ([o.ROOM_UNREACHABLE] * 3, 240.0),
        ([o.LEASE_EXPIRED] * 99, 3840.0),
        ([o.LEASE_EXPIRED] * 9 + [o.BUSY], 60.0),
        ([o.BLOCKED_NUMBER], None),
        ([o.UNKNOWN_HOURS], None),
    ],
)
def test_each_outcome_has_its_own_waits(outcomes: list[Outcome], expected: float | None) -> None:
    """The nth ending of a kind has the nth wait of its kind."""
    assert retry_after_s(outcomes, WAITS, most_calls=5) == expected


def test_there_is_an_end_to_it() -> None:
    """Whatever came of the calls."""
    assert retry_after_s([o.BUSY, o.NO_ANSWER], WAITS, most_calls=2) is None


def test_only_a_record_tells_that_no_phone_rang() -> None:
    """By what comes before the dialling, in whichever of the call's processes."""
    assert not may_have_rung(None, {"joined": 80.0})
    assert may_have_rung(1.0, {})
    assert may_have_rung(None, {"joined": 80.0, "published": 90.0})
    assert may_have_rung(None, {"published_2": 90.0})


@pytest.mark.parametrize("outcome", sorted(UNCERTAIN, key=str))
def test_what_nobody_saw_is_not_repeated(outcome: Outcome) -> None:
    """Even if somebody wrote it into the file."""
    assert retry_after_s([outcome], {outcome.reason: (1.0,)}, most_calls=5) is None


def test_waits_have_units() -> None:
    """Seconds to days."""
    assert [parse_wait(text) for text in ("90s", "30m", "2h", "1d")] == [90, 1800, 7200, 86_400]
    for text in ("", "5", "m", "0s", "1.5h", "-1s", "2w"):
        with pytest.raises(ValueError, match="30m"):
            parse_wait(text)
