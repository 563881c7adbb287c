"""A phone: ears, a mouth, keys, and the script that it plays.

Its speech is queued whole and leaves on libwebrtc's own clock, 10 ms at a time and followed by silence, so a phone that
says nothing costs no Python time, and the end of its speech is known when it begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import numpy as np

from cluster.local.carrier.ears import HZ, Ears, HeardTurn, Kind, Mark, pairs_ms, sounding_part
from cluster.local.carrier.leg import SPEECH_HZ, Leg
from cluster.local.carrier.numbers import Manner
from cluster.local.carrier.record import Ending
from cluster.local.scenario import BargeIn, CallerStep, HangUp, Pause, Press, Say, Wait
from cluster.local.speech import Speaker

_FRAME_MS: Final = 50
"""Marks are of 10 ms within it; shorter frames only cost more Python time (measured with 12 phones)."""
_PATIENCE_S: Final = 20.0
"""A caller who hears nothing for so long hangs up."""
_LINGER_S: Final = 60.0
"""So long a phone stays on the line after its script."""
_KEY_EVERY_S: Final = 0.25
_VOICEMAIL: Final = "Hello, you have reached my voicemail. Please leave a message after the tone."
_WITHOUT_MEDIA: Final = (Press, Pause, HangUp)


@dataclass(frozen=True, slots=True)
class Beep:
    """A voicemail's tone."""

    length_ms: int = 500
    hz: int = 1000


Step = CallerStep | Beep


def steps_of(manner: Manner, script: Sequence[Step]) -> tuple[Step, ...]:
    """What a phone of this manner does once it has answered."""
    match manner:
        case Manner.VOICEMAIL:
            return (Say(say=_VOICEMAIL), Beep(), Pause(pause_ms=10_000), HangUp(hang_up=True))
        case Manner.HANGS_UP:
            return (Pause(pause_ms=1000), HangUp(hang_up=True))
        case Manner.SILENT:
            return ()
        case Manner.SCRIPT:
            return tuple(script)


class _GaveUpError(Exception):
    """The phone heard nothing for longer than a caller's patience."""


