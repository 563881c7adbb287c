"""A call without a room: the real call, its real Live connections, and in place of LiveKit a line that is all clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from cluster.call import events as ev
from cluster.call.equipment import Media
from cluster.call.line import CallerLine
from cluster.call.playout import duration_ms
from cluster.messages import CallEvent, Renewal, Verdict
from tests.local.headless import Caller


class NoRoom:
    """A room whose phone answers as soon as the agent can be heard."""

    caller_number = ""
    carriers_ids: Mapping[str, str] = MappingProxyType({})

    def __init__(self, on_event: Callable[[ev.Event], None], _on_evicted: Callable[[], None]) -> None:
        self._on_event = on_event
        self._heard = asyncio.Event()

    async def join(self, *_: object, **__: object) -> None:
        """Nobody is there to be joined."""

    async def publish(self, _track: object) -> NoRoom:
        """The phone answers."""
        self._on_event(ev.PhoneAnswered())
        return self

    async def until_heard(self, *_: object) -> None:
        """It hears at once."""

    async def finds_caller(self, _within_s: float) -> bool:
        """The phone never leaves."""
        return True

    async def stats(self) -> None:
        """Nothing is lost on the way."""

    async def take_back(self) -> None:
        """Nothing was given."""

    async def leave(self) -> None:
        """Nothing was entered."""


class ClockVoice:
    """Plays by the clock what the model says, and remembers when it was audible."""

    def __init__(self, on_drained: Callable[[], None], _on_played: Callable[[bytes, int], None]) -> None:
        self._on_drained = on_drained
        self._more = asyncio.Event()
        self.quality = ""
        self.until = 0.0
        """When the last sound so far will have been heard."""
        self.heard_at: list[float] = []
        """When each piece began to be heard."""

    def new_track(self) -> None:
        """Nothing carries it."""

    def open(self) -> None:
        """Somebody listens anyway."""

    def put(self, pcm: bytes, rate_hz: int) -> float:
        """Queue PCM; returns its length in ms."""
        self.until = max(self.until, time.monotonic())
        if np.abs(np.frombuffer(pcm, np.int16)).max(initial=0) > 100:
            self.heard_at.append(self.until)
        ms = duration_ms(len(pcm), rate_hz)
        self.until += ms / 1000
        self._more.set()
        return ms

    @property
    def unheard_ms(self) -> float:
        """What is still to be heard."""
        return max(0.0, self.until - time.monotonic()) * 1000

    def clear(self) -> float:
        """Fall silent."""
        unheard_ms = self.unheard_ms
        self.until = time.monotonic()
        self._more.clear()
        return unheard_ms

    async def play_for_ever(self) -> None:
        """Tell when everything was heard."""
        while True:
            await self._more.wait()
            while (left_s := self.until - time.monotonic()) > 0:  # noqa: ASYNC110 - it is a clock
                await asyncio.sleep(left_s)
            if self._more.is_set():
                self._more.clear()
                self._on_drained()

    async def aclose(self) -> None:
        """Nothing was opened."""


class ScriptedLine(CallerLine):
    """A caller whose words are given by the test."""

    def __init__(self, on_pcm: Callable[[bytes, float], None], on_event: Callable[[ev.Event], None]) -> None:
        super().__init__(on_pcm, on_event)
        self.caller = Caller(self._take)

    async def listen_for_ever(self, _link: object) -> None:
        """Speak, or be silent."""
        await self.caller.run()

    async def _take(self, pcm16: bytes) -> None:
        self._hear(np.frombuffer(pcm16, np.int16))


@dataclass
class Line:
    """The parts of one call that carry sound, once they are made."""

    parts: dict[str, Any] = field(default_factory=dict)

    def media(self) -> Media:
        """For the call's equipment."""

        def made(name: str, kind: Callable[..., Any]) -> Callable[..., Any]:
            def make(*arguments: Any) -> Any:
                self.parts[name] = kind(*arguments)
                return self.parts[name]

            return make

        return Media(room=made("room", NoRoom), voice=made("voice", ClockVoice), line=made("line", ScriptedLine))


class NoRooms:
    """Where rooms would be deleted."""

    async def delete(self, _room: str) -> bool:
        """There is none."""
        return True


@dataclass
class Upstream:
    """Where the call reports to, in this process."""

    events: list[CallEvent] = field(default_factory=list)

    async def renew(self, _renewal: Renewal) -> Verdict:
        """Money is no object."""
        return Verdict.CONTINUE

    async def report(self, events: list[CallEvent]) -> bool:
        """Keep them."""
        self.events += events
        return True
