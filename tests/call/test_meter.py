"""Which turn and stage a usage record belongs to, in the orders in which the Live API sends things."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.call import events as ev
from cluster.call import faults
from cluster.call.live_messages import Audio, BargeIn, Broken, LiveMessage
from cluster.call.meter import LiveMeter
from cluster.call.usage import UsageBook, UsageReport
from cluster.messages import Usage

VOICE = Audio(b"\0" * 48_000, 24_000)
"""One second."""
DONE, TOOL, CUT, LOST = (
    ev.TurnDone(),
    ev.ToolCalled("1", "look_up", {}),
    BargeIn(),
    Broken(faults.Fault(faults.Stage.SESSION, 1006)),
)


def used(prompt: int, response: int = 5) -> UsageReport:
    """A record with audio alone."""
    return UsageReport(prompt, {"AUDIO": prompt}, response, {"AUDIO": response})


CASES: list[tuple[str, list[LiveMessage], list[tuple[int, int, int]]]] = [
    ("a turn, then another", [VOICE, DONE, used(10), VOICE, VOICE, DONE, used(20)], [(1, 1, 0), (1, 2, 0)]),
    ("records before the end of the turn", [VOICE, used(10), VOICE, used(10, 6), DONE], [(1, 1, 0), (1, 1, 0)]),
    ("a silent turn after a silent one", [DONE, used(10, 0), DONE, used(20, 0)], [(1, 1, 0), (1, 2, 0)]),
    ("the end of an interrupted turn", [VOICE, CUT, DONE, used(10), VOICE, DONE, used(20)], [(1, 1, 0), (1, 2, 0)]),
    ("late words and sound", [VOICE, CUT, VOICE, ev.AgentText("x"), DONE, used(10)], [(1, 1, 0)]),
    ("cut before a sound", [VOICE, DONE, used(10), CUT, DONE, used(20)], [(1, 1, 0), (1, 2, 0)]),
    ("late words of a whole turn", [VOICE, DONE, ev.AgentText("x"), used(10)], [(1, 1, 0)]),
    ("a tool, the record beside it", [TOOL, used(10), VOICE, DONE, used(20)], [(1, 1, 0), (1, 1, 1)]),
    ("two tools at once", [VOICE, TOOL, TOOL, used(10), VOICE, DONE, used(20)], [(1, 1, 0), (1, 1, 1)]),
    ("one tool after another", [TOOL, used(10), TOOL, used(20), VOICE, DONE, used(30)], [(1, 1, n) for n in range(3)]),
    ("a record that grows until a tool runs", [VOICE, used(10), TOOL, used(10, 6)], [(1, 1, 0), (1, 1, 0)]),
    ("silence after a tool", [TOOL, used(10), DONE, used(20)], [(1, 1, 0), (1, 1, 1)]),
    ("a tool beside talk", [VOICE, TOOL, VOICE, VOICE, DONE, used(10)], [(1, 1, 1)]),
    ("nothing of it is the meter's business", [ev.GoingAway(1.0), used(10)], [(1, 0, 0)]),
]


@pytest.mark.parametrize(("messages", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_record_is_of_its_turn(messages: list[LiveMessage], expected: list[tuple[int, int, int]]) -> None:
    """Connection, turn and stage of each record. All of them are counted, and nothing is missing."""
    book = UsageBook("m")
    meter = LiveMeter(book, 1, "m")
    for message in messages:
        meter.see(message)
    assert [(raw.connection, raw.turn, raw.stage) for raw in book.raw()] == expected
    assert book.total().missing_generations == 0


@pytest.mark.parametrize(
    ("messages", "missing"),
    [
        ([], 0),
        ([CUT, LOST], 0),
        ([VOICE], 0),
        ([VOICE, LOST], 1),
        ([TOOL, LOST], 1),
        ([VOICE, DONE], 1),
        ([VOICE, CUT, DONE, VOICE, LOST], 2),
        ([VOICE, DONE, used(10), LOST], 0),
    ],
)
def test_what_was_never_reported_is_missing(messages: list[LiveMessage], missing: int) -> None:
    """Once the turn is over, however it ended."""
    book = UsageBook("m")
    meter = LiveMeter(book, 1, "m")
    for message in messages:
        meter.see(message)
    assert book.total().missing_generations == missing


def test_a_second_connection_goes_on_counting() -> None:
    """What was cut off with the first one is estimated from the audio both ways; words count by side."""
    book = UsageBook("m")
    meter = LiveMeter(book, 1, "m")
    meter.sent(2.0)
    meter.see(VOICE)
    meter.see(ev.CallerText("Hi."))
    meter.disconnected()
    meter = LiveMeter(book, 2, "n")
    meter.sent(1.0)
    for message in (VOICE, DONE, used(10), ev.AgentText("Hello.")):
        meter.see(message)
    assert book.by_model() == {
        "m": Usage(audio_in=50, audio_out=25, transcript_chars=3, missing_generations=1, estimated_tokens=75),
        "n": Usage(audio_in=10, audio_out=5, transcript_chars=6, agent_chars=6),
    }


@dataclass(frozen=True)
class Stage:
    """What the model did between two tools."""

    speaks: bool
    prompt: int
    response: int
    preview: bool
    """It was reported before it was complete, too."""

    def messages(self, *, reported: bool, tool: bool) -> list[LiveMessage]:
        """As they come; the end of the last stage is the turn's."""
        sound: list[LiveMessage] = [VOICE] * self.speaks
        preview = [used(self.prompt, self.response - 1)] * (reported and self.preview)
        end: list[LiveMessage] = [TOOL] * tool
        return [*sound, *preview, *sound, *end, *([used(self.prompt, self.response)] * (reported and tool))]


@dataclass(frozen=True)
class Turn:
    """One or more stages."""

    stages: list[Stage]
    reported: bool
    cut: bool
    """The caller spoke over it."""

    def messages(self) -> list[LiveMessage]:
        """As they come: the record of the last stage is beside the turn's end."""
        *tools, last = self.stages
        found = [message for stage in tools for message in stage.messages(reported=self.reported, tool=True)]
        found += last.messages(reported=self.reported, tool=False) + [CUT] * self.cut + [DONE]
        return found + [used(last.prompt, last.response)] * self.reported


stages = st.builds(Stage, st.booleans(), st.integers(1, 900), st.integers(1, 900), st.booleans())
turns = st.builds(Turn, st.lists(stages, min_size=1, max_size=3), st.booleans(), st.booleans())


@given(st.lists(st.lists(turns, max_size=4), max_size=3))
def test_any_conversation_adds_up(connections: list[list[Turn]]) -> None:
    """Every stage of every reported turn counts once, and every other turn is missing."""
    book = UsageBook("m")
    for number, connection in enumerate(connections):
        meter = LiveMeter(book, number, "m")
        for turn in connection:
            # A record before the turn's first sign of life would be the last turn's.
            for message in [VOICE, *turn.messages()]:
                meter.see(message)
    every = [turn for connection in connections for turn in connection]
    total = book.total()
    assert total.missing_generations == sum(not turn.reported for turn in every)
    if all(turn.reported for turn in every):
        assert total.audio_in == sum(stage.prompt for turn in every for stage in turn.stages)
        assert total.audio_out == sum(stage.response for turn in every for stage in turn.stages)
