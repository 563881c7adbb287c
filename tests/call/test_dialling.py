"""What is asked of LiveKit's SIP API, and how long its word is waited for."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from livekit.api import CreateSIPParticipantRequest

from cluster import outcome as o
from cluster.call.phone import DialFailed, dial
from cluster.messages import Assignment, CallRequest, Direction
from cluster.settings import DispatchSettings, LivekitSettings
from tests.fixtures.prices import TARIFF
from tests.fixtures.web_service import Service

RINGING_S = 1
LATE_S = 3.5
"""More than the ringing limit and the SDK's own two seconds."""
REQUEST = CallRequest(
    request_id="r", call_id="call_1", tenant="t", direction=Direction.OUTBOUND, profile="p", room="room",
    identity="agent", to="+15551230001", trunk="ST_1",
)  # fmt: skip
ASSIGNMENT = Assignment(
    request=REQUEST, lease_id="lease", fencing_token=1, max_duration_s=60, max_cost_usd_micros=1_000_000,
    reserved_usd_micros=1_000, renew_every_s=1, lease_ttl_s=10, tariff=TARIFF,
)  # fmt: skip


async def test_a_verdict_that_comes_late_is_waited_for(service: Service) -> None:
    """Else nobody would know whether the phone was answered."""

    async def rings_out(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(LATE_S)
        error = {"code": "deadline_exceeded", "msg": "no answer", "meta": {"sip_status_code": "408"}}
        return web.json_response(error, status=408)

    service.answers = [rings_out]
    livekit = LivekitSettings.model_validate(
        {
            "url": "ws://127.0.0.1:9",
            "api_key": "key",
            "api_secret": "s" * 32,
            "sip_url": f"http://127.0.0.1:{service.port}",
        }
    )
    dispatch = DispatchSettings.model_validate({"ringing_timeout_s": RINGING_S})
    async with aiohttp.ClientSession() as http:
        with pytest.raises(DialFailed) as caught:
            await dial(http, livekit, dispatch, ASSIGNMENT)
    assert caught.value.failure.outcome == o.NO_ANSWER
    ((request, _),) = service.asked
    wish = CreateSIPParticipantRequest.FromString(await request.read())
    assert (wish.sip_call_to, wish.room_name, wish.ringing_timeout.seconds) == (REQUEST.to, "room", RINGING_S)
