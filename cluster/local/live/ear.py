"""What the caller is saying in the present turn: its audio, where it began and ended, and its words.

Transcription starts at the first pause, so that the words are known by the time that the turn is taken to be over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cluster.local.live.vad import BYTES_PER_MS, Heard, Vad, VadSettings

_BEFORE_BYTES: Final = 300 * BYTES_PER_MS
_LONGEST_BYTES: Final = 30_000 * BYTES_PER_MS
_LEAST_SPEECH_MS: Final = 150

Transcribe = Callable[[bytes], Coroutine[Any, Any, str]]


class Ear:
    """Feed it audio; it keeps a turn's speech until ``forget``. ``settings`` None: the client marks activity."""

    def __init__(self, settings: VadSettings | None, transcribe: Transcribe, tasks: asyncio.TaskGroup) -> None:
        self._vad = Vad(settings) if settings else None
        self._transcribe = transcribe
        self._tasks = tasks
        self._before = bytearray()
        self._speech = bytearray()
        self._listening = False
        self._early: asyncio.Task[str] | None = None
        self._speech_ms = 0
        self.last_speech_at = 0.0
        """When the newest audio that was speech arrived (monotonic)."""

    def hear(self, pcm16: bytes, now: float) -> list[Heard]:
        """Takes in audio that arrived at ``now``; says if speech started or ended in it."""
        self._keep(pcm16)
        if self._vad is None:
            self.last_speech_at = now
            return []
        events = self._vad.feed(pcm16)
        if self._vad.last_was_loud:
            self.last_speech_at = now
        return self._act(events)

    def mark(self, event: Heard) -> list[Heard]:
        """The client itself says that speech starts or ends here, or that its stream has stopped (END)."""
        if self._vad is not None:
            return self._act(self._vad.end_now())
        if self._listening == (event is Heard.START):
            return []
        return self._act([event])

    @property
    def listening(self) -> bool:
        """Whether the caller is talking."""
        return self._listening

    @property
    def speech_ms(self) -> int:
        """Length of the audio kept for this turn."""
        return len(self._speech) // BYTES_PER_MS

    async def transcript(self) -> str | None:
        """The words of this turn; "" for words that nobody expects; None for a noise too short to be a word."""
        if self._vad is not None and self._speech_ms < _LEAST_SPEECH_MS:
            return None
        if self._early is None:
            self._early = self._tasks.create_task(self._transcribe(bytes(self._speech)))
        return await asyncio.shield(self._early)

    def forget(self) -> None:
        """The turn was answered, or the session is over."""
        self._drop_transcript()
        self._speech.clear()
        self._speech_ms = 0

    def _keep(self, pcm16: bytes) -> None:
        if self._listening:
            self._speech += pcm16
            del self._speech[:-_LONGEST_BYTES]
        else:
            self._before += pcm16
            del self._before[:-_BEFORE_BYTES]

    def _act(self, events: list[Heard]) -> list[Heard]:
        for event in events:
            match event:
                case Heard.START:
                    self._listening = True
                    self._speech += self._before
                    self._before.clear()
                    self._drop_transcript()
                case Heard.PAUSE:
                    self._drop_transcript()
                    self._early = self._tasks.create_task(self._transcribe(bytes(self._speech)))
                case Heard.RESUME:
                    self._drop_transcript()
                case Heard.END:
                    self._listening = False
                    self._speech_ms += self._vad.speech_ms if self._vad else 0
        return [event for event in events if event in (Heard.START, Heard.END)]

    def _drop_transcript(self) -> None:
        if self._early is not None:
            self._early.cancel()
            self._early = None
