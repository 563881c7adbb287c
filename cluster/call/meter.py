"""Watches a Live connection for the books of its call: which turn and stage a usage record belongs to. Pure.

Rules of this file:
1. A turn begins with the model's first sound or tool call, and is over when it is complete, interrupted or cut off. A
   record that comes after that, and before the next turn, is its own: both stand in one message.
2. Text begins nothing, since transcripts may come late; nor does the sound that still comes after an interruption.
3. A tool ends a stage of the turn: the record beside it belongs to that stage, what comes afterwards to the next one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cluster.call import events as ev
from cluster.call.live_messages import Audio, BargeIn, Broken
from cluster.call.usage import UsageBook, UsageReport
from cluster.machine import Table, step

if TYPE_CHECKING:
    from cluster.call.live_messages import LiveMessage

PCM_BYTES: Final = 2
"""Of one sample."""


class TurnState(StrEnum):
    """What the model is at."""

    LISTENING = "listening"
    SPEAKING = "speaking"
    INTERRUPTED = "interrupted"
    """The turn's completion, with its record, is still to come."""


class TurnEvent(StrEnum):
    """What the model does."""

    SPEAK = "speak"
    """Audio, or a tool call."""
    INTERRUPT = "interrupt"
    COMPLETE = "complete"


_S, _E = TurnState, TurnEvent
TURN: Final[Table[TurnState, TurnEvent]] = {
    _S.LISTENING: {_E.SPEAK: _S.SPEAKING, _E.INTERRUPT: _S.LISTENING, _E.COMPLETE: _S.LISTENING},
    _S.SPEAKING: {_E.SPEAK: _S.SPEAKING, _E.INTERRUPT: _S.INTERRUPTED, _E.COMPLETE: _S.LISTENING},
    _S.INTERRUPTED: {_E.SPEAK: _S.INTERRUPTED, _E.INTERRUPT: _S.INTERRUPTED, _E.COMPLETE: _S.LISTENING},
}
_BEGINNINGS: Final = frozenset({(_S.LISTENING, _E.SPEAK), (_S.LISTENING, _E.COMPLETE)})
"""These begin a turn; the second one is a turn without a sound."""


class LiveMeter:
    """Fills a book for one connection: it is shown everything that comes from the model, and told of the rest."""

    def __init__(self, book: UsageBook, connection: int, model: str) -> None:
        self._book = book
        self._connection = connection
        self._turn = 0
        self._stage = 0
        self._state = TurnState.LISTENING
        self._caller_s = 0.0
        self._tool_ran = False
        """The stage is over …"""
        self._reported = False
        """… and its record has come."""
        book.opened(connection, model)

    def disconnected(self) -> None:
        """The connection is gone, whoever closed it."""
        self._book.lost(self._connection)
        self._state = TurnState.LISTENING

    def sent(self, seconds: float) -> None:
        """So much of the caller's audio was sent."""
        self._caller_s += seconds

    def see(self, message: LiveMessage) -> None:
        """Something came from the model."""
        match message:
            case UsageReport():
                self._report(message)
            case Audio(pcm, rate_hz):
                self._speak(len(pcm) / PCM_BYTES / rate_hz)
            case ev.AgentText() | ev.CallerText():
                self._transcribe(message)
            case ev.ToolCalled():
                self._call_tool()
            case BargeIn():
                self._end(TurnEvent.INTERRUPT)
            case ev.TurnDone():
                self._end(TurnEvent.COMPLETE)
            case Broken():
                self.disconnected()

    def _report(self, report: UsageReport) -> None:
        if self._tool_ran and self._reported:
            self._next_stage()
        self._reported = self._tool_ran
        self._book.add(report, connection=self._connection, turn=self._turn, stage=self._stage)

    def _transcribe(self, words: ev.AgentText | ev.CallerText) -> None:
        who = "agent" if isinstance(words, ev.AgentText) else "caller"
        self._book.transcribed(self._connection, **{who: words.text})

    def _speak(self, agent_s: float) -> None:
        self._step(TurnEvent.SPEAK)
        if self._tool_ran:
            self._next_stage()
        self._note(agent_s)

    def _call_tool(self) -> None:
        self._step(TurnEvent.SPEAK)
        if self._tool_ran and self._reported:
            self._next_stage()
        self._tool_ran = True
        self._note()

    def _end(self, event: TurnEvent) -> None:
        is_at_it = event is TurnEvent.COMPLETE or self._state is not TurnState.LISTENING
        self._step(event)
        if is_at_it:
            self._note()
            self._book.turn_done(self._connection, self._turn)

    def _step(self, event: TurnEvent) -> None:
        if (self._state, event) in _BEGINNINGS:
            self._turn += 1
            self._stage = 0
            self._tool_ran = self._reported = False
        self._state = step(TURN, self._state, event)

    def _next_stage(self) -> None:
        self._stage += 1
        self._tool_ran = self._reported = False

    def _note(self, agent_s: float = 0.0) -> None:
        self._book.spoke(self._connection, self._turn, caller_s=self._caller_s, agent_s=agent_s)
        self._caller_s = 0.0
