"""Dialling out through the simulated carrier, as the real SIP API of livekit-server 1.11 was seen to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit import api, rtc
from livekit.protocol import sip as pb

from cluster.local.carrier import Ending
from tests.fixtures.local import TRUNK_NUMBER, AgentIn, Exchange, room_name

ANSWERS = "+14155550204"


@pytest.mark.parametrize(
    ("digits", "code", "http", "sip"),
    [
        ("0486", "resource_exhausted", 429, (486, "Busy Here")),
        ("0603", "permission_denied", 403, (603, "Decline")),
        ("0480", "resource_exhausted", 429, (480, "Temporarily Unavailable")),
        ("0404", "not_found", 404, (404, "Not Found")),
        ("0403", "permission_denied", 403, (403, "Forbidden")),
        ("0488", "invalid_argument", 400, (488, "Not Acceptable Here")),
        ("0500", "failed_precondition", 412, (500, "Server Internal Error")),
        ("0503", "failed_precondition", 412, (503, "CPS limit exceeded")),
    ],
)
async def test_refused_calls_carry_the_sip_status(
    exchange: Exchange, digits: str, code: str, http: int, sip: tuple[int, str]
) -> None:
    """A final SIP status comes back as SipCallError with LiveKit's code for it, and the leg leaves as rejected."""
    with pytest.raises(api.SipCallError) as failure:
        await exchange.sip.create_sip_participant(exchange.wish(f"+1415555{digits}", room_name()))
    assert (failure.value.code, failure.value.status) == (code, http)
    assert (failure.value.sip_status_code, failure.value.sip_status) == sip
    assert failure.value.message == f"twirp error unknown: INVITE failed: sip status: {sip[0]}: {sip[1]}"
    assert failure.value.metadata["error_details"]
    (log,) = exchange.carrier.calls
    assert (log.sip_status, log.ending, log.answered_s) == (sip[0], Ending.REFUSED, None)


@pytest.mark.parametrize(
    ("digits", "code", "http", "message"),
    [
        ("0408", "canceled", 408, "twirp error unknown: sip request timed out"),
        ("0504", "canceled", 408, "twirp error unknown: sip request timed out"),
        ("0407", "failed_precondition", 412, "twirp error unknown: INVITE failed: server required auth"),
        ("0599", "unavailable", 503, "twirp error unknown: cpu exhausted"),
    ],
)
async def test_failures_without_a_final_status_are_plain_errors(
    exchange: Exchange, digits: str, code: str, http: int, message: str
) -> None:
    """Ringing out, no response, missing credentials and an overloaded service have no SIP status to show."""
    wish = exchange.wish(f"+1415555{digits}", room_name())
    wish.ringing_timeout.FromMilliseconds(700)
    with pytest.raises(api.ServerError) as failure:
        await exchange.sip.create_sip_participant(wish)
    assert not isinstance(failure.value, api.SipCallError)
    assert (failure.value.code, failure.value.status) == (code, http)
    assert failure.value.message.startswith(message)


async def test_unknown_trunk_is_not_found_without_meta(exchange: Exchange) -> None:
    """A trunk that does not exist differs from SIP 404 by its class only."""
    with pytest.raises(api.ServerError) as failure:
        await exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room_name(), sip_trunk_id="ST_none"))
    assert not isinstance(failure.value, api.SipCallError)
    assert (failure.value.code, failure.value.status, failure.value.metadata) == ("not_found", 404, {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sip_trunk_id": ""}, "missing sip trunk id"),
        ({"sip_call_to": ""}, "missing sip callee number"),
        ({"sip_call_to": "sip:a@b"}, "SipCallTo should be a phone number or SIP user, not a full SIP URI"),
        ({"room_name": ""}, "missing room name"),
        (
            {"trunk": pb.SIPOutboundConfig(hostname="sip:host")},
            "trunk hostname should be a hostname or IP, not SIP URI",
        ),
        ({"display_name": "x" * 129}, "DisplayName too long (max 128 characters)"),
    ],
)
async def test_requests_that_cannot_be_meant_are_rejected(
    exchange: Exchange, fields: dict[str, Any], message: str
) -> None:
    """Validation comes before any call, with the real service's words."""
    wish = exchange.wish(ANSWERS, room_name())
    wish.MergeFrom(pb.CreateSIPParticipantRequest(**fields))
    for name, value in fields.items():
        if value == "":
            wish.ClearField(name)
    with pytest.raises(api.ServerError) as failure:
        await exchange.sip.create_sip_participant(wish)
    assert (failure.value.code, failure.value.message) == ("invalid_argument", message)
    assert exchange.carrier.calls == ()


