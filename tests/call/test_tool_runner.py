"""Tools as they run: on a real HTTP server on loopback, a stand-in for LiveKit's SIP API, and a telephone of paper."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from livekit.protocol import sip as pb
from pydantic import SecretStr

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call import http_tool as h
from cluster.call import tool_runner as r
from cluster.call.keypad import KEYS
from cluster.call.phone import TransferFailed
from cluster.models import load_models
from cluster.settings import DispatchSettings, LivekitSettings
from cluster.tools import HttpTool, toolbox
from tests.fixtures.web_service import Handler, Service, breaks, hangs, says

SECRET = "lamb-lamb"


def a_tool(service: Service, **changes: Any) -> HttpTool:
    """A tool of the service, which may be reached."""
    fields = {
        "name": "look_up",
        "description": "d",
        "url": f"http://127.0.0.1:{service.port}/orders?v=1",
        "allow_private": True,
    }
    return HttpTool(**fields | changes)


async def fetch(tool: HttpTool, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask once."""
    return await h.fetch(tool, args or {}, idempotency_key="call-1", environment={"TOKEN": f"{SECRET}\n"})


async def test_a_request_carries_arguments_credentials_and_a_key(service: Service) -> None:
    """JSON goes out, JSON comes back; the key is the same for the same call of the model."""
    tool = a_tool(service, headers={"Authorization": "Bearer ${TOKEN}"})
    assert await fetch(tool, {"order": 7}) == {"state": "baked"}
    request, body = service.asked[0]
    assert (request.method, json.loads(body)) == ("POST", {"order": 7})
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    assert request.headers["Idempotency-Key"] == "call-1"
    assert request.query == {"v": "1"}


async def test_get_puts_the_arguments_into_the_query(service: Service) -> None:
    """Text as it is, everything else as JSON."""
    await fetch(a_tool(service, method="GET"), {"name": "a&b", "all": True, "ids": [1, 2]})
    request, body = service.asked[0]
    assert request.query == {"v": "1", "name": "a&b", "all": "true", "ids": "[1, 2]"}
    assert body == ""


ANSWERS: list[tuple[str, Handler, dict[str, Any]]] = [
    ("an object", says({"a": 1}), {"a": 1}),
    ("a list", says([1]), {"result": [1]}),
    ("text", says(text=" ready at noon\n"), {"result": "ready at noon"}),
    ("nothing", says(text=""), {"result": "done"}),
    ("not the JSON of the Live API", says(text='{"a": NaN}'), {"result": '{"a": NaN}'}),
    ("half a surrogate", says(text='["\\ud800"]'), {"result": '["\\ud800"]'}),
    ("too deep", says(text="[" * 30_000), {"result": "[" * 30_000}),
    ("not found", says({"secret": SECRET}, status=404), {"error": "HTTP 404"}),
    ("a redirect", says(status=302, Location="http://169.254.169.254/"), {"error": "HTTP 302"}),
    ("too much", says(text="x" * (h.ANSWER_MAX_BYTES + 1)), {"error": "the answer is larger than 64 KiB"}),
    ("a broken connection", breaks, {"error": "the service could not be reached"}),
]


