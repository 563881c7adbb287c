"""Who has the floor in a Live session: a table of what may happen when.

An event that is not in the table raises and changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """The session's states after setup."""

    IDLE = "idle"
    HEARING = "hearing"
    THINKING = "thinking"
    SPEAKING = "speaking"
    AWAITING_TOOL = "awaiting_tool"
    """A blocking function call is out; the turn goes on with its result."""


class Event(StrEnum):
    """What moves the floor."""

    SPEECH_STARTED = "speech_started"
    SPEECH_ENDED = "speech_ended"
    PROMPTED = "prompted"
    """Written input that wants an answer, or a function result that does."""
    ANSWER_STARTED = "answer_started"
    TOOL_CALLED = "tool_called"
    TURN_ENDED = "turn_ended"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.IDLE: {
        Event.SPEECH_STARTED: State.HEARING,
        Event.PROMPTED: State.THINKING,
    },
    State.HEARING: {
        Event.SPEECH_ENDED: State.THINKING,
        Event.PROMPTED: State.HEARING,
    },
    State.THINKING: {
        Event.SPEECH_STARTED: State.HEARING,
        Event.PROMPTED: State.THINKING,
        Event.ANSWER_STARTED: State.SPEAKING,
        Event.TURN_ENDED: State.IDLE,
    },
    State.SPEAKING: {
        Event.SPEECH_STARTED: State.HEARING,
        Event.PROMPTED: State.THINKING,
        Event.TOOL_CALLED: State.AWAITING_TOOL,
        Event.TURN_ENDED: State.IDLE,
    },
    State.AWAITING_TOOL: {
        Event.SPEECH_STARTED: State.HEARING,
        Event.PROMPTED: State.THINKING,
        Event.TURN_ENDED: State.IDLE,
    },
}


class FloorError(RuntimeError):
    """An event that can't happen in this state: a fault of the endpoint, not of its client."""


class Floor:
    """The state of one session."""

    def __init__(self) -> None:
        self.state = State.IDLE

    def on(self, event: Event) -> State:
        """Moves by ``event`` and returns the state that was left. Raises FloorError."""
        left = self.state
        try:
            self.state = TRANSITIONS[left][event]
        except KeyError:
            raise FloorError(f"{event} can't happen while {left}") from None
        return left