class Phone:
    """One phone in one call. ``understand`` turns PCM16 at 16 kHz into words, in the background.

    Raises ValueError for steps that a phone without ``media`` can't do: it has neither ears nor a mouth.
    """

    def __init__(
        self,
        steps: Sequence[Step] = (),
        *,
        speaker: Speaker,
        media: bool = True,
        understand: Callable[[bytes], Awaitable[str]] | None = None,
    ) -> None:
        if not media and not all(isinstance(step, _WITHOUT_MEDIA) for step in steps):
            message = "a phone without media can only press keys, pause and hang up"
            raise ValueError(message)
        self.media = media
        self.ears = Ears()
        self.marks: list[Mark] = []
        """All that happened, in monotonic seconds, not always in order."""
        self.lines: list[tuple[str, str, float]] = []
        """(`caller` or `agent`, text, monotonic seconds)."""
        self.digits_heard = ""
        self.digits_pressed = ""
        self.script_done = False
        self._steps = tuple(steps)
        self._speaker = speaker
        self._understand = understand
        self._news = asyncio.Event()
        self._attention = 0.0
        self._speaking_until = 0.0
        self._understanding: set[asyncio.Task[None]] = set()

    @property
    def response_ms(self) -> tuple[float, ...]:
        """From the end of each own utterance to the first sound of the agent after it."""
        return self._pairs_ms(Kind.SAID_ENDED, Kind.AGENT_BEGAN, Kind.SAID_BEGAN, Kind.BARGE_IN)

    @property
    def barge_in_ms(self) -> tuple[float, ...]:
        """From the first sound of each barge-in to the end of the agent's last sound."""
        return self._pairs_ms(Kind.BARGE_IN, Kind.SILENCED, Kind.SAID_BEGAN)

    def first(self, kind: Kind) -> float | None:
        """Monotonic seconds of the first mark of this kind."""
        return min((mark.at for mark in self.marks if mark.kind is kind), default=None)

    def hear_digit(self, digit: str) -> None:
        """A key was pressed at the other end."""
        self.digits_heard += digit

    async def prepare(self) -> None:
        """Make the speech of the whole script, so that none is late when its moment comes."""
        for step in self._steps:
            if isinstance(step, Say | BargeIn):
                await self._speech(step.say if isinstance(step, Say) else step.barge_in)

    async def talk(self, leg: Leg) -> Ending:
        """Listen and play the script on an answered leg, until the phone wants to hang up.

        Cancel it when the leg is gone.
        """
        self._attention = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(leg)) if self.media else None
                try:
                    return await self._play(leg)
                finally:
                    if listening is not None:
                        listening.cancel()
        except* _GaveUpError:
            pass
        return Ending.GAVE_UP

    async def finish(self) -> None:
        """Wait until all that was heard is understood."""
        self._note(*self.ears.finish())
        while self._understanding:
            await asyncio.wait(self._understanding)

    async def say(self, leg: Leg, text: str, kind: Kind = Kind.SAID_BEGAN) -> None:
        """Say ``text`` and return at its end; ``kind`` is the mark of its beginning."""
        await self._sound(leg, await self._speech(text), kind, text)

    async def press(self, leg: Leg, digits: str) -> None:
        """Press these keys, one every 250 ms."""
        for digit in digits:
            await leg.press(digit)
            self.digits_pressed += digit
            await asyncio.sleep(_KEY_EVERY_S)

    async def _listen(self, leg: Leg) -> None:
        async with aclosing(leg.sounds(HZ, _FRAME_MS)) as sounds:
            async for frame in sounds:
                now = time.monotonic()
                self._note(*self.ears.hear(frame, now, speaking=now < self._speaking_until))

    async def _play(self, leg: Leg) -> Ending:
        for step in self._steps:
            if isinstance(step, HangUp):
                self.script_done = True
                return Ending.PHONE_HUNG_UP
            await self._do(step, leg)
        self.script_done = True
        if not self._steps:
            await asyncio.Event().wait()
        await asyncio.sleep(_LINGER_S)
        return Ending.PHONE_HUNG_UP

    async def _do(self, step: Step, leg: Leg) -> None:
        match step:
            case Wait(wait="turn_end"):
                await self._next(Kind.AGENT_ENDED)
            case Wait():
                await self._next(None)
            case Say(say=text):
                await self.say(leg, text)
            case BargeIn(barge_in=text, after_ms=after_ms):
                speech = await self._speech(text)
                began = await self._next(Kind.AGENT_BEGAN)
                await asyncio.sleep(began + after_ms / 1000 - time.monotonic())
                await self._sound(leg, speech, Kind.BARGE_IN, text)
            case Press(press=digits):
                await self.press(leg, digits)
            case Pause(pause_ms=pause_ms):
                await asyncio.sleep(pause_ms / 1000)
            case Beep(length_ms=length_ms, hz=hz):
                await self._sound(leg, _tone(length_ms, hz), Kind.SAID_BEGAN, "")

    async def _speech(self, text: str) -> bytes:
        return await asyncio.to_thread(self._speaker.say, text, "caller", SPEECH_HZ)

    async def _sound(self, leg: Leg, pcm16: bytes, kind: Kind, text: str) -> None:
        first_s, last_s = sounding_part(pcm16, SPEECH_HZ)
        now = time.monotonic()
        begins, ends, over = now + first_s, now + last_s, now + len(pcm16) / 2 / SPEECH_HZ
        if kind is Kind.BARGE_IN:
            self.ears.barge_in(begins)
        self._speaking_until = self._attention = ends
        self._note(Mark(kind, begins), Mark(Kind.SAID_ENDED, ends))
        if text:
            self.lines.append(("caller", text, begins))
        await leg.say(pcm16)
        await asyncio.sleep(over - time.monotonic())

    async def _next(self, kind: Kind | None) -> float:
        """When the agent's next ``kind`` since this phone last spoke was; waits for it. None never comes."""
        since = self._attention
        while True:
            found = [mark.at for mark in self.marks if mark.kind is kind and mark.at >= since]
            if found and (kind is Kind.AGENT_BEGAN or not self.ears.talking):
                return found[-1]
            quiet_s = 0.0 if self.ears.talking else time.monotonic() - max(since, self.ears.last_loud)
            if quiet_s >= _PATIENCE_S:
                raise _GaveUpError
            self._news.clear()
            try:
                async with asyncio.timeout(_PATIENCE_S - quiet_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _note(self, *marks: Mark) -> None:
        self.marks.extend(marks)
        if marks:
            self._news.set()
        if self._understand is not None and any(mark.kind is Kind.AGENT_ENDED for mark in marks):
            task = asyncio.create_task(self._take_down(self.ears.turns[-1], self._understand))
            self._understanding.add(task)
            task.add_done_callback(self._understanding.discard)

    async def _take_down(self, turn: HeardTurn, understand: Callable[[bytes], Awaitable[str]]) -> None:
        text = await understand(turn.pcm16)
        if text:
            self.lines.append(("agent", text, turn.began))

    def _pairs_ms(self, first: Kind, then: Kind, *unless: Kind) -> tuple[float, ...]:
        return pairs_ms(self.marks, first, then, unless=frozenset(unless))


def _tone(length_ms: int, hz: int) -> bytes:
    times = np.arange(SPEECH_HZ * length_ms // 1000) / SPEECH_HZ
    return bytes((np.sin(2 * np.pi * hz * times) * 8000).astype("<i2").tobytes())
