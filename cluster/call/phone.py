"""Dialling out: one request to LiveKit's SIP API, answered by the callee or by a reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from livekit import api
from livekit.api.sip_service import SipService
from livekit.protocol.sip import CreateSIPParticipantRequest

from cluster.telephony.dialling import DialFailure, outcome_of_dial_error

if TYPE_CHECKING:
    from cluster.messages import CallRequest
    from cluster.settings import DispatchSettings, LivekitSettings


class DialFailed(Exception):
    """The phone was not answered; `failure` says why and whose doing it was."""

    def __init__(self, failure: DialFailure) -> None:
        super().__init__(str(failure.outcome))
        self.failure = failure


async def dial(
    http: aiohttp.ClientSession, livekit: LivekitSettings, dispatch: DispatchSettings, request: CallRequest
) -> None:
    """Place the call and return when it was answered.

    Raises `DialFailed`. Cancelling does not cancel the phone call (measured: it is answered into an empty room), so
    whoever cancels also deletes the room.
    """
    sip = SipService(http, livekit.sip_url or livekit.url, livekit.api_key, livekit.api_secret.get_secret_value())
    wish = CreateSIPParticipantRequest(
        sip_trunk_id=dispatch.outbound_trunk_id or "",
        sip_call_to=request.to,
        sip_number=request.from_,
        room_name=request.room,
        participant_identity=f"sip_{request.to}",
        wait_until_answered=True,
    )
    wish.ringing_timeout.FromSeconds(int(dispatch.ringing_timeout_s))
    try:
        await sip.create_sip_participant(wish)
    except api.TwirpError as error:
        status = error.sip_status_code if isinstance(error, api.SipCallError) else None
        raise DialFailed(outcome_of_dial_error(error.code, status, error.message)) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DialFailed(outcome_of_dial_error("unreachable", None, type(error).__name__)) from None
