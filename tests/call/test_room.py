"""The agent's place in the room."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import api, rtc
from pydantic import SecretStr

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call.room import SETTLED_S, RoomLink, unsettled_s
from cluster.local.livekit_server import LivekitServer
from cluster.settings import LivekitSettings
from tests.fixtures.web_caller import WebCaller

NOON = 1_800_000_000.0


@pytest.mark.parametrize(
    ("ours", "theirs", "began", "now", "expected"),
    [
        # The phone came in 70 ms before us, and our connection is 20 ms old.
        (0.070, [0.0], 0.060, 0.090, SETTLED_S - 0.090),
        # Who came last counts.
        (0.070, [0.0, 0.050], 0.060, 0.090, SETTLED_S - 0.040),
        # One came in while we did.
        (0.070, [0.080], 0.060, 0.090, SETTLED_S - 0.010),
        # It has been there for long.
        (0.070, [-10.0], 0.060, 0.090, 0.0),
        # LiveKit's clock is an hour ahead or behind: we came in after we began, and before now.
        (3600.070, [3600.0], 0.060, 0.090, SETTLED_S - 0.070),
        (-3599.930, [-3600.0], 0.060, 0.090, SETTLED_S - 0.100),
        # Never longer than a whole one, whatever the server says.
        (0.070, [5.0], 0.060, 0.090, SETTLED_S),
        # Nobody is there, or the server does not say since when.
        (0.070, [], 0.060, 0.090, 0.0),
        (0.070, [None], 0.060, 0.090, 0.0),
        (None, [0.0], 0.060, 0.090, 0.0),
    ],
)
def test_how_long_a_phone_needs_until_it_can_be_offered_a_track(
    ours: float | None, theirs: list[float | None], began: float, now: float, expected: float
) -> None:
    """By LiveKit's clock and our own."""
    at = None if ours is None else NOON + ours
    others = [None if each is None else NOON + each for each in theirs]
    assert unsettled_s(at, others, NOON + began, NOON + now) == pytest.approx(expected, abs=1e-5)


async def test_a_track_is_published_when_the_phone_can_be_offered_it(livekit: LivekitServer) -> None:
    """Not sooner after its joining, where the offer would wait for longer."""
    settings = LivekitSettings(url=livekit.url, api_key=livekit.api_key, api_secret=SecretStr(livekit.api_secret))
    caller, link, source = WebCaller(), RoomLink(lambda _: None, lambda: None), rtc.AudioSource(24_000, 1)
    await caller.join(livekit, "settles")
    await link.join(settings, "settles", "agent-settles")
    await link.publish(rtc.LocalAudioTrack.create_audio_track("agent", source))
    published_at = time.time()
    async with api.LiveKitAPI(livekit.url, livekit.api_key, livekit.api_secret) as client:
        there = (await client.room.list_participants(api.ListParticipantsRequest(room="settles"))).participants
    joined_ms = next(each.joined_at_ms for each in there if each.identity == "caller")
    assert published_at - joined_ms / 1000 >= SETTLED_S - 0.001
    await link.take_back()
    await link.leave()
    await source.aclose()
    await caller.leave()


