"""One worker's connection to LiveKit: offers are taken at once, admitted afterwards, and never dropped in silence.

Rules of this file:
1. An offer is answered before anything is awaited but the socket: LiveKit drops a job whose answer is late.
2. Calls and their admissions belong to the `Receptionist`, not to the connection: losing it loses no call.
3. A full worker still takes offers, since only who takes a job can give its caller a final answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import ControlPlaneDown, Pool
from cluster.dispatch.requests import agent_identity, call_id_of_room
from cluster.dispatch.worker_protocol import (
    Assigned,
    GoAway,
    Job,
    Offered,
    ProtocolError,
    Registered,
    WorkerProtocol,
)
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

REGISTER_TIMEOUT_S: Final = 10.0
PING_EVERY_S: Final = 5.0
"""The server has no ping timeout of its own; a dead connection would go unnoticed and every job with it."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
"""LiveKit drops what it has to offer while no worker is there, so the pauses stay short."""
SWEEP_EVERY_S: Final = 2.0
LAST_WORDS_S: Final = 5.0

_wire_log = logging.getLogger("ringmaster.wire")
# The library logs the handshake's headers, and with them our token.
_wire_log.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Where a receptionist works and as what."""

    url: str
    """LiveKit's, `ws(s)://` or `http(s)://`."""
    token: Callable[[], str] = field(repr=False)
    """Makes a fresh token with the `agent` grant for each connection."""
    agent_name: str
    version: str
    capacity: int
    """Calls at once that this worker counts as full; changes how offers are spread, not whether they come."""


@dataclass(slots=True)
class _Held:
    """A job that is ours."""

    job_id: str
    connection: _Connection
    call_id: str | None = None
    """None until it is admitted."""


@dataclass(frozen=True, slots=True)
class _Connection:
    socket: ClientConnection
    protocol: WorkerProtocol


