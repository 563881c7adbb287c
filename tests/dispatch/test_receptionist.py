"""The receptionist at a real livekit-server: offers become calls or refusals, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from livekit import api
from livekit.protocol import agent as pb

from cluster import outcome as o
from cluster.dispatch import receptionist as r
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import History
from cluster.dispatch.requests import UNKNOWN_PROFILE, agent_identity
from cluster.dispatch.worker_protocol import ProtocolError
from cluster.local.livekit_server import LivekitServer
from cluster.messages import CallQuery, CallRequest, Refused, Wait
from cluster.outcome import Outcome
from tests.dispatch.doubles import HistoryPort, PoolDouble, RoomsDouble

AGENT = "gemini-sip-agent"
WITHIN_S = 10.0
DISPATCH_GOAL_S = 0.35


async def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Wait for something that another process brings about."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 what is waited for is on the other side of a socket
            await asyncio.sleep(0.002)


class Line:
    """A TCP line to livekit-server that can be cut, and laid to another server."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self._carrying: dict[asyncio.Task[None] | None, tuple[asyncio.StreamWriter, ...]] = {}

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Line]:
        """The line, while it lies."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            self.cut()
            await asyncio.gather(*filter(None, self._carrying), return_exceptions=True)

    def cut(self) -> None:
        """Both sides lose the connection."""
        for writers in self._carrying.values():
            for writer in writers:
                writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._carrying[task] = (writer,)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._carrying[task] = (writer, far_writer)
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        writer.transport.abort()
        del self._carrying[task]

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
        writer.transport.abort()


def post_at(server: LivekitServer, port: int | None = None) -> r.Post:
    """A post at a server, or at a line to it."""

    def token() -> str:
        grants = api.VideoGrants(agent=True)
        return api.AccessToken(server.api_key, server.api_secret).with_grants(grants).to_jwt()

    url = server.url if port is None else f"ws://127.0.0.1:{port}"
    return r.Post(url=url, token=token, agent_name=AGENT, version="test", capacity=8)


@asynccontextmanager
async def at_work(post: r.Post, inbound: Inbound, pool: PoolDouble) -> AsyncIterator[r.Receptionist]:
    """A receptionist who is registered."""
    receptionist = r.Receptionist(post, inbound, pool)
    running = asyncio.create_task(receptionist.run())
    try:
        async with asyncio.timeout(WITHIN_S):
            await receptionist.registered.wait()
        yield receptionist
        await receptionist.close()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def dispatch(admin: api.LiveKitAPI, room: str, metadata: str = "") -> None:
    """What `lk dispatch create` does."""
    request = api.CreateAgentDispatchRequest(agent_name=AGENT, room=room, metadata=metadata)
    await admin.agent_dispatch.create_dispatch(request)


async def rooms_of(admin: api.LiveKitAPI) -> set[str]:
    """The rooms that the server has."""
    return {room.name for room in (await admin.room.list_rooms(api.ListRoomsRequest())).rooms}


class RealRooms(RoomsDouble):
    """Rooms that are really deleted."""

    def __init__(self, admin: api.LiveKitAPI) -> None:
        super().__init__()
        self.admin = admin

    async def delete(self, room: str) -> bool:
        """Delete it on the server."""
        await self.admin.room.delete_room(api.DeleteRoomRequest(room=room))
        return await super().delete(room)


@pytest.fixture
def inbound(pool: PoolDouble, history: HistoryPort, admin: api.LiveKitAPI) -> Inbound:
    """Whoever takes calls, with the server's rooms."""
    profiles = frozenset({"receptionist", "reminder"})
    rooms = RealRooms(admin)
    return Inbound(pool, history, rooms, default_profile="receptionist", profiles=profiles)


