"""A phone's leg: a participant of kind SIP in a room, with the track, the attributes and the status of a real one.

What livekit-sip does and this does too: the leg joins and publishes before it rings, the room hears silence until the
answer, a hang-up shows as the status `hangup` and then as a participant that left of its own will.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from livekit import api, rtc

from cluster.call.engine import connect
from cluster.local.carrier.routing import Place

SPEECH_HZ: Final = 8000
"""The bandwidth of a telephone line."""
_QUEUE_MS: Final = 60_000
_TONE_CODES: Final = {**{str(digit): digit for digit in range(10)}, "*": 10, "#": 11}
_LEAVE_WITHIN_S: Final = 3.0
_SHOW_WITHIN_S: Final = 2.0


class Status(StrEnum):
    """`sip.callStatus`."""

    DIALING = "dialing"
    RINGING = "ringing"
    AUTOMATION = "automation"
    """Answered; the digits that came with the request are being sent."""
    ACTIVE = "active"
    HANGUP = "hangup"


class Event(StrEnum):
    """What moves a leg on."""

    RINGS = "rings"
    ANSWERED = "answered"
    ANSWERED_WITH_DIGITS = "answered-with-digits"
    DIGITS_SENT = "digits-sent"
    ENDED = "ended"


TRANSITIONS: Final[Mapping[Status, Mapping[Event, Status]]] = {
    Status.DIALING: {Event.RINGS: Status.RINGING, Event.ENDED: Status.HANGUP},
    Status.RINGING: {
        Event.ANSWERED: Status.ACTIVE,
        Event.ANSWERED_WITH_DIGITS: Status.AUTOMATION,
        Event.ENDED: Status.HANGUP,
    },
    Status.AUTOMATION: {Event.DIGITS_SENT: Status.ACTIVE, Event.ENDED: Status.HANGUP},
    Status.ACTIVE: {Event.ENDED: Status.HANGUP},
    Status.HANGUP: {},
}


class IllegalEvent(RuntimeError):
    """The leg's table does not have this event in this state."""


def after(status: Status, event: Event) -> Status:
    """The state that ``event`` leads to. Raises IllegalEvent."""
    if event not in TRANSITIONS[status]:
        raise IllegalEvent(f"a leg that is {status} can't have {event}")
    return TRANSITIONS[status][event]


class RoomUnreachable(Exception):
    """The room could not be joined. The cause is left out: LiveKit's errors hold the token."""


@dataclass(frozen=True, slots=True)
class Livekit:
    """The LiveKit server whose rooms the phones join."""

    url: str
    api_key: str
    api_secret: str = field(repr=False)