async def test_a_track_that_nobody_asks_for_is_offered_again(
    livekit: LivekitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone that missed the first offers hears the agent all the same."""
    monkeypatch.setattr("cluster.call.room.OFFER_AGAIN_S", 0.2)
    settings = LivekitSettings(url=livekit.url, api_key=livekit.api_key, api_secret=SecretStr(livekit.api_secret))
    phone, link, source = rtc.Room(), RoomLink(lambda _: None, lambda: None), rtc.AudioSource(24_000, 1)
    offered: list[str] = []

    def ask_for_the_third(publication: rtc.RemoteTrackPublication, _agent: rtc.RemoteParticipant) -> None:
        offered.append(publication.sid)
        if len(offered) == 3:
            publication.set_subscribed(True)

    phone.on("track_published", ask_for_the_third)
    grants = api.VideoGrants(room_join=True, room="misses")
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity("caller").with_grants(grants)
    await phone.connect(livekit.url, token.to_jwt(), rtc.RoomOptions(auto_subscribe=False))
    await link.join(settings, "misses", "agent-misses")

    def new_track() -> rtc.LocalAudioTrack:
        return rtc.LocalAudioTrack.create_audio_track("agent", source)

    publication = await link.publish(new_track())
    async with asyncio.timeout(20):
        await link.until_heard(publication, new_track)
    assert len(set(offered)) == 3
    await link.take_back()
    await link.leave()
    await source.aclose()
    await phone.disconnect()


def a_phone(sid: str, status: str | None = "active") -> Any:
    """One connection of the phone that is called, which has gone if anybody asks why."""
    return SimpleNamespace(
        kind=rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
        identity="sip_+14155550199",
        sid=sid,
        attributes={} if status is None else {"sip.callStatus": status},
        disconnect_reason=rtc.DisconnectReason.USER_REJECTED,
    )


async def test_a_phone_that_is_dialled_again_has_not_gone() -> None:
    """The first try was refused; that it left is no news of the one who answers the second."""
    told: list[ev.Event] = []
    link = RoomLink(told.append, lambda: None)
    link.begin_dialling()
    refused = a_phone("PA_1", "dialing")
    link._on_joined(refused)
    link._on_left(refused)
    link._on_joined(a_phone("PA_2"))
    link.end_dialling()
    assert told == [ev.PhoneAnswered()]


def a_link(told: list[ev.Event], *, answers: bool) -> RoomLink:
    """The place of an agent that is audible."""
    link = RoomLink(told.append, lambda: None)
    link._line_open, link._answers = True, answers
    return link


async def test_a_phone_that_is_dialled_has_not_answered_before_it_says_so() -> None:
    """It comes into the room without a status, which follows: nobody is there yet who could be greeted."""
    told: list[ev.Event] = []
    link = a_link(told, answers=False)
    phone = a_phone("PA_1", None)
    link._on_joined(phone)
    for status in ("dialing", "ringing"):
        phone.attributes["sip.callStatus"] = status
        link._on_attributes({}, phone)
    assert told == [ev.PhoneRinging()]
    phone.attributes["sip.callStatus"] = "active"
    link._on_attributes({}, phone)
    assert told[1:] == [ev.PhoneAnswered()]


@pytest.mark.parametrize("status", [None, "ringing", "active"])
async def test_a_phone_that_calls_is_answered_by_an_audible_agent(status: str | None) -> None:
    """Whatever it says of itself yet."""
    told: list[ev.Event] = []
    a_link(told, answers=True)._on_joined(a_phone("PA_1", status))
    assert told == [ev.PhoneAnswered()]


async def test_a_phone_that_left_while_its_answer_was_on_the_way_has_gone() -> None:
    """Whoever dials is told only now."""
    told: list[ev.Event] = []
    link = RoomLink(told.append, lambda: None)
    link.begin_dialling()
    phone = a_phone("PA_1")
    link._on_joined(phone)
    link._on_left(phone)
    assert told == [ev.PhoneAnswered()]
    link.end_dialling()
    assert told[1:] == [ev.PhoneGone(o.CALLER_HUNG_UP)]


async def test_a_connection_of_the_phone_that_was_replaced_may_leave() -> None:
    """The phone is there by another one."""
    told: list[ev.Event] = []
    link = RoomLink(told.append, lambda: None)
    old, new = a_phone("PA_1"), a_phone("PA_2")
    link._on_joined(old)
    link._on_joined(new)
    link._on_left(old)
    assert ev.PhoneGone(o.CALLER_HUNG_UP) not in told
    link._on_left(new)
    assert told[-1] == ev.PhoneGone(o.CALLER_HUNG_UP)


async def test_a_room_that_is_closed_over_nobody_was_left_early() -> None:
    """The phone was gone before the agent came in: no connection was lost."""
    told: list[ev.Event] = []
    link = RoomLink(told.append, lambda: None)
    link._on_disconnected(rtc.DisconnectReason.ROOM_CLOSED)
    assert told == [ev.PhoneGone(o.CALLER_LEFT_EARLY)]
    link._on_joined(a_phone("PA_1"))
    link._on_disconnected(rtc.DisconnectReason.ROOM_CLOSED)
    assert told[-1] == ev.PhoneGone(o.CONNECTION_LOST)


async def test_only_the_callers_keys_are_heard() -> None:
    """Not those of somebody else in the room, and nothing that is no key."""
    told: list[ev.Event] = []
    link = RoomLink(told.append, lambda: None)
    phone, other = a_phone("PA_1", "ringing"), a_phone("PA_2")
    other.identity = "somebody"
    link._on_key(rtc.SipDTMF(code=1, digit="1", participant=phone))
    link._on_joined(phone)
    told.clear()
    for digit, by in (("1", phone), ("2", other), ("3", None), ("", phone), ("12", phone), ("#", phone)):
        link._on_key(rtc.SipDTMF(code=1, digit=digit, participant=by))
    assert told == [ev.KeyPressed("1"), ev.KeyPressed("#")]