@pytest.mark.parametrize(("answer", "told"), [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
async def test_what_the_model_is_told(service: Service, answer: Handler, told: dict[str, Any]) -> None:
    """Strict JSON objects of bounded size, whatever comes back."""
    service.answers = [answer]
    assert await fetch(a_tool(service)) == told
    assert len(service.asked) == 1


async def test_bytes_that_are_no_text_do_not_stop_it(service: Service) -> None:
    """They are replaced."""

    async def binary(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a\xff")

    service.answers = [binary]
    assert await fetch(a_tool(service)) == {"result": "a\ufffd"}


async def test_a_service_that_hangs_is_left_after_the_limit(service: Service) -> None:
    """The limit is for everything together."""
    service.answers = [hangs]
    assert await fetch(a_tool(service, timeout_s=0.1)) == {"error": "the tool gave no result within 0.1 s"}


@pytest.mark.parametrize("first", [breaks, says(status=503)], ids=["broken", "503"])
@pytest.mark.parametrize(("idempotent", "asked"), [(True, 2), (False, 1)])
async def test_only_an_idempotent_tool_is_asked_again(
    service: Service, first: Handler, *, idempotent: bool, asked: int
) -> None:
    """With the same key."""
    service.answers = [first, says({"a": 1})]
    told = await fetch(a_tool(service, idempotent=idempotent))
    assert ("error" in told) is not idempotent
    assert len(service.asked) == asked
    assert len({request.headers["Idempotency-Key"] for request, _ in service.asked}) == 1


async def test_a_variable_that_is_not_set_is_an_error_of_ours(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The model hears that it does not work, the operator which variable is missing; nothing is sent."""
    told = await fetch(a_tool(service, headers={"A": "${NOT_SET}"}))
    assert told == h.NOT_SET_UP
    assert service.asked == []
    assert cast("Any", caplog.records[0]).variable == "NOT_SET"


def resolver(*answers: list[str]) -> Any:
    """`getaddrinfo` that gives these answers, the last one for ever."""
    left = list(answers)

    async def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    return getaddrinfo


@pytest.mark.parametrize("host", ["127.0.0.1", "shop.example.com"])
async def test_private_addresses_are_not_reached(
    service: Service, host: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither as a literal nor behind a name; the operator is told, without the address."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver(["127.0.0.1", "127.0.0.2"]))
    tool = a_tool(service, url=f"http://{host}:{service.port}/", allow_private=False, idempotent=True)
    assert await fetch(tool) == h.NOT_SET_UP
    assert service.asked == []
    assert "127.0.0" not in caplog.text


async def test_a_name_that_is_rebound_is_checked_where_it_leads(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is allowed and the second is not; of two addresses only the allowed one is reached."""
    monkeypatch.setattr(h, "is_public", lambda address: address == "127.0.0.2")
    names = resolver(["127.0.0.1", "127.0.0.2"], ["127.0.0.1"])
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    tool = a_tool(service, url=f"http://shop.example.com:{service.port}/", allow_private=False)
    assert await fetch(tool) == {"state": "baked"}
    transport = service.asked[0][0].get_extra_info("sockname")
    assert transport is None or transport[0] == "127.0.0.2"
    assert await fetch(tool) == h.NOT_SET_UP
    assert len(service.asked) == 1


async def test_a_name_that_does_not_exist_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service can't be reached, and that is all."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await fetch(a_tool(Service(), allow_private=False, url="http://a.example/")) == h.UNREACHABLE


# The runner.


@dataclass
class Paper:
    """A telephone that writes down what it is asked for."""

    failure: Exception | None = None
    done: list[str] = field(default_factory=list)

    async def transfer(self, destination: str) -> None:
        """Succeed, or not."""
        self.done.append(destination)
        if self.failure:
            raise self.failure

    async def press(self, key: str) -> None:
        """Press."""
        self.done.append(key)
        if self.failure:
            raise self.failure


async def run(
    effect: ev.RunTool,
    telephone: Paper,
    tool: HttpTool | None = None,
    *,
    cancel_after_s: float | None = None,
    there_is_money: bool = True,
) -> list[ev.Event]:
    """What comes back of a tool in a call of its own."""
    fed: list[ev.Event] = []

    async def pays(name: str) -> bool:
        assert name == effect.name
        return there_is_money

    tools: tuple[str | HttpTool, ...] = ("end_call", "transfer_call", "send_dtmf", *([tool] if tool else []))
    box = toolbox(tools, {"sales": "tel:+15551230002"}, load_models()["gemini-3.8-live"])
    async with asyncio.TaskGroup() as tasks:
        runner = r.ToolRunner(box, telephone, tasks, fed.append, pays=pays, call_id="call 1/x", environment={})
        runner.carry_out(effect)
        if cancel_after_s is not None:
            await asyncio.sleep(cancel_after_s)
            runner.carry_out(ev.CancelTool("1"))
            runner.carry_out(ev.CancelTool("unknown"))
    assert runner._running == {}
    return fed


async def test_a_transfer_goes_where_its_label_leads() -> None:
    """On success the call ends as transferred."""
    telephone = Paper()
    (event,) = await run(ev.RunTool("1", "transfer_call", {"to": "sales"}), telephone)
    assert event == ev.ToolFinished("1", {"result": "transferred"}, o.TRANSFERRED)
    assert telephone.done == ["tel:+15551230002"]


async def test_a_tool_that_there_is_no_money_for_is_not_run() -> None:
    """The model hears why, and the call goes on."""
    telephone = Paper()
    (event,) = await run(ev.RunTool("1", "send_dtmf", {"digits": "1"}), telephone, there_is_money=False)
    assert event == ev.ToolFinished("1", r.TOO_DEAR)
    assert telephone.done == []


async def test_a_transfer_that_fails_is_told() -> None:
    """The call goes on."""
    (event,) = await run(ev.RunTool("1", "transfer_call", {"to": "sales"}), Paper(TransferFailed("busy")))
    assert isinstance(event, ev.ToolFinished)
    assert event.outcome is None
    assert event.response == {"error": "the transfer failed: busy; the caller is still on the line"}


async def test_keys_are_pressed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pauses where they were asked for."""
    monkeypatch.setattr(r, "TONE_GAP_S", 0.0)
    monkeypatch.setattr(r, "PAUSES_S", {"w": 0.01, "W": 0.02})
    telephone = Paper()
    (event,) = await run(ev.RunTool("1", "send_dtmf", {"digits": "1w*W#"}), telephone)
    assert event == ev.ToolFinished("1", {"result": "pressed"})
    assert telephone.done == ["1", "*", "#"]
    assert (KEYS.index("*"), KEYS.index("#"), KEYS.index("A")) == (10, 11, 12)


async def test_an_http_tool_runs_with_a_key_of_its_own(service: Service) -> None:
    """Made of the call's and the tool call's ids, fit for a header."""
    (event,) = await run(ev.RunTool("1", "look_up", {}), Paper(), a_tool(service))
    assert event == ev.ToolFinished("1", {"state": "baked"})
    assert service.asked[0][0].headers["Idempotency-Key"] == "call%201%2Fx-1"


async def test_a_cancelled_tool_says_nothing(service: Service) -> None:
    """Its request is dropped, and the call goes on."""
    service.answers = [hangs]
    assert await run(ev.RunTool("1", "look_up", {}), Paper(), a_tool(service), cancel_after_s=0.1) == []


@pytest.mark.parametrize("name", ["send_dtmf", "end_call"])
async def test_a_bug_in_a_tool_does_not_end_the_call(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The model is told; the log has the kind of error and nothing of what was in it."""
    caplog.set_level(logging.INFO)
    (event,) = await run(ev.RunTool("1", name, {"digits": "1"}), Paper(RuntimeError(SECRET)))
    assert event == ev.ToolFinished("1", r.FAILED)
    assert SECRET not in caplog.text


async def test_nothing_of_a_request_is_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither arguments nor credentials nor results, at any level."""
    caplog.set_level(logging.DEBUG)
    service.answers = [says({"x": SECRET}), says({"x": SECRET}, status=500)]
    for _ in range(2):
        await fetch(a_tool(service, headers={"A": "${TOKEN}"}), {"a": SECRET})
    ours = [record for record in caplog.records if record.name.startswith("cluster")]
    assert SECRET not in " ".join(str(vars(record)) for record in ours)


# The transfer at LiveKit's SIP API.


def sip_answers(error: tuple[int, dict[str, Any]] | None = None, status: int = 0) -> Handler:
    """What LiveKit says: an error of Twirp, or a message."""

    async def handle(_: web.Request) -> web.StreamResponse:
        if error is not None:
            return web.json_response(error[1], status=error[0])
        body = pb.TransferSIPParticipantResponse(status=cast("Any", status)).SerializeToString()
        return web.Response(body=body, content_type="application/protobuf")

    return handle


def room_telephone(service: Service, http: aiohttp.ClientSession, caller: str | None = "sip_7") -> r.RoomTelephone:
    """The phone `caller` in the room `call-1`."""
    pressed: list[str] = []

    async def press(key: str) -> None:
        pressed.append(key)

    link = SimpleNamespace(caller=SimpleNamespace(identity=caller) if caller else None, press=press, pressed=pressed)
    url = f"http://127.0.0.1:{service.port}"
    settings = SimpleNamespace(
        livekit=LivekitSettings(url="ws://127.0.0.1:1", api_key="key", api_secret=SecretStr("s" * 32), sip_url=url),
        dispatch=DispatchSettings(ringing_timeout_s=20),
    )
    return r.RoomTelephone(link=cast("Any", link), http=http, settings=cast("Any", settings), room="call-1")


async def test_a_transfer_is_asked_of_livekit(service: Service) -> None:
    """At the SIP API's own URL, for the phone in this room, ringing as long as a dial may."""
    service.answers = [sip_answers()]
    raw: list[bytes] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        raw.append(await request.read())
        return await sip_answers()(request)

    service.answers = [keep]
    async with aiohttp.ClientSession() as http:
        telephone = room_telephone(service, http)
        await telephone.transfer("tel:+15551230002")
        await telephone.press("5")
        assert cast("Any", telephone.link).pressed == ["5"]
    wish = pb.TransferSIPParticipantRequest.FromString(raw[0])
    assert service.asked[0][0].path == "/twirp/livekit.SIP/TransferSIPParticipant"
    assert (wish.room_name, wish.participant_identity, wish.transfer_to) == ("call-1", "sip_7", "tel:+15551230002")
    assert wish.ringing_timeout.seconds == 20


BUSY = (429, {"code": "resource_exhausted", "msg": "REFER failed", "meta": {"sip_status_code": "486"}})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (sip_answers(BUSY), "busy"),
        (sip_answers((408, {"code": "deadline_exceeded", "msg": "request timed out"})), "no-answer"),
        (sip_answers((400, {"code": "invalid_argument", "msg": "no SIP session"})), "bad-dial"),
        (sip_answers(status=pb.SIPTransferStatus.STS_TRANSFER_FAILED), "transfer-failed"),
        (breaks, "sip-unreachable"),
    ],
    ids=["busy", "no answer", "no phone", "said to have failed", "unreachable"],
)
async def test_why_a_transfer_failed(service: Service, answer: Handler, why: str) -> None:
    """In the words of a failed dial."""
    service.answers = [answer]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(TransferFailed, match=f"^{why}$"):
            await room_telephone(service, http).transfer("tel:+15551230002")


async def test_nobody_can_be_transferred_from_an_empty_room(service: Service) -> None:
    """LiveKit is not asked."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(TransferFailed, match="nobody is on the line"):
            await room_telephone(service, http, caller=None).transfer("tel:+15551230002")
    assert service.asked == []
