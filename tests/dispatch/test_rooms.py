"""LiveKit's rooms on a real livekit-server; its SIP rules on a server that answers as LiveKit's does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from livekit import api
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration
from livekit.protocol.sip import ListSIPDispatchRuleResponse, SIPDispatchRuleInfo

from cluster.dispatch import rooms as r
from cluster.dispatch.ports import Rule
from cluster.local.livekit_server import LivekitServer

KEY, SECRET = "APIkey", "a secret of at least thirty-two bytes"


class SipApi:
    """Serves dispatch rules and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.rules = [self.rule("SDR_1")]
        self.url = ""

    @staticmethod
    def rule(rule_id: str) -> SIPDispatchRuleInfo:
        """A rule that asks for our agent."""
        agent = RoomAgentDispatch(agent_name="gemini-sip-agent", metadata="m")
        return SIPDispatchRuleInfo(sip_dispatch_rule_id=rule_id, room_config=RoomConfiguration(agents=[agent]))

    async def answer(self, _request: web.Request) -> web.Response:
        """`ListSIPDispatchRule`."""
        self.asked += 1
        if self.status != 200:
            return web.json_response({"code": "unavailable", "msg": "no response from servers"}, status=self.status)
        body = ListSIPDispatchRuleResponse(items=self.rules).SerializeToString()
        return web.Response(body=body, content_type="application/protobuf")


@pytest.fixture
async def sip_api() -> AsyncIterator[SipApi]:
    """A SIP API on loopback."""
    sip_api = SipApi()
    app = web.Application()
    app.router.add_post("/twirp/livekit.SIP/ListSIPDispatchRule", sip_api.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sip_api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield sip_api
    await runner.cleanup()


async def test_rules_are_asked_for_once_a_minute(sip_api: SipApi) -> None:
    """A new rule is looked for soon, but not with every call that names a rule that does not exist."""
    now = 0.0
    rooms = r.LivekitRooms("http://127.0.0.1:1", KEY, SECRET, sip_url=sip_api.url, clock=lambda: now)
    for _ in range(3):
        assert await rooms.rule("SDR_1") == Rule("SDR_1", {"gemini-sip-agent": "m"})
        assert await rooms.rule("SDR_2") is None
    assert sip_api.asked == 1
    sip_api.rules.append(SipApi.rule("SDR_2"))
    now = r.RULES_ASKED_AGAIN_S + 0.1
    assert await rooms.rule("SDR_2") is not None
    now += r.RULES_KEPT_S
    assert await rooms.rule("SDR_1") is not None
    assert sip_api.asked == 2
    now += 0.1
    await rooms.rule("SDR_1")
    assert sip_api.asked == 3
    await rooms.close()


async def test_without_the_sip_api_there_are_no_hints(sip_api: SipApi) -> None:
    """But what was known stays known."""
    now = 0.0
    rooms = r.LivekitRooms("http://127.0.0.1:1", KEY, SECRET, sip_url=sip_api.url, clock=lambda: now)
    assert await rooms.rule("SDR_1") is not None
    sip_api.status = 503
    now = 1000.0
    assert await rooms.rule("SDR_1") is not None
    assert await rooms.rule("SDR_2") is None
    await rooms.close()
    nobody = r.LivekitRooms("http://127.0.0.1:1", KEY, SECRET)
    assert await nobody.rule("SDR_1") is None
    await nobody.close()


async def test_rooms_of_a_real_server(livekit: LivekitServer, admin: api.LiveKitAPI) -> None:
    """An empty room has nobody in it, nor has a deleted one, and deleting it again is no error."""
    rooms = r.LivekitRooms(livekit.url, livekit.api_key, livekit.api_secret)
    await admin.room.create_room(api.CreateRoomRequest(name="call-1"))
    assert await rooms.present("call-1") == []
    assert await rooms.delete("call-1")
    assert await rooms.present("call-1") == []
    assert await rooms.delete("call-1")
    await rooms.close()


async def test_livekit_that_does_not_answer(
    livekit: LivekitServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or refuses our key: hanging up is tried a few times and then reported, without a token or a room's name."""
    monkeypatch.setattr(r, "FIRST_PAUSE_S", 0.0)
    for url in ("http://127.0.0.1:1", livekit.url):
        rooms = r.LivekitRooms(url, KEY, SECRET)
        with caplog.at_level(logging.DEBUG):
            assert not await rooms.delete("call-_+15551230001_x")
        assert await rooms.present("call-_+15551230001_x") is None
        assert "could not be deleted" in caplog.text
        assert "15551230001" not in caplog.text
        assert "eyJ" not in caplog.text
        caplog.clear()
        await rooms.close()
