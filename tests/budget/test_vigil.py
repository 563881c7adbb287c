"""Who has not been heard for too long."""

from __future__ import annotations

from cluster.budget.vigil import LATE_S, MISSED_BEATS, Vigil


def looking(vigil: Vigil, since: float, until: float, every_s: float = 0.25) -> list[tuple[float, str]]:
    """Who is named, and when."""
    found, now = [], since
    while now <= until:
        found += [(now, lease_id) for lease_id in vigil.silent(now)]
        now += every_s
    return found


def test_a_call_that_misses_its_beats_is_named_and_again_after_as_long() -> None:
    """Not at the first beat that is late."""
    vigil = Vigil(0.5)
    vigil.heard("a", 0.0)
    assert [at for at, _ in looking(vigil, 0.0, 4.0)] == [0.5 * MISSED_BEATS + 0.25, 2 * (0.5 * MISSED_BEATS + 0.25)]


def test_a_call_that_beats_or_has_ended_is_not_named() -> None:
    """Any beat will do."""
    vigil = Vigil(0.5)
    vigil.heard("a", 0.0)
    vigil.heard("b", 0.0)
    assert looking(vigil, 0.0, 1.0) == []
    vigil.heard("a", 1.0)
    vigil.forget("b")
    vigil.forget("b")
    assert looking(vigil, 1.0, 2.0) == []


def test_a_call_that_can_not_be_reached_is_asked_after_the_next_beat_that_does_not_come() -> None:
    """Every beat puts it off; a doubt that is repeated does not."""
    vigil = Vigil(0.5)
    vigil.heard("a", 0.0)
    vigil.doubt("a", 0.0)
    vigil.doubt("a", 0.5)
    assert vigil.silent(0.75) == []
    vigil.heard("a", 0.8)
    assert vigil.silent(1.0) == []
    vigil.doubt("a", 1.0)
    assert vigil.silent(1.8) == ["a"]
    vigil.doubt("unheard", 2.0)
    assert vigil.silent(2.8) == ["unheard"]


def test_who_could_not_listen_suspects_nobody() -> None:
    """A process that was stopped for a minute has heard nobody for a minute."""
    vigil = Vigil(0.5)
    vigil.heard("a", 0.0)
    assert vigil.silent(0.0) == []
    assert vigil.silent(60.0) == []
    assert vigil.silent(60.0 + LATE_S) == []
    assert vigil.silent(60.0 + LATE_S + 1.0) == ["a"]
