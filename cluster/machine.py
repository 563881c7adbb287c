"""A state machine is a table: state to event to the state that follows.

An event that a table does not have for the state raises and changes nothing (the shape and the rule are h11's).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)
Table = Mapping[S, Mapping[E, S]]


class IllegalTransition(Exception):
    """An event arrived that its machine does not have in this state: a bug, never bad luck."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        super().__init__(f"{type(state).__name__} has no {event.name} while {state.name}")
        self.state = state
        self.event = event


def step(table: Table[S, E], state: S, event: E) -> S:
    """The state that follows `event`, or `IllegalTransition`."""
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None
