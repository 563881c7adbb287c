"""One websocket connection: its setup, then its session, then its close."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientConnectionError, WSMessage, WSMsgType, web

from cluster.local.live import outgoing, wire
from cluster.local.live.access import KEY_NOT_VALID, Route
from cluster.local.live.handles import Handles
from cluster.local.live.record import SessionRecord
from cluster.local.live.session import Session
from cluster.local.live.setup import Backend, SessionSetup, check_setup
from cluster.local.live.trouble import Faults
from cluster.local.live.turn import Conversation, Link, Parts
from cluster.local.live.usage import ContextWindow, text_tokens
from cluster.local.scenario import Scenario

_LARGEST_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_CLOSE_TIMEOUT_S: Final = 1.0
_LONGEST_REASON_BYTES: Final = 120


class ServerSocket:
    """The server's end of a websocket: no compression, no pings, binary frames."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._mute = False
        self._ws = web.WebSocketResponse(compress=False, timeout=_CLOSE_TIMEOUT_S, max_msg_size=_LARGEST_MESSAGE_BYTES)

    async def open(self) -> web.WebSocketResponse:
        """Completes the upgrade."""
        await self._ws.prepare(self._request)
        return self._ws

    @property
    def takes(self) -> bool:
        """Whether a message would be handed over now."""
        transport = self._request.transport
        lost = transport is None or transport.is_closing()
        return not (self._mute or lost or self._ws.closed)

    def mute(self) -> None:
        """Sends nothing from now on; the connection stays open."""
        self._mute = True

    async def send(self, message: bytes) -> None:
        """Sends one message; nothing if the socket has closed or is mute."""
        if self.takes:
            try:
                await self._ws.send_bytes(message)
            except ClientConnectionError:
                return

    async def receive(self) -> WSMessage:
        """The next frame; of a closing type once the connection ends."""
        return await self._ws.receive()

    async def close(self, code: int, reason: str) -> None:
        """Closes with this code; does nothing if it is closed."""
        await self._ws.close(code=code, message=reason.encode()[:_LONGEST_REASON_BYTES])

    def abort(self) -> None:
        """Cuts the connection without a word (the client sees 1006)."""
        if self._request.transport is not None:
            self._request.transport.abort()

    @property
    def close_code(self) -> int:
        """The code that either side closed with; 0 while open."""
        return self._ws.close_code or 0


@dataclass(slots=True, kw_only=True)
class Connection:
    """Serves one client from its first message to its close."""

    socket: ServerSocket
    route: Route
    key_valid: bool
    record: SessionRecord
    scenario: Scenario
    faults: Faults
    parts: Parts
    handles: Handles
    still_open: dict[int, int]
    """The sessions that are connected -> their conversation's number; this one too once it is set up."""

    async def serve(self) -> None:
        """Returns when the connection has closed; refusals are closes with the service's code and reason."""
        try:
            await self._serve()
        except wire.Refusal as refusal:
            self.record.close_reason = refusal.reason
            await self.socket.close(refusal.code, refusal.reason)
        finally:
            self.still_open.pop(self.record.number, None)
            self.record.closed_at = time.monotonic()
            self.record.close_code = self.socket.close_code

    async def _serve(self) -> None:
        first = await self._frame()
        if first is None:
            return
        if not self.key_valid:
            raise wire.Refusal(wire.INVALID_ARGUMENT, KEY_NOT_VALID)
        setup = self._checked(wire.parse(first))
        if not await self._survives(setup):
            return
        link = Link(
            setup=setup,
            talk=self._conversation(setup),
            socket=self.socket,
            record=self.record,
            parts=self.parts,
        )
        self.record.model, self.record.agent = setup.rules.name, link.talk.agent.name
        self.record.resumed = bool(setup.handle)
        self.still_open[self.record.number] = link.talk.number
        vertex = self.route.backend is Backend.VERTEX
        await self.socket.send(outgoing.setup_complete(f"session-{self.record.number}" if vertex else ""))
        self.record.ready_at = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            session = Session(link, self.faults, tasks)
            try:
                refusal = await self._converse(session)
            finally:
                session.stop()
        if refusal is not None:
            raise refusal

    async def _converse(self, session: Session) -> wire.Refusal | None:
        """Feeds the session until the connection ends. A refusal is returned, as a task group would wrap it."""
        while (frame := await self._frame()) is not None:
            try:
                for message in wire.parse(frame):
                    await session.receive(message)
            except wire.Refusal as refusal:
                return refusal
        return None

    async def _frame(self) -> str | bytes | None:
        message = await self.socket.receive()
        return message.data if message.type in {WSMsgType.TEXT, WSMsgType.BINARY} else None

    def _checked(self, messages: list[wire.Message]) -> SessionSetup:
        match messages:
            case [wire.Setup(content=content)]:
                return check_setup(content, self.route.backend, self.route.version)
            case _:
                raise wire.invalid("The first message must be setup.")

    def _conversation(self, setup: SessionSetup) -> Conversation:
        if setup.handle:
            talk = self.handles.resume(setup, self.still_open.values(), time.monotonic())
        else:
            context = ContextWindow(text_tokens(setup.setup_characters), setup.compression)
            agent = self.scenario.agent_for(setup.instructions)
            talk = Conversation(number=self.record.number, context=context, agent=agent)
        talk.remember(setup.instructions)
        return talk

    async def _survives(self, setup: SessionSetup) -> bool:
        """Lets a fault of the setup strike, if there is one; whether the setup goes on."""
        number = self.record.number
        fault = (self.faults.first("resume", number) if setup.handle else None) or self.faults.first("setup", number)
        if fault is None:
            return True
        self.record.struck(fault)
        await asyncio.sleep(fault.after_ms / 1000)
        match fault.do:
            case "delay":
                return True
            case "close" | "refuse":
                raise wire.Refusal(fault.code, fault.reason)
            case "abort":
                self.socket.abort()
        # A hung handshake: the client's own limit has to end it.
        while await self._frame() is not None:
            continue
        return False
