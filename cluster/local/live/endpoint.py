"""The local Gemini Live service: a TLS websocket server for both backends.

Beside it ``POST /token`` for service accounts, and ``GET /_meter`` and ``GET /_sessions`` for tests and benches.

The meter has an object for each session and one called total: the tokens that are billed, and under ``reported`` those
that the client was told of, with the number of ``messages`` (``usage`` says what counts as which).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster.local.live.access import Access, route_of
from cluster.local.live.connection import Connection, ServerSocket
from cluster.local.live.handles import Handles
from cluster.local.live.match import best_line
from cluster.local.live.record import SessionRecord
from cluster.local.live.trouble import Faults
from cluster.local.live.turn import Link, Parts
from cluster.local.live.usage import Usage
from cluster.local.recognizer import RecognizerProcess
from cluster.local.scenario import Agent, Scenario, load_scenario
from cluster.local.speech import Speaker
from cluster.local.tls import make_certificate

_GOING_AWAY: Final = 1001
_SHUTDOWN_S: Final = 1.0


class LiveEndpoint:
    """``async with LiveEndpoint(scenario) as endpoint`` serves until the block is left.

    ``scenario`` is a file or a Scenario; ``port`` 0 takes a free one; ``clock_speed`` divides the times of lifecycle
    faults; ``api_key`` None takes any key. Raises ScenarioError, RecognizerError, SpeechError, OSError.
    """

    def __init__(
        self,
        scenario: Path | Scenario,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        clock_speed: float = 1.0,
        api_key: str | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self.scenario = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
        self.sessions: list[SessionRecord] = []
        """Every connection since the start, in order."""
        self.ca_file = Path()
        self.url = ""
        self.token_url = ""
        """Plain HTTP, as a service account file's ``token_uri`` wants it."""
        self._host, self._port, self._state_dir = host, port, state_dir
        self._temporary: Path | None = None
        self._access = Access(api_key)
        self._handles = Handles(while_open=self.scenario.resume_while_open == "allowed")
        self._faults = Faults(self.scenario.faults)
        self._sockets: dict[int, ServerSocket] = {}
        self._still_open: dict[int, int] = {}
        self._recognizer = RecognizerProcess()
        self._parts = Parts(
            speaker=Speaker(), transcribe=self._transcribe, keep_handle=self._keep_handle, clock_speed=clock_speed
        )
        self._runners: list[web.AppRunner] = []

    @property
    def meter(self) -> dict[int, Usage]:
        """Session number -> all its tokens: what is billed."""
        return {record.number: record.total for record in self.sessions}

    @property
    def reported(self) -> dict[int, Usage]:
        """Session number -> the sum of its usage messages that were handed to the socket."""
        return {record.number: record.reported for record in self.sessions}

    def write_service_account(self, path: Path) -> Path:
        """A service account file whose tokens this endpoint gives out; takes about 100 ms. Raises OSError."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        content = {
            "type": "service_account",
            "project_id": "local",
            "private_key_id": "local",
            "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "client_email": "ringmaster@local.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": self.token_url,
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _start(self) -> None:
        if self._state_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="ringmaster-live-"))
        certificate = make_certificate(self._state_dir or self._temporary or Path(), host=self._host)
        self.ca_file = certificate.ca_file
        await asyncio.gather(asyncio.to_thread(self._say_all_once), self._warm_recognizer())
        port = await self._listen(self._port, certificate.context, web.get("/{path:.*}", self._live))
        self.url = f"https://{self._host}:{port}"
        self.token_url = f"http://{self._host}:{await self._listen(0, None)}/token"

    async def _listen(self, port: int, tls: ssl.SSLContext | None, *routes: web.RouteDef) -> int:
        application = web.Application()
        application.add_routes(
            [
                web.post("/token", self._token),
                web.get("/_meter", self._meter),
                web.get("/_sessions", self._sessions),
                *routes,
            ]
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self._host, port, ssl_context=tls).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def _close(self) -> None:
        for socket in list(self._sockets.values()):
            await socket.close(_GOING_AWAY, "")
        for runner in self._runners:
            await runner.cleanup()
        await asyncio.to_thread(self._recognizer.close)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _say_all_once(self) -> None:
        # Every line is spoken once before the first call, so that no answer waits for the speech engine.
        for agent in self.scenario.agents:
            for line in agent.agent_lines():
                self._parts.speaker.say(line, "agent", 24_000)

    async def _warm_recognizer(self) -> None:
        if self.scenario.transcribe == "grammar":
            for agent in self.scenario.agents:
                await self._recognizer.warm(agent.caller_lines())

    async def _transcribe(self, agent: Agent, utterance: int, pcm16: bytes) -> str:
        if self.scenario.transcribe == "off":
            lines = agent.scripted_lines()
            return lines[utterance] if utterance < len(lines) else ""
        if self.scenario.transcribe == "match":
            return best_line(agent.caller_lines(), pcm16)
        return await self._recognizer.transcribe(agent.caller_lines(), pcm16)

    def _keep_handle(self, handle: str, link: Link) -> None:
        self._handles.keep(handle, link, time.monotonic())

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        status, body = self._access.exchange({name: str(value) for name, value in form.items()})
        return web.json_response(body, status=status)

    async def _meter(self, _: web.Request) -> web.Response:
        meter = {str(record.number): record.metered for record in self.sessions}
        everything = SessionRecord(number=0, backend="")
        for record in self.sessions:
            everything.generations += record.generations
            everything.reported += record.reported
            everything.usage_messages += record.usage_messages
        return web.json_response(meter | {"total": everything.metered})

    async def _sessions(self, _: web.Request) -> web.Response:
        return web.json_response([record.to_json() for record in self.sessions])

    async def _refusal(self, request: web.Request, record: SessionRecord) -> web.Response | None:
        """Lets a fault of the upgrade strike, if there is one; the answer if it ends the upgrade."""
        fault = self._faults.first("upgrade", record.number)
        if fault is None:
            return None
        record.struck(fault)
        await asyncio.sleep(fault.after_ms / 1000)
        if fault.do == "http_status":
            return web.Response(status=fault.code, text=fault.reason)
        if fault.do == "abort" and request.transport is not None:
            request.transport.abort()
        gone = request.transport is None or request.transport.is_closing()
        return web.Response() if gone else None

    async def _live(self, request: web.Request) -> web.StreamResponse:
        route = route_of(request.path)
        if route is None:
            raise web.HTTPNotFound
        record = SessionRecord(number=len(self.sessions) + 1, backend=route.backend)
        self.sessions.append(record)
        refusal = await self._refusal(request, record)
        if refusal is not None:
            return refusal
        credential = self._access.credential(route, request.headers, request.query)
        if not credential:
            raise web.HTTPUnauthorized
        socket = ServerSocket(request)
        response = await socket.open()
        self._sockets[record.number] = socket
        try:
            await Connection(
                socket=socket,
                route=route,
                key_valid=self._access.valid(credential),
                record=record,
                scenario=self.scenario,
                faults=self._faults,
                parts=self._parts,
                handles=self._handles,
                still_open=self._still_open,
            ).serve()
        finally:
            del self._sockets[record.number]
        return response