async def test_answered_leg_is_a_sip_participant_with_the_real_attributes(
    exchange: Exchange, agent_in: AgentIn
) -> None:
    """Kind, identity, name and every sip attribute are there."""
    room = room_name()
    agent = await agent_in(room)
    wish = exchange.wish(ANSWERS, room, participant_metadata="m", participant_attributes={"crm": "7"})
    info = await exchange.sip.create_sip_participant(wish)
    await agent.until(lambda a: a.statuses[-1:] == ["active"])
    phone = agent.phone
    assert agent.statuses[-2:] == ["ringing", "active"]
    assert phone.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    assert (phone.identity, phone.name, phone.metadata, phone.sid) == (
        f"sip_{ANSWERS}",
        f"Phone {ANSWERS}",
        "m",
        info.participant_id,
    )
    attributes = dict(phone.attributes)
    assert info.sip_call_id.startswith("SCL_")
    assert attributes.pop("sip.callIDFull")
    assert attributes.pop("sip.callTag")
    assert attributes == {
        "crm": "7",
        "sip.callID": info.sip_call_id,
        "sip.callStatus": "active",
        "sip.phoneNumber": ANSWERS,
        "sip.trunkPhoneNumber": TRUNK_NUMBER,
        "sip.hostname": "sip.example.com",
        "sip.trunkID": exchange.trunk_id,
    }


async def test_hidden_number_and_inline_trunk(exchange: Exchange, agent_in: AgentIn) -> None:
    """hide_phone_number drops what tells the numbers, and a trunk in the request needs no stored one."""
    room = room_name()
    agent = await agent_in(room)
    inline = pb.SIPOutboundConfig(hostname="sip.other.example")
    wish = exchange.wish(
        ANSWERS, room, trunk=inline, sip_number="+14155550101", sip_trunk_id="", hide_phone_number=True
    )
    await exchange.sip.create_sip_participant(wish)
    await agent.until(lambda a: a.statuses[-1:] == ["active"])
    assert not {"sip.phoneNumber", "sip.trunkPhoneNumber", "sip.hostname"} & set(agent.phone.attributes)
    assert agent.phone.attributes["sip.trunkID"] == ""


async def test_unanswered_leg_rings_with_a_published_track_and_leaves_as_unavailable(
    exchange: Exchange, agent_in: AgentIn
) -> None:
    """While it rings the phone is in the room with a track; when the ringing timeout ends it, its reason is 11."""
    room = room_name()
    agent = await agent_in(room)
    wish = exchange.wish("+14155550408", room, wait_until_answered=False)
    wish.ringing_timeout.FromSeconds(3)
    await exchange.sip.create_sip_participant(wish)
    await agent.until(lambda a: a.statuses[-1:] == ["ringing"] and a.phone.track_publications)
    await agent.until(lambda a: a.left_for)
    assert agent.left_for == [rtc.DisconnectReason.USER_UNAVAILABLE]


async def test_leg_without_any_response_stays_dialing(exchange: Exchange, agent_in: AgentIn) -> None:
    """Until the first response the status is dialing, and the track is there already."""
    room = room_name()
    agent = await agent_in(room)
    wish = exchange.wish("+14155550504", room, wait_until_answered=False)
    wish.ringing_timeout.FromMilliseconds(600)
    await exchange.sip.create_sip_participant(wish)
    await agent.until(lambda a: a.left_for)
    assert agent.statuses == ["dialing"]


async def test_declined_leg_leaves_as_rejected(exchange: Exchange, agent_in: AgentIn) -> None:
    """Those in the room see a declined call as USER_REJECTED."""
    room = room_name()
    agent = await agent_in(room)
    with pytest.raises(api.SipCallError):
        await exchange.sip.create_sip_participant(exchange.wish("+14155550603", room))
    await agent.until(lambda a: a.left_for)
    assert agent.left_for == [rtc.DisconnectReason.USER_REJECTED]


async def test_cancelled_request_does_not_cancel_the_call(exchange: Exchange, agent_in: AgentIn) -> None:
    """The phone is answered although nobody waits for it any more, as with the real service."""
    room = room_name()
    agent = await agent_in(room)
    asking = asyncio.create_task(exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room)))
    await agent.until(lambda a: a.statuses)
    asking.cancel()
    await agent.until(lambda a: a.statuses[-1:] == ["active"])


async def test_deleted_room_hangs_the_phone_up_even_while_it_rings(exchange: Exchange, agent_in: AgentIn) -> None:
    """The wait ends in an error and the carrier's log names the reason."""
    room = room_name()
    agent = await agent_in(room)
    asking = asyncio.create_task(exchange.sip.create_sip_participant(exchange.wish("+14155550408", room)))
    await agent.until(lambda a: a.statuses[-1:] == ["ringing"])
    await exchange.rooms.room.delete_room(api.DeleteRoomRequest(room=room))
    with pytest.raises(api.ServerError) as failure:
        await asking
    assert failure.value.code == "canceled"
    assert exchange.carrier.calls[-1].ending is Ending.ROOM_DELETED


