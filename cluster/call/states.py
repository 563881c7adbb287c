"""The two state machines of a call, as tables: its phone leg and its Live session.

Rules of this file:
1. Every state and every transition of a call is written here, and nowhere else.
2. An event that a table does not have for the state raises `IllegalTransition` and changes nothing.
3. This file does not know what causes an event or what follows from a state.
"""

from __future__ import annotations

from enum import StrEnum

from cluster.machine import Table


class Leg(StrEnum):
    """The phone's connection, in SIP's own words."""

    IDLE = "idle"
    DIALLING = "dialling"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"


class LegEvent(StrEnum):
    """What moves the leg."""

    DIAL = "dial"
    RING = "ring"
    ANSWER = "answer"
    END = "end"


LEG: Table[Leg, LegEvent] = {
    Leg.IDLE: {
        LegEvent.DIAL: Leg.DIALLING,
        LegEvent.RING: Leg.RINGING,
        LegEvent.ANSWER: Leg.ANSWERED,
        LegEvent.END: Leg.ENDED,
    },
    Leg.DIALLING: {LegEvent.RING: Leg.RINGING, LegEvent.ANSWER: Leg.ANSWERED, LegEvent.END: Leg.ENDED},
    Leg.RINGING: {LegEvent.ANSWER: Leg.ANSWERED, LegEvent.END: Leg.ENDED},
    Leg.ANSWERED: {LegEvent.END: Leg.ENDED},
    Leg.ENDED: {},
}


class Live(StrEnum):
    """The conversation with the model, over all its connections."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    """The first connection is being set up."""
    READY = "ready"
    ROTATING = "rotating"
    """One connection serves while the next is prepared."""
    RESUMING = "resuming"
    """No connection serves, and a new one is being set up."""
    GONE = "gone"


class LiveEvent(StrEnum):
    """What moves the conversation."""

    CONNECT = "connect"
    SETUP = "setup"
    """A connection is set up and serves from now on."""
    ROTATE = "rotate"
    KEEP = "keep"
    """The next connection did not come about; the old one still serves."""
    LOSE = "lose"
    FAIL = "fail"


LIVE: Table[Live, LiveEvent] = {
    Live.CLOSED: {LiveEvent.CONNECT: Live.CONNECTING},
    Live.CONNECTING: {LiveEvent.SETUP: Live.READY, LiveEvent.FAIL: Live.GONE},
    Live.READY: {LiveEvent.ROTATE: Live.ROTATING, LiveEvent.LOSE: Live.RESUMING},
    Live.ROTATING: {LiveEvent.SETUP: Live.READY, LiveEvent.KEEP: Live.READY, LiveEvent.LOSE: Live.RESUMING},
    Live.RESUMING: {LiveEvent.SETUP: Live.READY, LiveEvent.FAIL: Live.GONE},
    Live.GONE: {},
}


class Phase(StrEnum):
    """Where the call as a whole stands; follows from both machines and from how it is to end."""

    SETTING_UP = "setting-up"
    """Not both of the leg and the Live session are there yet."""
    TALKING = "talking"
    WRAPPING_UP = "wrapping-up"
    """The model was told to say goodbye."""
    CLOSING = "closing"
    """The ending is decided; what is still queued is played out."""
    OVER = "over"


class PhaseEvent(StrEnum):
    """What moves the phase."""

    CONNECTED = "connected"
    WRAP_UP = "wrap-up"
    CLOSE = "close"
    FINISH = "finish"


PHASE: Table[Phase, PhaseEvent] = {
    Phase.SETTING_UP: {
        PhaseEvent.CONNECTED: Phase.TALKING,
        PhaseEvent.CLOSE: Phase.CLOSING,
        PhaseEvent.FINISH: Phase.OVER,
    },
    Phase.TALKING: {
        PhaseEvent.WRAP_UP: Phase.WRAPPING_UP,
        PhaseEvent.CLOSE: Phase.CLOSING,
        PhaseEvent.FINISH: Phase.OVER,
    },
    Phase.WRAPPING_UP: {PhaseEvent.CLOSE: Phase.CLOSING, PhaseEvent.FINISH: Phase.OVER},
    Phase.CLOSING: {PhaseEvent.FINISH: Phase.OVER},
    Phase.OVER: {},
}
