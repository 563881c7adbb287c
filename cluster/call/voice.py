"""The agent's voice: the queue of model audio, the resampler to the line's rate, and the track that carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import soxr
from livekit import rtc

from cluster.call.live_messages import DEFAULT_OUTPUT_HZ
from cluster.call.playout import PlayoutQueue, duration_ms

if TYPE_CHECKING:
    import numpy.typing as npt

LINE_HZ = 48_000
"""Opus's own rate, so that the SDK resamples nothing."""
FIRST_FRAME_MS = 40
FRAME_MS = 100
"""Each frame is a round trip into the SDK; large ones cost less, and barge-in clears them all the same."""
SOURCE_QUEUE_MS = 200
"""What the SDK holds already: it bridges a hiccup of the scheduler, and `clear_queue` empties it (measured: 56 ms)."""
MAX_REPLY_MS = 180_000
"""Three minutes of speech in one reply; memory stays under 9 MB."""


class Resampler:
    """A soxr stream between two rates that keeps its state between chunks; the same rate passes through."""

    def __init__(self, from_hz: int, to_hz: int, quality: str) -> None:
        self.from_hz = from_hz
        self.quality = quality
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16", quality=quality)

    def feed(self, pcm: npt.NDArray[np.int16], *, last: bool = False) -> npt.NDArray[np.int16]:
        """Resample one chunk of 16-bit mono samples; `last` also returns what the filter still holds."""
        return pcm if self._stream is None else self._stream.resample_chunk(pcm, last=last)


class AgentVoice:
    """Plays what the model says. `put` never waits, `clear` is the barge-in."""

    def __init__(self, on_drained: Callable[[], None], on_played: Callable[[bytes, int], None]) -> None:
        """`on_played` sees every piece of PCM (and its rate) as it goes to the line."""
        self.source = rtc.AudioSource(LINE_HZ, 1, queue_size_ms=SOURCE_QUEUE_MS)
        self.quality = "LQ"
        self._on_drained = on_drained
        self._on_played = on_played
        self._queue = PlayoutQueue(DEFAULT_OUTPUT_HZ, MAX_REPLY_MS)
        self._more = asyncio.Event()
        self._audible = asyncio.Event()
        self._playing = False

    def new_track(self) -> rtc.LocalAudioTrack:
        """A track that carries this voice. One that was published and taken back may not be published again."""
        return rtc.LocalAudioTrack.create_audio_track("agent", self.source)

    def open(self) -> None:
        """Somebody listens now; what was said before was kept, so that no greeting loses its first word."""
        self._audible.set()

    def put(self, pcm: bytes, rate_hz: int) -> float | None:
        """Queue 16-bit mono PCM; returns its length in ms, or None where three minutes are queued already.

        The queue has the model's rate. What has another one (a recorded sentence) is brought to it as a whole, which
        takes about a millisecond.
        """
        if rate_hz != self._queue.rate_hz:
            pcm = soxr.resample(np.frombuffer(pcm, np.int16), rate_hz, self._queue.rate_hz).tobytes()
        if not self._queue.put(pcm):
            return None
        self._more.set()
        return duration_ms(len(pcm), self._queue.rate_hz)

    @property
    def unheard_ms(self) -> float:
        """How many milliseconds are queued."""
        return self._queue.queued_ms + self.source.queued_duration * 1000

    def clear(self) -> float:
        """Fall silent at once; returns how many milliseconds will not be heard."""
        unheard_ms = self.unheard_ms
        self._queue.clear()
        self.source.clear_queue()
        self._playing = False
        return unheard_ms

    async def play_for_ever(self) -> None:
        """The one player: takes from the queue, resamples, and lets the source pace it."""
        await self._audible.wait()
        while True:
            await self._more.wait()
            self._more.clear()
            resampler = Resampler(self._queue.rate_hz, LINE_HZ, self.quality)
            self._playing = True
            frame_ms = FIRST_FRAME_MS
            while self._playing:
                pcm = self._queue.take(frame_ms)
                if not pcm:
                    await self._capture(resampler.feed(np.zeros(0, np.int16), last=True))
                    if await self._is_drained():
                        break
                    resampler = Resampler(self._queue.rate_hz, LINE_HZ, self.quality)
                    continue
                self._on_played(pcm, self._queue.rate_hz)
                await self._capture(resampler.feed(np.frombuffer(pcm, np.int16)))
                frame_ms = FRAME_MS

    async def _is_drained(self) -> bool:
        """True once everything was played and nothing more came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.source.queued_duration):
                await self._more.wait()
            self._more.clear()
            return False
        if self._playing:
            self._playing = False
            self._on_drained()
        return True

    async def _capture(self, samples: npt.NDArray[np.int16]) -> None:
        if len(samples):
            await self.source.capture_frame(rtc.AudioFrame(samples.tobytes(), LINE_HZ, 1, len(samples)))

    async def aclose(self) -> None:
        """Free the SDK's source."""
        await self.source.aclose()
