"""The carrier over HTTP: LiveKit's SIP API in protobuf, and the carrier's own switchboard in JSON.

| request | what it does |
|---|---|
| `POST /twirp/livekit.SIP/<Method>` | LiveKit's SIP API; a token with the `sip` grants of the real one |
| `GET /_calls` | the call log, oldest first: `{"calls": [...]}` |
| `GET /_calls/{id}?until=answered` | one call; `until=answered` or `ended` waits for that, `timeout_s` (30) at most |
| `POST /_calls` | a phone calls in: `{"from", "to", "script"?, "scenario"?, "steps"?, "media"?}` |
| `POST /_calls/{id}/hangup` | the phone hangs up |
| `GET /_numbers` | what the numbers do |

The switchboard asks for no token: it listens on loopback and moves no real phone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web
from google.protobuf.message import DecodeError, Message
from livekit.api.access_token import Claims
from livekit.protocol import sip as pb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.local.carrier.access import BadToken, Grant, claims_of, require
from cluster.local.carrier.carrier import Carrier
from cluster.local.carrier.numbers import NUMBERS, ORDINARY
from cluster.local.carrier.routing import NoRoute
from cluster.local.carrier.twirp import TwirpError
from cluster.local.scenario import CallerStep, ScenarioError, load_scenario

_PREFIX: Final = "/twirp/livekit.SIP/"
_Method = tuple[type[Message], Grant, Callable[[Any], Any]]


class CallIn(BaseModel):
    """The body of `POST /_calls`."""

    model_config = ConfigDict(extra="forbid")

    from_: str = Field(alias="from")
    to: str
    script: str = ""
    """The agent of the scenario whose caller is played; empty is the first."""
    scenario: Path | None = None
    """A scenario file other than the carrier's own."""
    steps: tuple[CallerStep, ...] | None = None
    """Steps instead of a script."""
    media: bool = True
    """False: a phone without sound, for load tests."""


