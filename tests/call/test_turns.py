"""Transcript, heard words and the speech meter."""

from __future__ import annotations

import pytest

from cluster.call.turns import MAX_LINES, SpeechMeter, Turns, heard_words


@pytest.mark.parametrize(
    ("heard_ms", "spoken_ms", "expected"),
    [
        (1_000, 1_000, "one two three four"),
        (2_000, 1_000, "one two three four"),
        (500, 1_000, "one two"),
        (0, 1_000, ""),
        (-5, 1_000, ""),
        (100, 0, "one two three four"),
    ],
)
def test_heard_words(heard_ms: float, spoken_ms: float, expected: str) -> None:
    """What was heard is a whole number of words, in proportion to what was played."""
    assert heard_words("one two three four", heard_ms, spoken_ms) == expected


def test_a_turn_puts_the_callers_line_first() -> None:
    """Transcriptions are unordered, so the lines of a turn are ordered at its end."""
    turns = Turns(started_at=10.0)
    turns.agent_text("We open ", 13.0)
    turns.caller_text("When do you open?", 13.5)
    turns.agent_text("at eight.", 14.0)
    assert [(line.who, line.text, line.at_s) for line in turns.close()] == [
        ("caller", "When do you open?", 3.5),
        ("agent", "We open at eight.", 3.0),
    ]
    assert turns.close() == []


def test_barge_in_keeps_what_was_heard() -> None:
    """The cut line holds the heard part and says that it was cut."""
    turns = Turns(started_at=0.0)
    turns.agent_text("one two three four", 1.0)
    turns.agent_audio(1_000)
    (line,) = turns.cut(unheard_ms=500)
    assert (line.text, line.heard) == ("one two", False)


def test_the_transcript_is_bounded() -> None:
    """An endless call does not fill the memory."""
    turns = Turns(started_at=0.0)
    for n in range(MAX_LINES + 5):
        turns.caller_text(str(n), float(n))
        turns.close()
    assert len(turns.lines) == MAX_LINES
    assert turns.lines[-1].text == str(MAX_LINES + 4)


def test_speech_ends_after_the_hangover_and_at_the_last_loud_frame() -> None:
    """A gap between words is no end; the end is dated back to the last loud frame."""
    meter = SpeechMeter()
    assert meter.feed(20, 0.0) is None
    assert not meter.speaking
    assert meter.feed(2_000, 0.1) is None
    assert meter.speaking
    assert meter.feed(30, 0.2) is None
    assert meter.feed(2_000, 0.3) is None
    assert meter.feed(30, 0.5) is None
    assert meter.feed(30, 0.7) == 0.3
    assert not meter.speaking
    assert meter.feed(30, 0.8) is None


def test_the_floor_follows_a_noisy_line() -> None:
    """Steady hiss just below the threshold raises it, so that hiss is not speech."""
    meter = SpeechMeter()
    for n in range(200):
        meter.feed(140, n * 0.04)
    assert meter.feed(300, 9.0) is None
    assert not meter.speaking


def test_a_new_session_is_told_the_newest_part_of_a_long_conversation() -> None:
    """Whole lines, up to a limit, with the turn that is not complete."""
    turns = Turns(started_at=0.0)
    for number in range(5):
        turns.caller_text(f"{number} " + "x" * 4_000, float(number))
        turns.close()
    turns.agent_text("Well,", 9.0)
    assert [line.text[0] for line in turns.everything()] == ["3", "4", "W"]


def test_what_was_said_since_the_mark() -> None:
    """The server can restore the rest."""
    turns = Turns(started_at=0.0)
    assert not turns.agent_has_spoken
    turns.caller_text("Hello.", 1.0)
    turns.close()
    turns.mark()
    turns.agent_text("Good morning.", 2.0)
    turns.close()
    turns.caller_text("What", 3.0)
    assert [line.text for line in turns.since(turns.marked)] == ["Good morning.", "What"]
    assert turns.agent_has_spoken


def test_a_sentence_of_which_nothing_was_heard_was_not_said() -> None:
    """The caller spoke before its first word."""
    turns = Turns(started_at=0.0)
    turns.agent_text("We open at eight.", 1.0)
    turns.agent_audio(2_000)
    assert turns.so_far(2_000) == ()
    assert turns.cut(2_000) == []
