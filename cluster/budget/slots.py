"""Where one call actor stands, and what moves it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cluster.machine import Table


class SlotState(StrEnum):
    """Where a call actor stands."""

    STARTING = "starting"
    IDLE = "idle"
    """The process is up and has no Live session."""
    PREPARING = "preparing"
    PARKED = "parked"
    """A Live session of its profile is set up and waits."""
    LENT = "lent"
    RETIRED = "retired"


class SlotEvent(StrEnum):
    """What moves a call actor."""

    STARTED = "started"
    PREPARE = "prepare"
    PREPARED = "prepared"
    NOT_PREPARED = "not-prepared"
    LEND = "lend"
    RETURN = "return"
    CLOSE = "close"
    """Its Live session was closed by the other side."""
    RETIRE = "retire"
    DIE = "die"


_S, _E = SlotState, SlotEvent
SLOT: Table[SlotState, SlotEvent] = {
    _S.STARTING: {_E.STARTED: _S.IDLE, _E.LEND: _S.LENT, _E.DIE: _S.RETIRED},
    _S.IDLE: {_E.PREPARE: _S.PREPARING, _E.LEND: _S.LENT, _E.RETIRE: _S.RETIRED, _E.DIE: _S.RETIRED},
    _S.PREPARING: {_E.PREPARED: _S.PARKED, _E.NOT_PREPARED: _S.IDLE, _E.LEND: _S.LENT, _E.DIE: _S.RETIRED},
    _S.PARKED: {
        _E.PREPARE: _S.PREPARING,
        _E.LEND: _S.LENT,
        _E.CLOSE: _S.IDLE,
        _E.RETIRE: _S.RETIRED,
        _E.DIE: _S.RETIRED,
    },
    # A slot that was lent while it started or prepared hears of that later.
    _S.LENT: {
        _E.STARTED: _S.LENT,
        _E.PREPARED: _S.LENT,
        _E.NOT_PREPARED: _S.LENT,
        _E.RETURN: _S.IDLE,
        _E.DIE: _S.RETIRED,
    },
    _S.RETIRED: {},
}


@dataclass(slots=True)
class Slot:
    """What is known of one call actor."""

    name: str
    born_at: float
    state: SlotState
    since: float
    profile: str = ""
    """Of its Live session, or of the one being set up."""
    session_at: float = 0.0
    calls: int = 0
    first_mb: float | None = None
    memory_mb: float = 0.0
    started_in_s: float = 0.0
    """What its process took to start, until its first session is set up."""
    is_outdated: bool = False
    """It was made with other settings than those that hold."""
    node: str = ""
    """That it runs on; empty until its process is up, or where that is not known."""


READINESS: Mapping[SlotState, int] = {
    SlotState.PARKED: 0,
    SlotState.PREPARING: 1,
    SlotState.IDLE: 2,
    SlotState.STARTING: 4,
}
"""How soon a slot could take a call. One that is ready for another profile (3) has to open its session anew."""