@contextlib.asynccontextmanager
async def serve(carrier: Carrier, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve ``carrier`` and give its URL; port 0 takes a free one."""
    runner = web.AppRunner(_application(carrier), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _application(carrier: Carrier) -> web.Application:
    switchboard = _Switchboard(carrier)
    app = web.Application()
    app.add_routes(
        [
            web.post(_PREFIX + "{method}", _SipApi(carrier).answer),
            web.get("/_calls", switchboard.calls),
            web.post("/_calls", switchboard.call_in),
            web.get("/_calls/{call_id}", switchboard.call),
            web.post("/_calls/{call_id}/hangup", switchboard.hang_up),
            web.get("/_numbers", switchboard.numbers),
        ]
    )
    return app


class _SipApi:
    """`/twirp/livekit.SIP/…`."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        registry = carrier.registry
        self._methods: Mapping[str, _Method] = {
            "CreateSIPInboundTrunk": (pb.CreateSIPInboundTrunkRequest, Grant.ADMIN, registry.create_inbound_trunk),
            "CreateSIPOutboundTrunk": (pb.CreateSIPOutboundTrunkRequest, Grant.ADMIN, registry.create_outbound_trunk),
            "UpdateSIPInboundTrunk": (pb.UpdateSIPInboundTrunkRequest, Grant.ADMIN, registry.update_inbound_trunk),
            "UpdateSIPOutboundTrunk": (pb.UpdateSIPOutboundTrunkRequest, Grant.ADMIN, registry.update_outbound_trunk),
            "GetSIPInboundTrunk": (pb.GetSIPInboundTrunkRequest, Grant.ADMIN, registry.get_inbound_trunk),
            "GetSIPOutboundTrunk": (pb.GetSIPOutboundTrunkRequest, Grant.ADMIN, registry.get_outbound_trunk),
            "ListSIPInboundTrunk": (pb.ListSIPInboundTrunkRequest, Grant.ADMIN, registry.list_inbound_trunks),
            "ListSIPOutboundTrunk": (pb.ListSIPOutboundTrunkRequest, Grant.ADMIN, registry.list_outbound_trunks),
            "DeleteSIPTrunk": (pb.DeleteSIPTrunkRequest, Grant.ADMIN, registry.delete_trunk),
            "CreateSIPDispatchRule": (pb.CreateSIPDispatchRuleRequest, Grant.ADMIN, registry.create_rule),
            "UpdateSIPDispatchRule": (pb.UpdateSIPDispatchRuleRequest, Grant.ADMIN, registry.update_rule),
            "ListSIPDispatchRule": (pb.ListSIPDispatchRuleRequest, Grant.ADMIN, registry.list_rules),
            "DeleteSIPDispatchRule": (pb.DeleteSIPDispatchRuleRequest, Grant.ADMIN, registry.delete_rule),
            "CreateSIPParticipant": (pb.CreateSIPParticipantRequest, Grant.CALL, carrier.create_participant),
            "TransferSIPParticipant": (pb.TransferSIPParticipantRequest, Grant.CALL, carrier.transfer),
        }

    async def answer(self, request: web.Request) -> web.Response:
        """One request of LiveKit's API."""
        livekit = self._carrier.livekit
        try:
            claims = claims_of(request.headers.get("Authorization"), livekit.api_key, livekit.api_secret)
            return await self._call(request, claims)
        except BadToken as error:
            return web.Response(status=401, text=str(error))
        except TwirpError as error:
            return web.json_response(error.as_json(), status=error.http_status)

    async def _call(self, request: web.Request, claims: Claims) -> web.Response:
        name = request.match_info["method"]
        if name not in self._methods:
            raise TwirpError("bad_route", f"no handler for path {request.path!r}")
        kind, grant, method = self._methods[name]
        try:
            message = kind.FromString(await request.read())
        except DecodeError:
            raise TwirpError("malformed", "the protobuf request could not be decoded") from None
        room = message.room_name if isinstance(message, pb.TransferSIPParticipantRequest) else None
        require(claims, grant, room)
        result = method(message)
        answer = cast("Message", await result if asyncio.iscoroutine(result) else result)
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")


class _Switchboard:
    """`/_calls` and `/_numbers`."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def calls(self, _request: web.Request) -> web.Response:
        """All calls."""
        return web.json_response({"calls": [log.as_json() for log in self._carrier.calls]})

    async def call(self, request: web.Request) -> web.Response:
        """One call, after it was answered or has ended if that is asked for."""
        call_id, until = request.match_info["call_id"], request.query.get("until", "")
        with contextlib.suppress(KeyError):
            live = self._carrier.live(call_id)
            awaited: dict[str, asyncio.Future[Any]] = {"answered": live.answered, "ended": live.ended}
            if until in awaited:
                # A call that ends unanswered fails `answered` too.
                await asyncio.wait((awaited[until],), timeout=float(request.query.get("timeout_s", "30")))
        found = next((log for log in self._carrier.calls if log.call_id == call_id), None)
        return _problem(404, "there is no such call") if found is None else web.json_response(found.as_json())

    async def call_in(self, request: web.Request) -> web.Response:
        """A phone calls in."""
        try:
            wish = CallIn.model_validate_json(await request.read())
            scenario = load_scenario(wish.scenario) if wish.scenario else None
            call = self._carrier.call_in(
                wish.from_, wish.to, script=wish.script, steps=wish.steps, scenario=scenario, media=wish.media
            )
        except ValidationError as error:
            return _problem(400, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
        except (ScenarioError, ValueError) as error:
            return _problem(400, str(error))
        except NoRoute as error:
            return _problem(404, str(error))
        except KeyError as error:
            return _problem(400, f"the scenario has no agent {error}")
        return web.json_response(call.log.as_json(), status=202)

    async def hang_up(self, request: web.Request) -> web.Response:
        """The phone hangs up."""
        try:
            self._carrier.live(request.match_info["call_id"]).hang_up()
        except KeyError:
            return _problem(404, "there is no such live call")
        return web.Response(status=202)

    async def numbers(self, _request: web.Request) -> web.Response:
        """The table of numbers."""
        table = {suffix: asdict(callee) for suffix, callee in NUMBERS.items()}
        return web.json_response({**table, "other": asdict(ORDINARY)})


def _problem(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
