"""The caller's voice, on a real line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from livekit import api, rtc
from pydantic import SecretStr

from cluster.call.bulkhead import first_fault
from cluster.call.line import CallerLine
from cluster.call.room import RoomLink
from cluster.local.livekit_server import LivekitServer
from cluster.settings import LivekitSettings
from tests.fixtures.local import room_name

HZ = 48_000


class Microphone:
    """A participant who hums."""

    def __init__(self) -> None:
        self._room = rtc.Room()
        self._source = rtc.AudioSource(HZ, 1)
        self._sid = ""
        self.amplitude = 2_000

    async def join(self, livekit: LivekitServer, room: str) -> None:
        """Come in."""
        token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity("caller")
        await self._room.connect(livekit.url, token.with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt())

    async def publish_anew(self) -> None:
        """Another track, and the one before is gone."""
        if self._sid:
            await self._room.local_participant.unpublish_track(self._sid)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        self._sid = (await self._room.local_participant.publish_track(track, rtc.TrackPublishOptions())).sid

    async def hum(self) -> None:
        """For ever."""
        wave = np.sin(2 * np.pi * 300 / HZ * np.arange(HZ // 10))
        while True:
            pcm = (self.amplitude * wave).astype(np.int16)
            await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), HZ, 1, len(pcm)))

    async def aclose(self) -> None:
        """Leave."""
        await self._room.disconnect()
        await self._source.aclose()


@asynccontextmanager
async def a_line(
    livekit: LivekitServer, on_pcm: Callable[[bytes, float], None]
) -> AsyncIterator[tuple[Microphone, RoomLink, asyncio.Task[None]]]:
    """Somebody hums, and somebody listens."""
    settings = LivekitSettings(url=livekit.url, api_key=livekit.api_key, api_secret=SecretStr(livekit.api_secret))
    room, link, microphone = room_name(), RoomLink(lambda _: None, lambda: None), Microphone()
    await link.join(settings, room, "agent")
    await microphone.join(livekit, room)
    listening = asyncio.create_task(CallerLine(on_pcm, lambda _: None).listen_for_ever(link))
    humming = asyncio.create_task(microphone.hum())
    try:
        yield microphone, link, listening
    finally:
        for task in (listening, humming):
            task.cancel()
        await asyncio.wait([listening, humming])
        await link.leave()
        await microphone.aclose()


async def test_a_caller_whose_track_is_replaced_is_still_heard(livekit: LivekitServer) -> None:
    """By another one of the caller, or since our own connection was lost, with which every track goes."""
    heard, wanted = asyncio.Event(), 0

    def hear(_pcm: bytes, level: float) -> None:
        if level > wanted / 2:
            heard.set()

    async def is_heard(amplitude: int) -> None:
        nonlocal wanted
        wanted = microphone.amplitude = amplitude
        heard.clear()
        async with asyncio.timeout(15):
            await heard.wait()

    async with a_line(livekit, hear) as (microphone, link, _):
        await microphone.publish_anew()
        await is_heard(2_000)
        reconnected = asyncio.Event()
        link._room.on("reconnected", reconnected.set)
        await link._room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
        async with asyncio.timeout(15):
            await reconnected.wait()
        await is_heard(6_000)
        await microphone.publish_anew()
        await is_heard(18_000)


async def test_a_fault_in_what_hears_the_caller_is_not_kept_quiet(livekit: LivekitServer) -> None:
    """Else the call would go on deaf."""

    def fail(_pcm: bytes, _level: float) -> None:
        raise ZeroDivisionError

    async with a_line(livekit, fail) as (microphone, _, listening):
        await microphone.publish_anew()
        async with asyncio.timeout(15):
            await asyncio.wait([listening])
        with pytest.raises(ExceptionGroup) as raised:
            await listening
        assert isinstance(first_fault(raised.value), ZeroDivisionError)