async def test_a_dispatch_reaches_admission(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble
) -> None:
    """Within the goal of 350 ms, of which LiveKit itself takes 205; with profile, context, room and its id."""
    async with at_work(post_at(livekit), inbound, pool):
        took = []
        for number in range(5):
            began = time.monotonic()
            await dispatch(admin, f"room-{number}", '{"profile": "reminder", "context": {"name": "Ana"}}')
            await until(lambda number=number: len(pool.asked) > number)  # type: ignore[misc]
            took.append(time.monotonic() - began)
        request = pool.asked[0]
        assert (request.room, request.profile, request.context) == ("room-0", "reminder", {"name": "Ana"})
        assert request.request_id.startswith("room:RM_")
        assert request.identity == agent_identity(request.call_id)
        assert len({request.request_id for request in pool.asked}) == 5
        assert sorted(took)[2] < DISPATCH_GOAL_S


async def test_a_token_with_agents_reaches_admission(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble
) -> None:
    """As a SIP rule's `room_config.agents` does: a room that is created with agents asks for them."""
    async with at_work(post_at(livekit), inbound, pool):
        agents = [api.RoomAgentDispatch(agent_name=AGENT, metadata='{"profile": "reminder"}')]
        await admin.room.create_room(api.CreateRoomRequest(name="call-1", agents=agents))
        await until(lambda: bool(pool.asked))
        assert (pool.asked[0].room, pool.asked[0].profile) == ("call-1", "reminder")


@pytest.mark.parametrize(
    "case",
    [
        (Refused(outcome=o.OVER_BUDGET, detail="Spent."), "", o.OVER_BUDGET),
        (Wait(outcome=o.OVER_CAPACITY, retry_after_s=9), "", o.OVER_CAPACITY),
        (None, '{"profile": "nobody"}', UNKNOWN_PROFILE),
    ],
)
async def test_a_refused_dispatch_leaves_no_room(
    livekit: LivekitServer,
    admin: api.LiveKitAPI,
    inbound: Inbound,
    pool: PoolDouble,
    case: tuple[Refused | Wait | None, str, Outcome],
) -> None:
    """Whoever is in it is put out, which is a phone's final answer, and the refusal is recorded."""
    answer, metadata, outcome = case
    pool.answers = [] if answer is None else [answer]
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        await dispatch(admin, "room-1", metadata)
        await eventually(history_has_a_refusal(inbound._history, outcome))
        await until(lambda: receptionist.statistics()["jobs"] == 0)
        assert await rooms_of(admin) == set()


def history_has_a_refusal(history: History, outcome: Outcome) -> Callable[[], Awaitable[bool]]:
    """Whether the one call that there is has this outcome."""

    async def look() -> bool:
        found = [call["outcome"] for call in await history.calls(None, CallQuery(state="ended"), False) or []]  # noqa: FBT003
        return [(call["result"], call["reason"]) for call in found] == [(outcome.result, outcome.reason)]

    return look


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that has to be asked for."""
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110 the condition is in a database
            await asyncio.sleep(0.01)


async def test_a_burst_over_capacity_ends_in_calls_and_refusals(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble, history: HistoryPort
) -> None:
    """Fifty dispatches at once and eight places: eight calls, forty-two refusals, none in silence."""
    admit = pool.admit

    async def eight_places(request: CallRequest) -> object:
        if len(pool.live) >= 8 and request.call_id not in pool.live:
            pool.answers = [Refused(outcome=o.OVER_CAPACITY, detail="Full.")]
        return await admit(request)

    pool.admit = eight_places  # type: ignore[method-assign, assignment]
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        await asyncio.gather(*(dispatch(admin, f"room-{number}") for number in range(50)))
        await until(lambda: len({request.request_id for request in pool.asked}) == 50, 30)
        await until(lambda: receptionist.statistics() == {"registered": 1, "jobs": 8, "admitted": 8})
        assert len(await history.calls(None, CallQuery(state="ended", limit=100), False) or []) == 42  # noqa: FBT003
        assert len(await rooms_of(admin)) == 8


async def test_losing_the_connection_loses_no_call(
    livekit: LivekitServer,
    admin: api.LiveKitAPI,
    inbound: Inbound,
    pool: PoolDouble,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was taken goes on, and the next dispatch is taken over the next connection; no token is logged."""
    with caplog.at_level(logging.DEBUG):
        async with (
            Line(livekit.port).laid() as line,
            at_work(post_at(livekit, line.port), inbound, pool) as receptionist,
        ):
            await dispatch(admin, "room-1")
            await until(lambda: len(pool.live) == 1)
            for number in (2, 3):
                line.cut()
                await until(lambda: not receptionist.registered.is_set())
                await asyncio.wait_for(receptionist.registered.wait(), WITHIN_S)
                await dispatch(admin, f"room-{number}")
                await until(lambda number=number: len(pool.live) == number)  # type: ignore[misc]
            await until(lambda: receptionist.statistics() == {"registered": 1, "jobs": 3, "admitted": 3})
    assert "eyJ" not in caplog.text