class Leg:
    """One participant of kind SIP. `on_digit` gets each key that somebody in the room presses."""

    def __init__(self, livekit: Livekit, place: Place, *, media: bool, on_digit: Callable[[str], None]) -> None:
        """``media`` False is for load tests: a track without sound is published and nothing is subscribed."""
        self._livekit = livekit
        self._place = place
        self._media = media
        self._on_digit = on_digit
        self._room = rtc.Room()
        loop = asyncio.get_running_loop()
        self.agent_audible = asyncio.Event()
        """Set once somebody in the room publishes audio."""
        self.gone: asyncio.Future[int] = loop.create_future()
        """Done with LiveKit's disconnect reason when the room ends this leg."""
        self.subscribed_at: float | None = None
        """Monotonic seconds at which audio of somebody in the room was first subscribed to."""
        self._track: rtc.RemoteAudioTrack | None = None
        self._track_changed = asyncio.Event()
        self._source = rtc.AudioSource(SPEECH_HZ, 1, queue_size_ms=_QUEUE_MS if media else 0)
        self._room.on("sip_dtmf_received", self._on_dtmf)
        self._room.on("disconnected", self._on_disconnected)
        self._room.on("track_published", self._on_published)
        self._room.on("track_subscribed", self._on_subscribed)
        self._room.on("track_unsubscribed", self._on_unsubscribed)

    async def join(self, status: Status, extra: Mapping[str, str]) -> str:
        """Connect, take ``status``, publish the track and give the participant's sid. Raises RoomUnreachable."""
        try:
            options = rtc.RoomOptions(auto_subscribe=self._media)
            await connect(self._room, self._livekit.url, self._token(extra), options)
        except rtc.ConnectError:
            raise RoomUnreachable("the carrier could not join the room; check LiveKit's URL and keys") from None
        await self.show(status)  # some 20 ms after the others have seen it come in, as livekit-sip does (1.0, measured)
        track = rtc.LocalAudioTrack.create_audio_track("sip-audio", self._source)
        voice = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False, red=False)
        await self._room.local_participant.publish_track(track, voice)
        if not self._media:
            await self._announce()
        return self._room.local_participant.sid

    async def show(self, status: Status) -> None:
        """Set `sip.callStatus`."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_SHOW_WITHIN_S):
                await self._room.local_participant.set_attributes({"sip.callStatus": status})

    async def say(self, pcm16: bytes) -> None:
        """Queue speech of PCM16 at ``SPEECH_HZ``; it is on the line from the next 10 ms on, and silence after it."""
        await self._source.capture_frame(rtc.AudioFrame(pcm16, SPEECH_HZ, 1, len(pcm16) // 2))

    async def press(self, digit: str) -> None:
        """Send one key to the room."""
        await self._room.local_participant.publish_dtmf(code=_TONE_CODES[digit], digit=digit)

    async def sounds(self, hz: int, frame_ms: int) -> AsyncGenerator[bytes | memoryview, None]:
        """What the room's newest audio track sounds like, PCM16 mono in frames. Ends with the leg."""
        while not self.gone.done():
            await self._track_changed.wait()
            self._track_changed.clear()
            if self._track is None:
                continue
            stream = rtc.AudioStream(self._track, sample_rate=hz, num_channels=1, frame_size_ms=frame_ms)
            # A stream outlives its track without a sound and without an end, so the change is awaited beside it.
            changed = asyncio.ensure_future(self._track_changed.wait())
            frame = asyncio.ensure_future(anext(stream))
            try:
                while True:
                    await asyncio.wait({frame, changed}, return_when=asyncio.FIRST_COMPLETED)
                    if changed.done():
                        break
                    yield frame.result().frame.data
                    frame = asyncio.ensure_future(anext(stream))
            finally:
                changed.cancel()
                frame.cancel()
                await asyncio.gather(changed, frame, return_exceptions=True)
                await stream.aclose()

    async def leave(self, reason: rtc.DisconnectReason.ValueType) -> None:
        """Leave the room, giving this reason; does nothing if the room has ended the leg already."""
        if not self.gone.done():
            self.gone.set_result(reason)
        self._track_changed.set()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await self._room.disconnect(reason=reason)
        await self._source.aclose()

    def _token(self, extra: Mapping[str, str]) -> str:
        place = self._place
        grants = api.VideoGrants(room_join=True, room=place.room, can_update_own_metadata=True)
        token = (
            api.AccessToken(self._livekit.api_key, self._livekit.api_secret)
            .with_kind("sip")
            .with_identity(place.identity)
            .with_name(place.name)
            .with_metadata(place.metadata)
            .with_attributes({**place.attributes, **extra})
            .with_grants(grants)
        )
        if place.room_config is not None:
            token = token.with_room_config(place.room_config)
        return token.to_jwt()

    async def _announce(self) -> None:
        # A track is announced to the room with its first packet.
        silence = rtc.AudioFrame.create(SPEECH_HZ, 1, SPEECH_HZ // 100)
        for _ in range(5):
            await self._source.capture_frame(silence)

    def _on_dtmf(self, dtmf: rtc.SipDTMF) -> None:
        self._on_digit(dtmf.digit)

    def _on_disconnected(self, reason: rtc.DisconnectReason.ValueType) -> None:
        if not self.gone.done():
            self.gone.set_result(reason)
        self._track_changed.set()

    def _on_published(self, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant) -> None:
        if publication.kind == rtc.TrackKind.KIND_AUDIO and not self._media:
            self.agent_audible.set()

    def _on_subscribed(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant
    ) -> None:
        if isinstance(track, rtc.RemoteAudioTrack):
            self.subscribed_at = self.subscribed_at or time.monotonic()
            self._track = track
            self._track_changed.set()
            self.agent_audible.set()

    def _on_unsubscribed(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant
    ) -> None:
        if self._track is not None and track.sid == self._track.sid:
            self._track = None
            self._track_changed.set()
