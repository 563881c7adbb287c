"""LiveKit's webhooks, signed as LiveKit signs them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from livekit import api
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.webhook import WebhookEvent

from cluster import outcome as o
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import Present
from cluster.dispatch.problems import Problem
from cluster.dispatch.webhook import Webhooks
from cluster.messages import Refused
from cluster.tasks import TaskSet
from tests.dispatch.doubles import HistoryPort, PoolDouble, RoomsDouble

KEY, SECRET = "APIkey", "a secret of at least thirty-two bytes"
ROOM = "call-_+15551230001_x"
PHONE = Present("SIP", {})
AGENT = Present("AGENT", {})


def an_event(event: str = "participant_joined", kind: str = "SIP", event_id: str = "EV_1", **attributes: str) -> bytes:
    """The body of a webhook."""
    return MessageToJson(
        WebhookEvent(
            event=event,
            id=event_id,
            room=Room(sid="RM_1", name=ROOM),
            participant=ParticipantInfo(
                kind=kind,
                attributes={"sip.ruleID": "SDR_1", "sip.phoneNumber": "+15551230001"} | attributes,
            ),
        )
    ).encode()


def signed(body: bytes, key: str = KEY, secret: str = SECRET, ttl_s: float = 300) -> str:
    """The header that LiveKit sends with it."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return api.AccessToken(key, secret).with_sha256(digest).with_ttl(timedelta(seconds=ttl_s)).to_jwt()


class Desk:
    """Webhooks and what is behind them."""

    def __init__(self, pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound) -> None:
        self.pool, self.rooms = pool, rooms
        self.errands = TaskSet()
        verifier = api.TokenVerifier(KEY, SECRET)
        self.webhooks = Webhooks(
            verifier, history, rooms, inbound, self.errands, agent_name="gemini-sip-agent", safety_net_s=0.01
        )
        rooms.rules = {"SDR_1": {"gemini-sip-agent": '{"profile": "reminder"}'}, "SDR_2": {"another-agent": ""}}

    async def receive(self, body: bytes, **signing: Any) -> str:
        """A webhook comes, and its consequences run out."""
        answer = await self.webhooks.receive(body, signed(body, **signing))
        await self.errands.wait(5)
        return answer


@pytest.fixture
def desk(pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound) -> Desk:
    """Whoever takes webhooks; the dispatch rule SDR_1 is ours."""
    return Desk(pool, history, rooms, inbound)


async def test_a_ringing_phone_is_an_early_hint(desk: Desk) -> None:
    """The call is admitted with the rule's profile and the caller's number, before LiveKit offers the job."""
    assert await desk.receive(an_event()) == "taken"
    [request] = desk.pool.asked
    assert (request.request_id, request.profile, request.from_) == ("room:RM_1", "reminder", "+15551230001")
    assert request.room == ROOM


async def test_a_webhook_has_its_effect_once(desk: Desk) -> None:
    """LiveKit sends it again when our answer was lost; somebody else may, too."""
    body = an_event()
    assert [await desk.receive(body), await desk.receive(body)] == ["taken", "duplicate"]
    assert len(desk.pool.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        an_event(event="participant_left"),
        an_event(event="room_started"),
        an_event(kind="STANDARD"),
        an_event(kind="AGENT"),
        an_event(**{"sip.ruleID": ""}),
        an_event(**{"sip.ruleID": "SDR_2"}),
        an_event(**{"sip.ruleID": "SDR_unknown"}),
    ],
)
async def test_what_is_not_ours_is_left_alone(desk: Desk, body: bytes) -> None:
    """Other events, other participants, outbound legs, and rooms of other agents."""
    desk.rooms.inside[ROOM] = [PHONE]
    assert await desk.receive(body) in {"ignored", "taken"}
    assert (desk.pool.asked, desk.rooms.deleted) == ([], [])


@pytest.mark.parametrize(
    ("body", "authorization"),
    [
        pytest.param(an_event(), "", id="unsigned"),
        pytest.param(an_event(), "not.a.token", id="no token"),
        pytest.param(an_event(), signed(an_event(), secret="another secret of thirty-two bytes!"), id="other secret"),
        pytest.param(an_event(), signed(an_event(), key="APIother"), id="other key"),
        pytest.param(an_event(), signed(an_event(), ttl_s=-120), id="run out"),
        pytest.param(an_event(event_id="EV_2"), signed(an_event()), id="another webhook's signature"),
        pytest.param(an_event(), api.AccessToken(KEY, SECRET).to_jwt(), id="a token for something else"),
        pytest.param(b"\xff", signed(b"\xff"), id="no text"),
        pytest.param(b"[]", signed(b"[]"), id="no event"),
        pytest.param(an_event(event_id=""), signed(an_event(event_id="")), id="no id"),
    ],
)
async def test_a_forged_webhook_is_rejected(
    desk: Desk, body: bytes, authorization: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401, no effect, and no token in the log."""
    with pytest.raises(Problem) as problem:
        await desk.webhooks.receive(body, authorization)
    assert problem.value.slug == "webhook-rejected"
    assert (len(desk.errands), desk.pool.asked) == (0, [])
    assert not authorization or authorization not in caplog.text


async def test_a_phone_without_an_agent_is_claimed(desk: Desk) -> None:
    """LiveKit dropped the job: the hint was refused, so the claim asks once more, and then hangs up."""
    desk.rooms.inside[ROOM] = [PHONE]
    desk.pool.answers = [
        Refused(outcome=o.OVER_CAPACITY, detail="Full."),
        Refused(outcome=o.OVER_CAPACITY, detail="Full."),
    ]
    await desk.receive(an_event())
    assert (len(desk.pool.asked), desk.rooms.deleted) == (2, [ROOM])


@pytest.mark.parametrize("inside", [[PHONE, AGENT], [], None, [Present("STANDARD", {})]])
async def test_a_phone_with_an_agent_and_a_room_without_a_phone_are_left_alone(
    desk: Desk, inside: list[Present] | None
) -> None:
    """The safety net is for phones that ring in vain."""
    if inside is not None:
        desk.rooms.inside[ROOM] = inside
    await desk.receive(an_event())
    assert (len(desk.pool.asked), desk.rooms.deleted) == (1, [])


async def test_a_livekit_that_does_not_answer_is_asked_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy one is no reason to leave a phone alone."""
    answers = [None, None, [PHONE]]

    async def present(_room: str) -> list[Present] | None:
        return answers.pop(0)

    monkeypatch.setattr(desk.rooms, "present", present)
    desk.pool.answers = [Refused(outcome=o.OVER_CAPACITY, detail="Full.")] * 2
    await desk.receive(an_event())
    assert (answers, desk.rooms.deleted) == ([], [ROOM])


async def test_what_is_on_its_way_ends_with_its_owner(desk: Desk) -> None:
    """Closing leaves no task behind."""
    desk.webhooks._safety_net_s = 3600
    body = an_event()
    await desk.webhooks.receive(body, signed(body))
    await asyncio.sleep(0)
    assert len(desk.errands) == 1
    await desk.errands.close()
    assert len(desk.errands) == 0