async def test_a_server_that_restarts_finds_its_worker_again(
    livekit_binary: Path, livekit: LivekitServer, inbound: Inbound, pool: PoolDouble
) -> None:
    """The receptionist tries for as long as it takes, and is there when the server is."""
    next_server = LivekitServer(livekit_binary)
    next_server.api_key, next_server.api_secret = livekit.api_key, livekit.api_secret
    async with Line(1).laid() as line:
        receptionist = r.Receptionist(post_at(livekit, line.port), inbound, pool)
        running = asyncio.create_task(receptionist.run())
        line.target = livekit.port
        await asyncio.wait_for(receptionist.registered.wait(), WITHIN_S)
        await livekit._stop()
        await until(lambda: not receptionist.registered.is_set())
        async with next_server, api.LiveKitAPI(next_server.url, livekit.api_key, livekit.api_secret) as admin:
            line.target = next_server.port
            await asyncio.wait_for(receptionist.registered.wait(), WITHIN_S)
            await dispatch(admin, "room-1")
            await until(lambda: len(pool.live) == 1)
            await receptionist.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_termination_is_no_hang_up(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is held until `BudgetPool` says that the call is over; then it is let go."""
    monkeypatch.setattr(r, "SWEEP_EVERY_S", 0.02)
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        await dispatch(admin, "room-1")
        await until(lambda: receptionist.statistics()["admitted"] == 1)
        [held] = receptionist._held.values()
        termination = pb.ServerMessage(termination=pb.JobTermination(job_id=held.job_id))
        await receptionist._react(held.connection, termination.SerializeToString())
        for down in (True, False):
            pool.down = down
            await receptionist._sweep()
            assert receptionist.statistics()["admitted"] == 1
        assert pool.hung_up == []
        pool.live.clear()
        await until(lambda: receptionist.statistics()["jobs"] == 0)


async def test_a_server_that_sends_us_away_is_left(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble
) -> None:
    """And connected to again; so is one that says what has no place."""
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        connection = receptionist._connection
        assert connection is not None
        await receptionist._react(connection, pb.ServerMessage(go_away=pb.AgentHttp.GoAway()).SerializeToString())
        await until(lambda: receptionist._connection is not connection and receptionist.registered.is_set())
        with pytest.raises(ProtocolError):
            await receptionist._react(connection, "text")
        await dispatch(admin, "room-1")
        await until(lambda: len(pool.live) == 1)


async def test_a_draining_worker_leaves_jobs_to_the_others(
    livekit: LivekitServer, admin: api.LiveKitAPI, inbound: Inbound, pool: PoolDouble, history: HistoryPort
) -> None:
    """It is asked no more, and keeps what it has."""
    other_pool = PoolDouble()
    profiles = frozenset({"receptionist"})
    other_inbound = Inbound(other_pool, history, RoomsDouble(), default_profile="receptionist", profiles=profiles)
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        await dispatch(admin, "room-0")
        await until(lambda: receptionist.statistics()["admitted"] == 1)
        async with at_work(post_at(livekit), other_inbound, other_pool):
            await receptionist.drain()
            for number in range(1, 6):
                await dispatch(admin, f"room-{number}")
            await until(lambda: len(other_pool.live) == 5)
            assert receptionist.statistics() == {"registered": 1, "jobs": 1, "admitted": 1}


async def test_an_offer_that_crosses_the_drain_is_declined(
    livekit: LivekitServer, inbound: Inbound, pool: PoolDouble
) -> None:
    """It was on its way when we said that we are full. A message into a lost connection is no error either."""
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        connection = receptionist._connection
        assert connection is not None
        await receptionist.drain()
        offer = pb.ServerMessage(availability=pb.AvailabilityRequest(job=pb.Job(id="AJ_1")))
        await receptionist._react(connection, offer.SerializeToString())
        await connection.socket.close()
        await receptionist._send(connection, b"")
        await until(lambda: receptionist._connection is not connection and receptionist.registered.is_set())
        assert pool.asked == []


async def test_a_job_that_fails_is_let_go(
    livekit: LivekitServer,
    admin: api.LiveKitAPI,
    inbound: Inbound,
    pool: PoolDouble,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug in taking one job does not harm the others, and its text stays out of the log."""
    pool.answers = [RuntimeError("+15551230001")]
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        with monkeypatch.context() as broken:
            broken.setattr(inbound, "refuse", pool.admit)  # which has no such arguments
            await dispatch(admin, "room-1")
            await until(lambda: "taking a job failed" in caplog.text and receptionist.statistics()["jobs"] == 0)
        await dispatch(admin, "room-2")
        await until(lambda: receptionist.statistics()["admitted"] == 1)
    assert "15551230001" not in str([vars(record) for record in caplog.records])


async def test_what_fails_beside_the_connection_does_not_end_it(
    livekit: LivekitServer,
    admin: api.LiveKitAPI,
    inbound: Inbound,
    pool: PoolDouble,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Callers go on coming by it, and what was not swept is swept later."""

    async def broken(_tenant: str | None) -> list[dict[str, Any]]:
        raise RuntimeError("no list of calls")

    monkeypatch.setattr(r, "SWEEP_EVERY_S", 0.01)
    async with at_work(post_at(livekit), inbound, pool) as receptionist:
        connection = receptionist._connection
        with monkeypatch.context() as fault:
            fault.setattr(pool, "live_calls", broken)
            await dispatch(admin, "room-1")
            await until(lambda: "finished jobs are not let go: RuntimeError" in caplog.text)
        pool.live.clear()
        await until(lambda: receptionist.statistics()["jobs"] == 0)
        assert receptionist._connection is connection


async def test_a_wrong_key_is_told_and_tried_again(
    livekit: LivekitServer, inbound: Inbound, pool: PoolDouble, caplog: pytest.LogCaptureFixture
) -> None:
    """LiveKit's refusal is in the log, our token is not."""
    post = replace(post_at(livekit), token=lambda: api.AccessToken("APIother", "x" * 32).to_jwt())
    running = asyncio.create_task(r.Receptionist(post, inbound, pool).run())
    with caplog.at_level(logging.DEBUG):
        await until(lambda: sum("check its keys" in record.message for record in caplog.records) >= 2)
    assert next(vars(line)["status"] for line in caplog.records if "check its keys" in line.message) == 401
    assert "eyJ" not in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("url", "worker_url"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880/agent?protocol=1"),
        ("https://example.livekit.cloud", "wss://example.livekit.cloud/agent?protocol=1"),
        ("http://host/base/", "ws://host/base/agent?protocol=1"),
    ],
)
def test_where_livekit_serves_the_protocol(url: str, worker_url: str) -> None:
    """Beside its other APIs, over a websocket."""
    assert r.agent_url(url) == worker_url


def test_pauses_between_connections() -> None:
    """They double up to a limit and are spread, so that replicas do not come all at once."""
    assert [r.pause_s(failures, 1.0) for failures in (0, 1, 2)] == [0.05, 0.1, 0.2]
    assert r.pause_s(1000, 1.0) == r.LONGEST_PAUSE_S
    assert r.pause_s(1000, 0.0) == r.LONGEST_PAUSE_S / 2
