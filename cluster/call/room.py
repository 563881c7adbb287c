"""The LiveKit room of one call: joining it, hearing the caller, being heard, and ending it.

What is measured about LiveKit and shapes this file: a participant that leaves during somebody's full reconnect does
so without a reason, so no reason is no leaving; an `AudioStream` does not end by itself; an agent that just leaves
does not hang up, only deleting the room does; LiveKit's errors carry the whole token, so none of them gets out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from livekit import api, rtc
from livekit.rtc.participant import PublishTrackError, UnpublishTrackError

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call.engine import connect
from cluster.call.keypad import KEYS
from cluster.call.quality import LineStats
from cluster.telephony.dialling import outcome_of_disconnect

if TYPE_CHECKING:
    from cluster.outcome import Outcome
    from cluster.settings import LivekitSettings

TOKEN_TTL_S = 6 * 3600
"""Matters only while (re)connecting; longer than any call."""
EMPTY_TIMEOUT_S = 60
DEPARTURE_TIMEOUT_S = 20
VOICE_BITRATE_BPS = 96_000
"""Opus encodes speech below some 60 kbit/s by its linear predictor, for 2.3 % of a core at all times, and above by its
transform codec, for 1.0 % while the agent talks and 0.8 % while not (measured). The phone gets LiveKit's own codec."""
SETTLED_S = 0.16
"""livekit-server (1.11) offers nobody anything twice within 150 ms: a track that is published sooner after a phone came
in is heard there 170 ms later, every other one after 30 ms (measured)."""
OFFER_AGAIN_S = 1.5
"""A phone subscribes within 0.2 s, one that comes in at the same time as we do within 1.1 s (measured)."""
TAKE_BACK_LIMIT_S = 1.0
LEAVE_LIMIT_S = 5.0
CALL_STATUS = "sip.callStatus"
PHONE_NUMBER = "sip.phoneNumber"
CARRIERS_IDS: Final = {"livekit": "sip.callID", "sip": "sip.callIDFull", "twilio": "sip.twilio.callSid"}
"""Under which names others know the call: LiveKit's id, the Call-ID header, and Twilio's sid."""


class RoomUnreachable(Exception):
    """The room could not be joined; the message carries no token."""


def agent_token(settings: LivekitSettings, room: str, identity: str) -> str:
    """A token of kind agent for one room; joins exactly as the one of LiveKit's own job assignment does."""
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_subscribe=True,
        can_publish_data=True,
        can_update_own_metadata=True,
        agent=True,
    )
    limits = api.RoomConfiguration(empty_timeout=EMPTY_TIMEOUT_S, departure_timeout=DEPARTURE_TIMEOUT_S)
    return (
        api.AccessToken(settings.api_key, settings.api_secret.get_secret_value())
        .with_identity(identity)
        .with_kind("agent")
        .with_ttl(timedelta(seconds=TOKEN_TTL_S))
        .with_grants(grants)
        .with_room_config(limits)
        .to_jwt()
    )


def unsettled_s(ours: float | None, theirs: Sequence[float | None], began: float, now: float) -> float:
    """How long it takes until all who were in the room before us have been there for `SETTLED_S`.

    Times are UTC seconds. `ours` and `theirs` are when we and they came in, by LiveKit's clock (None: it does not say);
    by our own clock, which may be off, we did between `began` and `now`.
    """
    known = [joined for joined in theirs if joined is not None]
    if ours is None or not known:
        return 0.0
    since_ours = now - min(max(ours, began), now)
    return min(SETTLED_S, max(0.0, SETTLED_S - (ours - max(known)) - since_ours))


