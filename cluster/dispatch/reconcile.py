"""Which rooms have no call, which calls have no room, and what to do about either. Pure.

Rules of this file:
1. Ours are the rooms that our own outbound calls were given, and those that ask for our agent. No other is touched.
2. A room is asked about before the calls are: what is newer than `GRACE_S`, or is being admitted, is nobody's fault.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

GRACE_S: Final = 10.0
"""LiveKit offers a room in 0.2 s, the safety net takes it after 1.2 s, and a control plane is back after about 5 s."""
CALL_ID: Final = re.compile(r"call_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class Room:
    """A room that LiveKit has."""

    name: str = field(repr=False)  # pii: SIP rules put the caller's number into it
    sid: str
    created_at: float
    """UTC seconds, on LiveKit's clock."""


class Fate(StrEnum):
    """What becomes of a room that no call has."""

    LEAVE = "leave"
    CLAIM = "claim"
    """Somebody is on the phone, and nobody with them: the call is taken, or refused."""
    CLOSE = "close"


def strangers(rooms: Iterable[Room], held: Collection[str], now: float) -> list[Room]:
    """The rooms that no call has. `held` are the names of those that one has or waits for; `now` is UTC seconds."""
    return [room for room in rooms if room.name not in held and now - room.created_at >= GRACE_S]


def is_own(name: str, prefix: str) -> bool:
    """Whether an outbound call of ours was given this room."""
    return name.startswith(prefix) and CALL_ID.fullmatch(name.removeprefix(prefix)) is not None


def fate_of(kinds: Collection[str], *, own: bool, asks_for_us: bool, claimed: bool) -> Fate:
    """What becomes of a stranger with such participants in it.

    `claimed` says that it was claimed before, and admitted: that call has ended, and its caller is still there.
    """
    if own:
        return Fate.CLOSE
    if not asks_for_us or "SIP" not in kinds or "AGENT" in kinds:
        return Fate.LEAVE
    return Fate.CLOSE if claimed else Fate.CLAIM


def roomless(calls: Mapping[str, tuple[str, float]], rooms: Collection[str], now: float) -> frozenset[str]:
    """The ids of calls without a room. `calls` has by room the call's id, and since when, in UTC seconds."""
    return frozenset(
        call_id for room, (call_id, since) in calls.items() if room not in rooms and now - since >= GRACE_S
    )
