"""The carrier over HTTP: who may use LiveKit's API, and the switchboard by which others ring in."""

from __future__ import annotations

import json
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from typing import Any

import aiohttp
import pytest
from livekit import api
from livekit.api.sip_service import SipService
from livekit.protocol import sip as pb

from cluster.local.livekit_server import LivekitServer
from cluster.local.stack import LivekitKeys
from tests.fixtures.local import TRUNK_NUMBER, AgentIn, Exchange, room_name

CARRIER = (sys.executable, "-m", "cluster.local.carrier")
PROTOBUF = {"Content-Type": "application/protobuf"}


async def _post(exchange: Exchange, method: str, token: str | None, body: bytes = b"") -> tuple[int, str, str]:
    headers = PROTOBUF | ({"Authorization": f"Bearer {token}"} if token is not None else {})
    url = f"{exchange.url}/twirp/livekit.SIP/{method}"
    async with exchange.http.post(url, headers=headers, data=body) as answer:
        return answer.status, answer.content_type, await answer.text()


def _token(livekit: LivekitServer, **grants: bool) -> str:
    return api.AccessToken(livekit.api_key, livekit.api_secret).with_sip_grants(api.SIPGrants(**grants)).to_jwt()


@pytest.mark.parametrize("token", ["nonsense", "a.b.c"])
async def test_what_is_no_token_gets_the_real_text(exchange: Exchange, token: str) -> None:
    """A bad token is 401 as plain text, and is not repeated."""
    answer = await _post(exchange, "ListSIPInboundTrunk", token)
    assert answer == (401, "text/plain", "invalid authorization token")


async def test_token_of_another_server_is_refused(exchange: Exchange, livekit: LivekitServer) -> None:
    """A token signed with another secret is no token here."""
    forged = api.AccessToken(livekit.api_key, "x" * 40).with_sip_grants(api.SIPGrants(admin=True)).to_jwt()
    assert (await _post(exchange, "ListSIPInboundTrunk", forged))[0] == 401


@pytest.mark.parametrize(
    ("method", "grants"),
    [
        ("CreateSIPParticipant", {"admin": True}),
        ("ListSIPInboundTrunk", {"call": True}),
        ("TransferSIPParticipant", {"call": True}),
        ("DeleteSIPDispatchRule", {}),
    ],
)
async def test_each_method_asks_for_its_own_grant(
    exchange: Exchange, livekit: LivekitServer, method: str, grants: dict[str, bool]
) -> None:
    """Dialling needs `call`, everything else `admin`, and a transfer the room's admin as well."""
    status, content_type, text = await _post(exchange, method, _token(livekit, **grants))
    assert (status, content_type) == (401, "application/json")
    assert json.loads(text) == {"code": "unauthenticated", "msg": "permissions denied"}


async def test_no_token_no_method_no_protobuf(exchange: Exchange, livekit: LivekitServer) -> None:
    """What can't be answered says why, in Twirp's codes."""
    token = _token(livekit, admin=True)
    assert json.loads((await _post(exchange, "ListSIPInboundTrunk", None))[2])["msg"] == "permissions denied"
    assert json.loads((await _post(exchange, "Nothing", token))[2])["code"] == "bad_route"
    assert json.loads((await _post(exchange, "ListSIPInboundTrunk", token, b"\xff\xff"))[2])["code"] == "malformed"


async def test_call_is_placed_followed_and_ended_by_http(exchange: Exchange, agent_in: AgentIn) -> None:
    """A tester needs nothing but HTTP: ring in, wait for the answer, hang up, read the log."""
    await exchange.take_calls()
    body = {"from": "+14155550123", "to": TRUNK_NUMBER, "steps": []}
    placed = await _json(exchange, "POST", "/_calls", body)
    call_id = placed["call_id"]
    await exchange.carrier.live(call_id).joined
    await agent_in(placed["room"])
    answered = await _json(exchange, "GET", f"/_calls/{call_id}?until=answered")
    assert (answered["status"], answered["number"]) == ("active", "+14155550123")
    async with exchange.http.post(f"{exchange.url}/_calls/{call_id}/hangup") as response:
        assert response.status == 202
    ended = await _json(exchange, "GET", f"/_calls/{call_id}?until=ended")
    assert (ended["status"], ended["ending"], ended["sip_status"]) == ("hangup", "phone-hung-up", 200)
    listed = await _json(exchange, "GET", "/_calls")
    assert [call["call_id"] for call in listed["calls"]] == [call_id]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"from": "+1", "to": TRUNK_NUMBER, "speed": 1}, 400, "speed: Extra inputs are not permitted"),
        ({"from": "+1", "to": TRUNK_NUMBER, "script": "nobody"}, 400, "the scenario has no agent 'nobody'"),
        ({"from": "+1", "to": TRUNK_NUMBER, "scenario": "/none.yaml"}, 400, "/none.yaml: can't be read"),
        ({"from": "+1", "to": "+14155550199"}, 404, "No SIP Trunk or Dispatch Rules matched"),
    ],
)
async def test_wrong_wishes_are_explained(
    exchange: Exchange, body: dict[str, object], status: int, detail: str
) -> None:
    """Each mistake has its own sentence."""
    await exchange.take_calls()
    async with exchange.http.post(f"{exchange.url}/_calls", json=body) as response:
        assert response.status == status
        assert (await response.json())["detail"].startswith(detail)


async def test_unknown_calls_and_the_table_of_numbers(exchange: Exchange) -> None:
    """A call that is not there is 404; the numbers explain themselves."""
    for method, path in (("GET", "/_calls/SCL_none"), ("POST", "/_calls/SCL_none/hangup")):
        async with exchange.http.request(method, exchange.url + path) as response:
            assert response.status == 404
    table = await _json(exchange, "GET", "/_numbers")
    assert table["0486"]["about"] == "refuses with 486 Busy Here"
    assert table["other"]["way"] == "answers"


async def test_runs_as_a_process(livekit: LivekitServer) -> None:
    """The command prints its URL when it is ready, serves the API, and ends on SIGTERM."""
    environ = os.environ | LivekitKeys(livekit.url, livekit.api_key, livekit.api_secret).environ
    process = await create_subprocess_exec(*CARRIER, env=environ, stdout=PIPE)
    try:
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        async with aiohttp.ClientSession() as http:
            sip = SipService(http, url, livekit.api_key, livekit.api_secret)
            trunk = pb.SIPOutboundTrunkInfo(name="out", address="sip.example.com", numbers=[TRUNK_NUMBER])
            made = await sip.create_outbound_trunk(pb.CreateSIPOutboundTrunkRequest(trunk=trunk))
            wish = pb.CreateSIPParticipantRequest(
                sip_trunk_id=made.sip_trunk_id,
                sip_call_to="+14155550486",
                room_name=room_name(),
                wait_until_answered=True,
            )
            with pytest.raises(api.SipCallError):
                await sip.create_sip_participant(wish)
    finally:
        process.terminate()
    assert await process.wait() == 0


async def test_a_process_without_keys_says_what_is_missing(livekit: LivekitServer) -> None:
    """Exit 2, and the variables that are to be set."""
    environ = os.environ | LivekitKeys(livekit.url, livekit.api_key, "").environ
    process = await create_subprocess_exec(*CARRIER, env=environ, stderr=PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"error: set LIVEKIT_API_SECRET:" in said


async def _json(exchange: Exchange, method: str, path: str, body: object = None) -> dict[str, Any]:
    async with exchange.http.request(method, exchange.url + path, json=body) as response:
        assert response.status < 300, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer
