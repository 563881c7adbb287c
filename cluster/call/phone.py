"""Dialling out and handing over: requests to LiveKit's SIP API, answered by a phone or by a reason why not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from livekit import api
from livekit.api.sip_service import SipService
from livekit.protocol.sip import CreateSIPParticipantRequest, SIPTransferStatus, TransferSIPParticipantRequest

from cluster.telephony.dialling import DialFailure, outcome_of_dial_error

if TYPE_CHECKING:
    from cluster.messages import Assignment
    from cluster.settings import DispatchSettings, LivekitSettings


class DialFailed(Exception):
    """The phone was not answered; `failure` says why and whose doing it was."""

    def __init__(self, failure: DialFailure) -> None:
        super().__init__(str(failure.outcome))
        self.failure = failure


DIAL_TRIES = 3
RETRY_AFTER_S = 1.1
"""A trunk's limit is counted in calls per second."""
VERDICT_WITHIN_S = 15.0
"""After the ringing limit. Who gives up before LiveKit has said what came of the call does not know whether it was
answered; the SDK's own 2 s are too short on a busy machine (measured: one of 40 calls, at a load of 5 per core)."""
LEG_OUTLIVES_LIMIT_S = 60
"""The carrier's own limit for the leg, should everything of ours die: a minute after ours."""


async def dial(
    http: aiohttp.ClientSession, livekit: LivekitSettings, dispatch: DispatchSettings, assignment: Assignment
) -> None:
    """Place the call and return when it was answered; repeated only where no phone can have rung.

    Raises `DialFailed`. Cancelling does not cancel the phone call (measured: it is answered into an empty room), so
    whoever cancels also deletes the room.
    """
    for tries_left in reversed(range(DIAL_TRIES)):
        try:
            return await _dial_once(http, livekit, dispatch, assignment)
        except DialFailed as error:
            if not (error.failure.retryable and tries_left):
                raise
        await asyncio.sleep(RETRY_AFTER_S)
    return None


async def _dial_once(
    http: aiohttp.ClientSession, livekit: LivekitSettings, dispatch: DispatchSettings, assignment: Assignment
) -> None:
    request = assignment.request
    sip = SipService(http, livekit.sip_url or livekit.url, livekit.api_key, livekit.api_secret.get_secret_value())
    wish = CreateSIPParticipantRequest(
        sip_trunk_id=request.trunk or dispatch.outbound_trunk_id or "",
        sip_call_to=request.to,
        sip_number=request.from_,
        room_name=request.room,
        participant_identity=f"sip_{request.to}",
        wait_until_answered=True,
    )
    wish.ringing_timeout.FromSeconds(int(dispatch.ringing_timeout_s))
    wish.max_call_duration.FromSeconds(int(assignment.max_duration_s) + LEG_OUTLIVES_LIMIT_S)
    try:
        await sip.create_sip_participant(wish, timeout=dispatch.ringing_timeout_s + VERDICT_WITHIN_S)
    except api.TwirpError as error:
        status = error.sip_status_code if isinstance(error, api.SipCallError) else None
        raise DialFailed(outcome_of_dial_error(error.code, status, error.message)) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DialFailed(outcome_of_dial_error("unreachable", None, type(error).__name__)) from None


class TransferFailed(Exception):
    """The phone was not taken over; the message says why in a word, without a number."""


async def transfer(
    http: aiohttp.ClientSession,
    livekit: LivekitSettings,
    *,
    room: str,
    identity: str,
    destination: str,
    ringing_s: float,
) -> None:
    """Hand the phone `identity` over to `destination` (SIP REFER) and return when that has answered.

    Rings for at most `ringing_s`. Raises `TransferFailed`: the phone is still in the room.
    """
    sip = SipService(http, livekit.sip_url or livekit.url, livekit.api_key, livekit.api_secret.get_secret_value())
    wish = TransferSIPParticipantRequest(
        room_name=room, participant_identity=identity, transfer_to=destination, play_dialtone=True
    )
    wish.ringing_timeout.FromSeconds(int(ringing_s))
    try:
        answer = await sip.transfer_sip_participant(wish)
    except api.TwirpError as error:
        status = error.sip_status_code if isinstance(error, api.SipCallError) else None
        raise TransferFailed(outcome_of_dial_error(error.code, status, error.message).outcome.reason) from None
    except (aiohttp.ClientError, TimeoutError):
        raise TransferFailed("sip-unreachable") from None
    # A server that succeeds may leave the status at its default, so only a said failure is one (measured with 1.11).
    if answer.status == SIPTransferStatus.STS_TRANSFER_FAILED:
        raise TransferFailed("transfer-failed")
