"""The agent's voice, on a line that takes everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from cluster.call.voice import LINE_HZ, AgentVoice

PITCH_HZ = 300


class Source:
    """In place of the SDK's: nothing is paced, and everything is kept."""

    queued_duration = 0.0

    def __init__(self) -> None:
        self.heard = np.zeros(0, np.int16)
        self.then: Callable[[], object] = lambda: None
        """What happens while the first frame is played."""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """It is heard at once."""
        self.heard = np.concatenate((self.heard, np.frombuffer(frame.data, np.int16)))
        then, self.then = self.then, lambda: None
        then()


@asynccontextmanager
async def a_voice(source: Source, drained: asyncio.Event) -> AsyncIterator[AgentVoice]:
    """It plays."""
    voice = AgentVoice(drained.set, lambda _pcm, _rate_hz: None)
    native, voice.source = voice.source, source  # type: ignore[assignment]
    voice.open()
    playing = asyncio.create_task(voice.play_for_ever())
    try:
        yield voice
    finally:
        playing.cancel()
        await asyncio.wait([playing])
        await native.aclose()


def second(rate_hz: int) -> bytes:
    """Of one pitch."""
    return (8_000 * np.sin(2 * np.pi * PITCH_HZ * np.arange(rate_hz) / rate_hz)).astype(np.int16).tobytes()


def pitch_hz(samples: Any) -> float:
    """What is heard most."""
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * LINE_HZ / len(samples))


@pytest.mark.parametrize("rates_hz", [(24_000, 16_000), (16_000, 24_000), (8_000, 44_100)])
async def test_speech_of_two_rates_is_heard_whole_and_at_its_own_speed(rates_hz: tuple[int, int]) -> None:
    """A recorded sentence comes while the model's is played, or the other way round."""
    source, drained = Source(), asyncio.Event()
    async with a_voice(source, drained) as voice:
        source.then = lambda: voice.put(second(rates_hz[1]), rates_hz[1])
        assert voice.put(second(rates_hz[0]), rates_hz[0]) == pytest.approx(1_000, abs=1)
        async with asyncio.timeout(10):
            await drained.wait()
    assert len(source.heard) / LINE_HZ == pytest.approx(2.0, abs=0.02)
    for half in np.array_split(source.heard, 2):
        assert pitch_hz(half) == pytest.approx(PITCH_HZ, abs=2)


async def test_what_was_not_heard_is_told_whatever_its_rate() -> None:
    """Nothing that is queued vanishes."""
    async with a_voice(Source(), asyncio.Event()) as voice:
        voice.put(second(24_000), 24_000)
        voice.put(second(16_000), 16_000)
        assert voice.unheard_ms == pytest.approx(2_000, abs=1)
