"""What a call is given: who it reports to, what makes its sound, and what its process keeps ready for every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import aiohttp

from cluster.call import events as ev
from cluster.call.heartbeat import Pulse
from cluster.call.line import CallerLine
from cluster.call.room import RoomLink
from cluster.call.voice import AgentVoice
from cluster.messages import CallEvent

if TYPE_CHECKING:
    from cluster.dispatch.rooms import LivekitRooms
    from cluster.settings import Settings


class Upstream(Pulse, Protocol):
    """Where a call reports to. Neither method raises: a call outlives whoever listens."""

    async def report(self, events: list[CallEvent]) -> bool:
        """Hand over a batch of events; False where nobody took it, so that it is offered again."""


@dataclass(frozen=True, slots=True)
class Media:
    """What makes the three parts of a call that carry sound; load and fault tests put in parts without a network."""

    room: Callable[[Callable[[ev.Event], None], Callable[[], None]], RoomLink] = RoomLink
    voice: Callable[[Callable[[], None], Callable[[bytes, int], None]], AgentVoice] = AgentVoice
    line: Callable[[Callable[[bytes, float], None], Callable[[ev.Event], None]], CallerLine] = CallerLine


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a call process has ready before any call."""

    settings: Settings
    rooms: LivekitRooms
    http: aiohttp.ClientSession
    upstream: Upstream
    slot: str
    node: str
    media: Media = field(default_factory=Media)