async def test_removed_participant_is_a_bye(exchange: Exchange, agent_in: AgentIn) -> None:
    """remove_participant ends the phone's call; its status stays active for the others."""
    room = room_name()
    agent = await agent_in(room)
    info = await exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room))
    call = exchange.carrier.live(info.sip_call_id)
    await agent.until(lambda a: a.statuses[-1:] == ["active"])
    who = api.RoomParticipantIdentity(room=room, identity=info.participant_identity)
    await exchange.rooms.room.remove_participant(who)
    log = await call.ended
    assert (log.ending, log.sip_status) == (Ending.REMOVED, 200)
    await agent.until(lambda a: a.left_for)
    assert agent.left_for == [rtc.DisconnectReason.PARTICIPANT_REMOVED]
    assert agent.statuses[-1] == "active"


async def test_phone_that_hangs_up_shows_it_and_leaves(exchange: Exchange, agent_in: AgentIn) -> None:
    """The status becomes hangup, then the participant leaves of its own will."""
    room = room_name()
    agent = await agent_in(room)
    info = await exchange.sip.create_sip_participant(exchange.wish("+14155550202", room))
    log = await exchange.carrier.live(info.sip_call_id).ended
    await agent.until(lambda a: a.left_for)
    assert agent.statuses[-3:] == ["ringing", "active", "hangup"]
    assert agent.left_for == [rtc.DisconnectReason.CLIENT_INITIATED]
    assert log.ending is Ending.PHONE_HUNG_UP


async def test_digits_of_the_request_are_sent_before_the_call_is_active(exchange: Exchange, agent_in: AgentIn) -> None:
    """With dtmf the leg is in automation first, and the answer comes after it."""
    room = room_name()
    agent = await agent_in(room)
    info = await exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room, dtmf="w12#"))
    assert exchange.carrier.live(info.sip_call_id).log.digits_heard == "12#"
    await agent.until(lambda a: a.statuses[-3:] == ["ringing", "automation", "active"])


async def test_max_call_duration_ends_the_call(exchange: Exchange, agent_in: AgentIn) -> None:
    """The limit counts from the INVITE on."""
    room = room_name()
    await agent_in(room)
    wish = exchange.wish(ANSWERS, room)
    wish.max_call_duration.FromSeconds(4)
    info = await exchange.sip.create_sip_participant(wish)
    log = await exchange.carrier.live(info.sip_call_id).ended
    assert log.ending is Ending.MAX_DURATION
    assert log.ended_s is not None
    assert log.ended_s >= 4


async def test_calls_over_the_limit_per_second_are_refused(exchange: Exchange) -> None:
    """One of two calls at once to a number that takes one per second gets 503."""
    wishes = [exchange.sip.create_sip_participant(exchange.wish("+14155550429", room_name())) for _ in range(2)]
    answers = await asyncio.gather(*wishes, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, api.SipCallError)]
    assert [error.sip_status_code for error in refused] == [503]


@pytest.mark.parametrize(
    ("to", "code", "sip"),
    [
        ("tel:+14155550486", "resource_exhausted", 486),
        ("tel:+14155550603", "permission_denied", 603),
        ("tel:+14155550408", "deadline_exceeded", None),
        ("+14155550204", "invalid_argument", None),
    ],
)
async def test_failed_transfer_keeps_the_call(exchange: Exchange, to: str, code: str, sip: int | None) -> None:
    """The number transferred to decides; whatever it says, the caller stays on the line."""
    room = room_name()
    info = await exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room))
    wish = pb.TransferSIPParticipantRequest(
        room_name=room, participant_identity=info.participant_identity, transfer_to=to
    )
    wish.ringing_timeout.FromMilliseconds(800)
    with pytest.raises(api.ServerError) as failure:
        await exchange.sip.transfer_sip_participant(wish)
    assert failure.value.code == code
    assert getattr(failure.value, "sip_status_code", None) == sip
    assert exchange.carrier.live(info.sip_call_id).log.status == "active"


async def test_transfer_ends_the_phones_call(exchange: Exchange) -> None:
    """A transfer that is taken gives an empty answer and the leg goes; one without a phone is invalid."""
    room = room_name()
    info = await exchange.sip.create_sip_participant(exchange.wish(ANSWERS, room))
    call = exchange.carrier.live(info.sip_call_id)
    wish = pb.TransferSIPParticipantRequest(
        room_name=room, participant_identity=info.participant_identity, transfer_to="sip:+14155550123@pbx.example"
    )
    assert await exchange.sip.transfer_sip_participant(wish) == pb.TransferSIPParticipantResponse()
    assert (await call.ended).ending is Ending.TRANSFERRED
    with pytest.raises(api.ServerError, match="no SIP session associated with participant"):
        await exchange.sip.transfer_sip_participant(wish)
