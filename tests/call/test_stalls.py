"""Silences of a model, and what is tried against them."""

from __future__ import annotations

from cluster.call.stalls import ANSWER_WITHIN_S, SILENT_FOR_MS, Cure, StallWatch


def test_the_ladder_is_climbed_step_by_step_and_ends_at_the_top() -> None:
    """Each step has the same time to work."""
    watch = StallWatch()
    watch.owe(10.0)
    assert watch.due == 10.0 + ANSWER_WITHIN_S
    cures = [watch.cure(now) for now in (12.5, 15.0, 17.5, 20.0, 22.5, 25.0)]
    assert cures == [Cure.NUDGE, Cure.RESUME, Cure.FRESH, Cure.FRESH, Cure.GIVE_UP, Cure.GIVE_UP]
    assert watch.due == 25.0 + ANSWER_WITHIN_S


def test_an_audible_answer_takes_the_ladder_back() -> None:
    """The next silence begins with a nudge again."""
    watch = StallWatch()
    watch.owe(10.0)
    watch.cure(12.5)
    assert not watch.agent_audio(100, 2_000)
    assert not watch.owed
    watch.owe(20.0)
    assert watch.cure(22.5) is Cure.NUDGE


def test_an_answer_of_silence_is_none() -> None:
    """A breath is one; a second of near-zero samples is not."""
    watch = StallWatch()
    assert not watch.agent_audio(SILENT_FOR_MS - 1, 3)
    assert watch.agent_audio(1, 3)
    watch.cure(1.0)
    assert not watch.agent_audio(SILENT_FOR_MS - 1, 3)


def test_an_excuse_stops_the_clock() -> None:
    """Somebody speaks, or a tool runs."""
    watch = StallWatch()
    watch.owe(1.0)
    watch.excuse()
    assert watch.due is None
