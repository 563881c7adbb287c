"""The caller's voice: from the room's track, through the resampler, to whoever listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from livekit import rtc

from cluster.call import events as ev
from cluster.call.live import INPUT_HZ
from cluster.call.turns import SpeechMeter
from cluster.call.voice import LINE_HZ, Resampler

if TYPE_CHECKING:
    import numpy.typing as npt

    from cluster.call.room import RoomLink

FRAME_MS = 40
"""Google recommends pieces of 20 to 40 ms; the longer ones halve the wake-ups."""


class CallerLine:
    """Reads the caller's track for as long as the call lasts, also when a reconnect gives it a new one."""

    def __init__(self, on_pcm: Callable[[bytes, float], None], on_event: Callable[[ev.Event], None]) -> None:
        """`on_pcm` gets every frame, 16-bit mono PCM at 16 kHz, and its level (see `rms`)."""
        self.quality = "LQ"
        self._on_pcm = on_pcm
        self._on_event = on_event
        self._meter = SpeechMeter()
        self._frames = 0
        self._busy_s = 0.0

    def take_frame_us(self) -> float:
        """Microseconds that a frame took since this was asked last, resampling included; 0 where none came."""
        mean_us = self._busy_s / self._frames * 1_000_000 if self._frames else 0.0
        self._frames, self._busy_s = 0, 0.0
        return round(mean_us, 1)

    async def listen_for_ever(self, link: RoomLink) -> None:
        """A track that is gone gives neither frames nor an end, so its reader goes when there is another one."""
        track = await link.next_track()
        while True:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(track))
                track = await link.next_track()
                reader.cancel()

    async def _read(self, track: rtc.RemoteAudioTrack) -> None:
        """Frame by frame; the resampler keeps its state and changes its quality only in a pause."""
        stream = rtc.AudioStream.from_track(track=track, sample_rate=LINE_HZ, num_channels=1, frame_size_ms=FRAME_MS)
        resampler = Resampler(LINE_HZ, INPUT_HZ, self.quality)
        try:
            async for event in stream:
                began = time.perf_counter()
                self._hear(resampler.feed(np.frombuffer(event.frame.data, np.int16)))
                self._busy_s += time.perf_counter() - began
                self._frames += 1
                if resampler.quality != self.quality and not self._meter.speaking:
                    resampler = Resampler(LINE_HZ, INPUT_HZ, self.quality)
        finally:
            await stream.aclose()

    def _hear(self, samples: npt.NDArray[np.int16]) -> None:
        if not len(samples):
            return
        level = rms(samples)
        self._on_pcm(samples.tobytes(), level)
        now = time.monotonic()
        was_speaking = self._meter.speaking
        ended_at = self._meter.feed(level, now)
        if ended_at is not None:
            self._on_event(ev.CallerPaused(now - ended_at))
        elif self._meter.speaking and not was_speaking:
            self._on_event(ev.CallerSpoke())


def rms(samples: npt.NDArray[np.int16]) -> float:
    """The level of 16-bit samples; 0 where there are none."""
    level = samples.astype(np.float32)
    return float(np.sqrt(np.dot(level, level) / max(1, len(level))))