class RoomLink:
    """The agent's place in the room. Everything that happens there is told to `on_event`, in order."""

    def __init__(self, on_event: Callable[[ev.Event], None], on_evicted: Callable[[], None]) -> None:
        """`on_evicted` is called when another process took this identity over: fall silent, settle nothing."""
        self._on_event = on_event
        self._on_evicted = on_evicted
        self._room = rtc.Room()
        self._identity = ""
        self._settled_at = 0.0
        self._line_open = False
        self._answers = True
        self._track_sid = ""
        self._is_dialling = False
        self._gone: ev.PhoneGone | None = None
        self._leaving = False
        self._caller_is_here = asyncio.Event()
        self.caller: rtc.RemoteParticipant | None = None
        self._new_track: deque[rtc.RemoteAudioTrack] = deque(maxlen=1)
        self._has_new_track = asyncio.Event()
        self._room.on("participant_connected", self._on_joined)
        self._room.on("participant_disconnected", self._on_left)
        self._room.on("participant_attributes_changed", self._on_attributes)
        self._room.on("track_subscribed", self._on_track)
        self._room.on("sip_dtmf_received", self._on_key)
        self._room.on("disconnected", self._on_disconnected)

    async def join(self, settings: LivekitSettings, room: str, identity: str, *, answers: bool = True) -> None:
        """Connect under `identity`. Raises `RoomUnreachable`.

        `answers`: being audible is what answers the phone; one that was dialled says itself that it was answered.
        """
        self._identity, self._answers = identity, answers
        began = time.time()
        try:
            await connect(self._room, settings.url, agent_token(settings, room, identity))
        except rtc.ConnectError:
            raise RoomUnreachable(f"could not join the room at {settings.url}; check the LiveKit keys") from None
        self._settled_at = time.monotonic() + self._unsettled_s(began)
        for participant in list(self._room.remote_participants.values()):
            self._on_joined(participant)

    def _unsettled_s(self, began: float) -> float:
        ours = self._room.local_participant.joined_at
        theirs = [participant.joined_at for participant in self._room.remote_participants.values()]
        return unsettled_s(_utc(ours), [_utc(each) for each in theirs], began, time.time())

    @property
    def caller_number(self) -> str:
        """The number of the phone that called, as SIP gives it; empty where it is not known."""
        return "" if self.caller is None else self.caller.attributes.get(PHONE_NUMBER, "")

    @property
    def carriers_ids(self) -> dict[str, str]:
        """What others call this call, by who does: `CARRIERS_IDS`, those that are known."""
        attributes = {} if self.caller is None else self.caller.attributes
        return {who: attributes[name] for who, name in CARRIERS_IDS.items() if attributes.get(name)}

    async def finds_caller(self, within_s: float) -> bool:
        """Whether the phone is in the room, or comes (back) to it in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._caller_is_here.wait()
        return self.caller is not None

    async def next_track(self) -> rtc.RemoteAudioTrack:
        """The caller's track, as soon as there is one that was not returned yet; of several, the newest."""
        await self._has_new_track.wait()
        self._has_new_track.clear()
        return self._new_track.pop()

    async def publish(self, track: rtc.LocalAudioTrack) -> rtc.LocalTrackPublication:
        """Be audible; for an inbound SIP call, this is what answers the phone. Raises `RoomUnreachable`."""
        await asyncio.sleep(self._settled_at - time.monotonic())
        publication = await self._offer(track)
        self._line_open = True
        if self.caller is not None:
            self._look_at(self.caller)
        return publication

    async def until_heard(
        self, publication: rtc.LocalTrackPublication, new_track: Callable[[], rtc.LocalAudioTrack]
    ) -> None:
        """Wait until the phone hears the published track.

        A phone that does not ask for it is offered another, ever later. When an agent takes over under the identity of
        one that died, livekit-sip may go on asking for the track of that one, and whoever answers would hear nothing
        (1.0: in 8 of 10 calls whose process was killed while the phone rang).
        """
        patience_s = OFFER_AGAIN_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await publication.wait_for_subscription()
                return
            if self.caller is not None and not self._is_dialling and self._room.isconnected():
                await self._withdraw()
                with suppress(RoomUnreachable):
                    publication = await self._offer(new_track())
                patience_s *= 2

    def begin_dialling(self) -> None:
        """From now on a phone that leaves is not news: why it was not answered is said by whoever dials, and better."""
        self._is_dialling = True

    def end_dialling(self) -> None:
        """The phone was answered; if it has gone meanwhile, that is told now."""
        self._is_dialling = False
        if self._gone is not None:
            self._on_event(self._gone)

    async def stats(self) -> LineStats | None:
        """Loss, jitter and round trip of the caller's line, or None while nothing is known yet."""
        if not self._room.isconnected():
            return None
        report = await self._room.get_rtc_stats()
        received = [
            s.inbound_rtp.received
            for s in report.publisher_stats + report.subscriber_stats
            if s.HasField("inbound_rtp")
        ]
        pairs = [s.candidate_pair.candidate_pair for s in report.publisher_stats if s.HasField("candidate_pair")]
        if not received:
            return None
        line = received[-1]
        total = line.packets_received + max(0, line.packets_lost)
        return LineStats(
            loss=max(0, line.packets_lost) / total if total else 0.0,
            jitter_ms=line.jitter * 1000,
            rtt_ms=max((p.current_round_trip_time for p in pairs), default=0.0) * 1000,
        )

    async def press(self, key: str) -> None:
        """Send one DTMF tone (0 to 9, *, #, A to D); the phone gets it as RFC 4733."""
        await self._room.local_participant.publish_dtmf(code=KEYS.index(key), digit=key)

    async def take_back(self) -> None:
        """Unpublish, while there is still a room.

        A native peer connection that is freed with a live audio source in it crashes the process (seen in one of three
        calls that ended in mid sentence).
        """
        self._leaving = True
        if self._track_sid and self._room.isconnected():
            await self._withdraw()

    async def leave(self) -> None:
        """Disconnect this process; the room and the phone stay."""
        self._leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await self._room.disconnect()

    async def _offer(self, track: rtc.LocalAudioTrack) -> rtc.LocalTrackPublication:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=True, red=False)
        options.audio_encoding.max_bitrate = VOICE_BITRATE_BPS
        try:
            publication = await self._room.local_participant.publish_track(track, options)
        except PublishTrackError as error:
            raise RoomUnreachable("the agent's track could not be published; the room may be gone") from error
        self._track_sid = publication.sid
        return publication

    async def _withdraw(self) -> None:
        with suppress(UnpublishTrackError, TimeoutError):
            async with asyncio.timeout(TAKE_BACK_LIMIT_S):
                await self._room.local_participant.unpublish_track(self._track_sid)

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            return
        # After a full reconnect of the caller, or when it is dialled again, the same identity comes with a new sid.
        if self.caller is None or self.caller.identity == participant.identity:
            self.caller, self._gone = participant, None
            self._caller_is_here.set()
            self._look_at(participant)

    def _on_attributes(self, _changed: dict[str, str], participant: rtc.Participant) -> None:
        if self.caller is not None and participant.identity == self.caller.identity:
            self._look_at(participant)

    def _look_at(self, participant: rtc.Participant) -> None:
        """Tell the call where the phone stands.

        Who calls is answered by our being audible, and livekit-sip tells the phone of it some 60 ms later: a greeting
        that is asked for at once is heard so much sooner. A phone that is dialled comes in without a status, and has
        one 20 ms later (both measured with 1.0).
        """
        status = participant.attributes.get(CALL_STATUS)
        waits = status == "ringing" or (status is None and self._answers)
        if status == "hangup":
            self._is_gone(o.CALLER_HUNG_UP)
        elif status == "active" or (waits and self._answers and self._line_open):
            self._on_event(ev.PhoneAnswered())
        elif waits:
            self._on_event(ev.PhoneRinging())

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if self.caller is None or participant.sid != self.caller.sid:
            return
        reason = participant.disconnect_reason
        if reason is None:
            return
        answered = participant.attributes.get(CALL_STATUS) in {"active", "hangup", None}
        ending = outcome_of_disconnect(rtc.DisconnectReason.Name(reason), answered)
        if ending is not None:
            self._is_gone(ending)

    def _is_gone(self, ending: Outcome) -> None:
        self._gone = ev.PhoneGone(ending)
        if not self._is_dialling:
            self._on_event(self._gone)

    def _on_track(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        is_caller = self.caller is None or participant.identity == self.caller.identity
        if isinstance(track, rtc.RemoteAudioTrack) and is_caller:
            self._new_track.append(track)
            self._has_new_track.set()

    def _on_key(self, pressed: rtc.SipDTMF) -> None:
        by, caller = pressed.participant, self.caller
        is_callers = by is not None and caller is not None and by.identity == caller.identity
        if is_callers and pressed.digit in set(KEYS):
            self._on_event(ev.KeyPressed(pressed.digit))

    def _on_disconnected(self, reason: int) -> None:
        if self._leaving:
            return
        if reason == rtc.DisconnectReason.DUPLICATE_IDENTITY:
            self._on_evicted()
        elif reason in {rtc.DisconnectReason.ROOM_DELETED, rtc.DisconnectReason.PARTICIPANT_REMOVED}:
            self._on_event(ev.PhoneGone(o.HUNG_UP_BY_API))
        elif reason == rtc.DisconnectReason.ROOM_CLOSED and self.caller is None:
            # Whoever rang had given up before we came in, and after a while LiveKit gave up on the room.
            self._on_event(ev.PhoneGone(o.CALLER_LEFT_EARLY))
        else:
            self._on_event(ev.PhoneGone(o.CONNECTION_LOST))


def _utc(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
