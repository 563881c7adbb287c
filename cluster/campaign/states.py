"""How it stands with a contact, and who may change that how: one table. Pure.

Rules of this file:
1. A contact is `dialling` before anybody is asked for its call, so that a crash leaves no call that nobody knows of.
2. Each step leads to one state, from wherever it may be taken; a step that the table does not have changes nothing.
3. Ids follow from what they are for. Whoever repeats an attempt, in whatever process, asks for the same call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Of a contact."""

    WAITING = "waiting"
    """For its hours, for its turn, or for its next call."""
    DIALLING = "dialling"
    """A call is asked for; it may exist or not."""
    CALLING = "calling"
    """The call exists and goes its way without us."""
    DONE = "done"
    UNKNOWN = "unknown"
    """Nobody knows what became of the last call, so nobody calls again by himself."""
    ABSENT = "absent"
    """The file has it no more, so nobody calls it; should it come back, it waits where it was."""


class Step(StrEnum):
    """What happens to a contact."""

    BEGIN = "begin"
    """Its next attempt."""
    LIST = "list"
    """The file has it, as it is to be from now on."""
    DROP = "drop"
    """The file has it no more."""
    CALL = "call"
    """`BudgetPool` has the call."""
    PUT_OFF = "put-off"
    """There was no call, or not yet; later."""
    AGAIN = "again"
    """The call has ended, and there will be another one."""
    CLOSE = "close"
    """There will be no other call."""
    PARK = "park"
    """The attempt can't be followed any more."""


TABLE: Final[Mapping[tuple[State, Step], State]] = {
    (State.WAITING, Step.BEGIN): State.DIALLING,
    (State.WAITING, Step.LIST): State.WAITING,
    (State.WAITING, Step.DROP): State.ABSENT,
    (State.WAITING, Step.PUT_OFF): State.WAITING,
    (State.WAITING, Step.CLOSE): State.DONE,
    (State.DIALLING, Step.CALL): State.CALLING,
    (State.DIALLING, Step.PUT_OFF): State.WAITING,
    (State.DIALLING, Step.CLOSE): State.DONE,
    (State.DIALLING, Step.PARK): State.UNKNOWN,
    (State.CALLING, Step.AGAIN): State.WAITING,
    (State.CALLING, Step.CLOSE): State.DONE,
    (State.CALLING, Step.PARK): State.UNKNOWN,
    (State.UNKNOWN, Step.AGAIN): State.WAITING,
    (State.UNKNOWN, Step.CLOSE): State.DONE,
    (State.ABSENT, Step.LIST): State.WAITING,
}


def sources(step: Step) -> frozenset[State]:
    """The states in which it may be taken."""
    return frozenset(state for state, taken in TABLE if taken is step)


def target(step: Step) -> State:
    """The one state to which it leads."""
    (state,) = {after for (_, taken), after in TABLE.items() if taken is step}
    return state


def contact_id(campaign: str, number: str) -> str:
    """The same for the same number of the same campaign, and tells neither."""
    return hashlib.sha256(f"{campaign}/{number}".encode()).hexdigest()[:24]


def attempt_id(campaign: str, contact: str, nth: int) -> str:
    """Of a contact's nth call, counted from 1; the call's `request_id`."""
    return f"campaign:{campaign}:{contact}:{nth}"
