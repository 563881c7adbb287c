"""What a phone makes of the sound it hears, block by block, at times that the test gives."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.local.carrier.ears import HZ, MAX_KEPT_S, TURN_GAP_MS, Ears, Kind, Mark, pairs_ms, sounding_part


def _sound(milliseconds: int, level: int = 3000) -> bytes:
    wave = np.sin(2 * np.pi * 300 * np.arange(HZ * milliseconds // 1000) / HZ) * level
    return bytes(wave.astype("<i2").tobytes())


class _Line:
    """Feeds 50 ms frames to the ears on a clock of its own."""

    def __init__(self) -> None:
        self.ears = Ears()
        self.now = 100.0
        self.marks: list[Mark] = []

    def plays(self, pcm16: bytes, *, speaking: bool = False) -> None:
        for start in range(0, len(pcm16), 1600):
            frame = pcm16[start : start + 1600]
            self.now += len(frame) / 2 / HZ
            self.marks.extend(self.ears.hear(frame, self.now, speaking=speaking))


def test_turn_begins_and_ends_at_its_sounds() -> None:
    """Marks are at the first and after the last loud 10 ms, not where they were found out."""
    line = _Line()
    line.plays(_sound(230, 0) + _sound(600) + _sound(970, 0))
    assert [mark.kind for mark in line.marks] == [Kind.AGENT_BEGAN, Kind.AGENT_ENDED]
    assert [round(mark.at, 3) for mark in line.marks] == [100.23, 100.83]
    (turn,) = line.ears.turns
    assert 2 * HZ * 0.6 < len(turn.pcm16) < 2 * HZ * (0.6 + TURN_GAP_MS / 1000 + 0.2)
    assert (line.ears.heard_ms, line.ears.loud_ms) == (1800, 600)


def test_pause_within_a_turn_does_not_end_it() -> None:
    """Sentences 450 ms apart are one turn."""
    line = _Line()
    line.plays(_sound(300) + _sound(450, 0) + _sound(300) + _sound(800, 0))
    assert [mark.kind for mark in line.marks] == [Kind.AGENT_BEGAN, Kind.AGENT_ENDED]


def test_click_is_no_turn() -> None:
    """One loud block begins nothing."""
    line = _Line()
    line.plays(_sound(200, 0) + _sound(10) + _sound(900, 0))
    assert line.marks == []


def test_silence_after_barge_in_is_the_end_of_the_last_sound() -> None:
    """The agent's breath is not silence; the sound after it counts."""
    line = _Line()
    line.plays(_sound(500))
    line.ears.barge_in(100.5)
    line.plays(_sound(100) + _sound(200, 0) + _sound(100) + _sound(600, 0))
    assert [(mark.kind, round(mark.at, 3)) for mark in line.marks][1:] == [(Kind.SILENCED, 100.9)]


def test_barge_in_on_a_silent_agent_measures_nothing() -> None:
    """Speaking while the agent says nothing is no barge-in, nor is it when its last sound was before."""
    line = _Line()
    line.ears.barge_in(100.0)
    line.plays(_sound(200) + _sound(300, 0))
    line.ears.barge_in(100.5)
    line.plays(_sound(700, 0))
    assert Kind.SILENCED not in {mark.kind for mark in line.marks}


def test_longest_silence_is_when_nobody_speaks() -> None:
    """The phone's own speech is no silence."""
    line = _Line()
    line.plays(_sound(300, 0))
    line.plays(_sound(900, 0), speaking=True)
    line.plays(_sound(400, 0) + _sound(100) + _sound(350, 0))
    assert line.ears.longest_silence_ms == 400


def test_turn_in_progress_is_kept_when_the_call_ends() -> None:
    """A goodbye that the hang-up cuts off was heard all the same."""
    line = _Line()
    line.plays(_sound(400))
    assert [mark.kind for mark in line.ears.finish()] == [Kind.AGENT_ENDED]
    assert len(line.ears.turns) == 1
    assert line.ears.finish() == ()


def test_what_is_kept_is_bounded() -> None:
    """Old turns are forgotten, the last is always there."""
    line = _Line()
    for _ in range(3):
        line.plays(_sound(70_000) + _sound(750, 0))
    assert sum(len(turn.pcm16) for turn in line.ears.turns) < (MAX_KEPT_S + 80) * HZ * 2
    assert len(line.ears.turns) < 4


def test_sounding_part_leaves_out_quiet_edges() -> None:
    """Quiet at both ends of speech is not part of it."""
    assert sounding_part(_sound(100, 0) + _sound(200) + _sound(100, 0), HZ) == pytest.approx((0.1, 0.3), abs=0.002)
    assert sounding_part(_sound(100, 0), HZ) == (0.0, 0.0)


def test_pairs_join_a_beginning_with_what_follows_it() -> None:
    """An answer counts once, and not if the phone spoke again before it."""
    marks = [
        Mark(Kind.SAID_ENDED, 1.0),
        Mark(Kind.AGENT_BEGAN, 1.5),
        Mark(Kind.AGENT_BEGAN, 1.9),
        Mark(Kind.SAID_ENDED, 3.0),
        Mark(Kind.SAID_BEGAN, 3.5),
        Mark(Kind.AGENT_BEGAN, 4.0),
    ]
    assert pairs_ms(marks, Kind.SAID_ENDED, Kind.AGENT_BEGAN, unless=frozenset({Kind.SAID_BEGAN})) == (500.0,)
