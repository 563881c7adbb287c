"""`make chaos` in a shorter form: what holds of a thousand faults holds of every one of these."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.chaos.__main__ import run
from tests.chaos.run import FAULTS, Tally

SPEED: Final = 54
"""Of the lifecycle clock: 70 minutes pass in 78 seconds."""
ROTATIONS: Final = [{"at": "answer", "turn": 0, "after_ms": 700, "do": "go_away", "time_left": "9s", "every": 2}]
LIFETIME: Final = [{"at": "time", "after_ms": 540_000, "do": "go_away", "time_left": "210s"}]


@dataclass(frozen=True)
class Outcomes:
    """Three sorts of calls, held at the same time."""

    anything: tuple[Tally, int]
    """Every known fault."""
    allowed: tuple[Tally, int]
    """GoAways of a server that lets a conversation be resumed while its old connection is open."""
    long: tuple[Tally, int]
    """One call of 70 minutes."""


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """All of them together take as long as the long call."""

    async def hold() -> Any:
        return await asyncio.gather(
            run(6, 60, FAULTS),
            run(2, 30, ROTATIONS, resume_while_open="allowed"),
            run(1, 78, LIFETIME, rounds=9, clock_speed=SPEED),
        )

    return Outcomes(*asyncio.run(hold()))


def holds(tally: Tally) -> None:
    """Nobody was dropped, no word was lost, and what was said before is known."""
    assert tally.lost == []
    assert tally.unanswered == []
    assert tally.forgotten == 0


@pytest.mark.timeout(400)
def test_no_fault_ends_a_call_or_loses_a_word(outcomes: Outcomes) -> None:
    """Nor is a fact forgotten, and every token that the endpoint reported is in the books."""
    tally, reported = outcomes.anything
    holds(tally)
    assert tally.faults.total() >= 25
    assert tally.tokens == reported


def test_where_the_server_allows_it_a_rotation_has_no_gap(outcomes: Outcomes) -> None:
    """The next connection is there before the old one goes."""
    tally, reported = outcomes.allowed
    holds(tally)
    assert len(tally.rotation_gap_ms) >= 4
    assert set(tally.rotation_gap_ms) == {0}
    assert tally.tokens == reported


def test_a_call_of_seventy_minutes_goes_through_seven_goaways(outcomes: Outcomes) -> None:
    """One conversation, and its first sentence is known in the end."""
    tally, reported = outcomes.long
    holds(tally)
    assert tally.faults["time/go_away"] >= 7
    (record,) = tally.records
    assert record.talk_s * SPEED / 60 >= 70
    assert tally.tokens == reported
