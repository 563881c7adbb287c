"""Who is called again."""

from __future__ import annotations

import pytest

from cluster import outcome as o
from cluster.campaign.retries import UNCERTAIN, parse_wait, retry_after_s
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
    ],
)
def test_each_outcome_has_its_own_waits(outcomes: list[Outcome], expected: float | None) -> None:
    """The nth ending of a kind has the nth wait of its kind."""
    assert retry_after_s(outcomes, WAITS, most_calls=5) == expected


def test_there_is_an_end_to_it() -> None:
    """Whatever came of the calls."""
    assert retry_after_s([o.BUSY, o.NO_ANSWER], WAITS, most_calls=2) is None


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