class Receptionist:
    """Answers for one agent name at one LiveKit server, for ever."""

    def __init__(self, post: Post, inbound: Inbound, pool: Pool) -> None:
        self._post = post
        self._inbound = inbound
        self._pool = pool
        self._errands = TaskSet()
        self._held: dict[str, _Held] = {}
        self._connection: _Connection | None = None
        self._draining = False
        self.registered = asyncio.Event()
        """Set while LiveKit knows us."""

    async def run(self) -> None:
        """Connect, answer, connect again. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_for_ever())
            group.create_task(self._connect_for_ever())

    async def _connect_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                await self._connect()
            except InvalidStatus as error:
                status = error.response.status_code
                # The exception holds our token.
                log.error("LiveKit refused the worker connection; check its keys", extra={"status": status})  # noqa: TRY400
            except (OSError, WebSocketException, ProtocolError, TimeoutError) as error:
                what = {"error": type(error).__name__}
                log.warning("the worker connection to LiveKit is lost; connecting again", extra=what)
            failures = 0 if self.registered.is_set() else failures + 1
            self.registered.clear()
            self._connection = None
            await asyncio.sleep(pause_s(failures, random.random()))  # noqa: S311 spreads reconnections, hides nothing

    async def drain(self) -> None:
        """Get no more offers; what was taken goes on."""
        self._draining = True
        await self._tell_status()

    async def close(self) -> None:
        """Drain, let admissions under way come to an answer, and stop. Whoever runs `run` cancels it after this."""
        await self.drain()
        await self._errands.wait(LAST_WORDS_S)
        await self._errands.close()
        if self._connection is not None:
            await self._connection.socket.close()

    def statistics(self) -> dict[str, int]:
        """What this worker holds now."""
        admitted = sum(held.call_id is not None for held in self._held.values())
        return {"registered": int(self.registered.is_set()), "jobs": len(self._held), "admitted": admitted}

    async def _connect(self) -> None:
        socket = connect(
            agent_url(self._post.url),
            additional_headers={"Authorization": f"Bearer {self._post.token()}"},
            ping_interval=PING_EVERY_S,
            ping_timeout=PING_EVERY_S,
            open_timeout=REGISTER_TIMEOUT_S,
            max_size=2**21,
            compression=None,
            logger=_wire_log,
        )
        async with socket as opened:
            connection = _Connection(opened, WorkerProtocol(self._post.agent_name, self._post.version))
            await opened.send(connection.protocol.register())
            async with asyncio.timeout(REGISTER_TIMEOUT_S):
                await self._receive(connection)
            async for frame in opened:
                await self._react(connection, frame)

    async def _receive(self, connection: _Connection) -> None:
        while not self.registered.is_set():
            await self._react(connection, await connection.socket.recv())

    async def _react(self, connection: _Connection, frame: str | bytes) -> None:
        if isinstance(frame, str):
            raise ProtocolError("LiveKit sent a text frame")
        match connection.protocol.receive(frame):
            case Offered(job):
                await self._answer(connection, job)
            case Assigned(job):
                held = self._held[job.job_id] = _Held(job.job_id, connection)
                self._errands.spawn("taking a job", self._take(job, held))
            case Registered(worker_id):
                what = {"worker_id": worker_id, "agent_name": self._post.agent_name}
                log.info("registered as a worker at LiveKit", extra=what)
                self._connection = connection
                self.registered.set()
                await self._tell_status()
            case GoAway():
                await connection.socket.close()
            case _:
                # A termination too: whether the call is over, `BudgetPool` knows.
                pass

    async def _answer(self, connection: _Connection, job: Job) -> None:
        if self._draining:
            await connection.socket.send(connection.protocol.decline(job.job_id))
            return
        identity = agent_identity(call_id_of_room(job.arrival.room_sid))
        await connection.socket.send(connection.protocol.accept(job.job_id, identity))

    async def _take(self, job: Job, held: _Held) -> None:
        await self._tell_status()
        error = "failed"
        try:
            admitted = await self._inbound.take(job.arrival)
            held.call_id, error = (admitted.call_id, "") if admitted is not None else (None, "refused")
        finally:
            if error:
                await self._let_go(held, error)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self._sweep()
            except Exception as error:  # noqa: BLE001 - it must not end the connection by which callers come
                log.error("finished jobs are not let go: %s", type(error).__name__)  # noqa: TRY400 - see `TaskSet`

    async def _sweep(self) -> None:
        """Let go of the jobs whose calls are over, which `BudgetPool` knows and LiveKit's `termination` does not."""
        admitted = [held for held in self._held.values() if held.call_id is not None]
        if not admitted:
            return
        try:
            live = {call["call_id"] for call in await self._pool.live_calls(None)}
        except ControlPlaneDown:
            return
        for held in admitted:
            if held.call_id not in live:
                await self._let_go(held)

    async def _let_go(self, held: _Held, error: str = "") -> None:
        self._held.pop(held.job_id, None)
        # A job is known only to the connection that it came by.
        if held.connection is self._connection:
            await self._send(held.connection, held.connection.protocol.ended(held.job_id, error))
        await self._tell_status()

    async def _tell_status(self) -> None:
        connection = self._connection
        if connection is not None:
            status = connection.protocol.status(len(self._held), self._post.capacity, draining=self._draining)
            await self._send(connection, status)

    @staticmethod
    async def _send(connection: _Connection, frame: bytes) -> None:
        try:
            await connection.socket.send(frame)
        except WebSocketException:
            # `run` sees the same loss and connects again.
            log.debug("the connection was lost before a message")


def agent_url(url: str) -> str:
    """Where LiveKit serves its agent-worker protocol."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/agent", "protocol=1", ""))


def pause_s(failures: int, chance: float) -> float:
    """How long to wait before the next connection: doubling, and spread by `chance` (0 to 1) over half of it."""
    longest: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 10))
    return longest * (0.5 + chance / 2)
