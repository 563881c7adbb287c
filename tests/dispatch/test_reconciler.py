"""Rooms and calls that don't fit, on a real livekit-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import websockets
from livekit import api
from livekit.protocol.agent_dispatch import RoomAgentDispatch
from livekit.protocol.room import RoomConfiguration

from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import Present
from cluster.dispatch.reconcile import GRACE_S, Room
from cluster.dispatch.reconciler import Reconciler
from cluster.dispatch.requests import FROM_ATTRIBUTE, TO_ATTRIBUTE, new_call_id
from cluster.dispatch.rooms import LivekitRooms
from cluster.local.livekit_server import LivekitServer
from cluster.messages import Refused
from cluster.outcome import DRAINING
from tests.dispatch.conftest import PROFILES
from tests.dispatch.doubles import HistoryPort, PoolDouble

CALLER, TRUNK = "+14155550123", "+14155550100"
OURS = RoomAgentDispatch(agent_name="gemini-sip-agent", metadata='{"profile": "reminder"}')
OTHERS = RoomAgentDispatch(agent_name="somebody-else")
OUTBOUND_ROOM = "call-" + new_call_id(1_790_000_000.0, b"0123456789")


@dataclass
class CallsDouble:
    """Calls in rooms, which remember who was given up."""

    places: dict[str, tuple[str, float]] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)

    def rooms(self) -> dict[str, tuple[str, float]]:
        """As the test says."""
        return self.places

    def give_up(self, call_id: str) -> None:
        """Note it."""
        self.given_up.append(call_id)


@pytest.fixture
def calls() -> CallsDouble:
    """None yet."""
    return CallsDouble()


@pytest.fixture
async def reconciler(
    livekit: LivekitServer, calls: CallsDouble, pool: PoolDouble, history: HistoryPort
) -> AsyncIterator[Reconciler]:
    """One to whom every room is old enough."""
    rooms = LivekitRooms(livekit.url, livekit.api_key, livekit.api_secret)
    reconciler = Reconciler(
        calls,
        rooms,
        Inbound(pool, history, rooms, default_profile="receptionist", profiles=PROFILES),
        room_prefix="call-",
        agent_name=OURS.agent_name,
        utc=lambda: time.time() + GRACE_S + 1,
    )
    yield reconciler
    await reconciler.close()
    await rooms.close()


@asynccontextmanager
async def somebody_in(
    livekit: LivekitServer, room: str, *asks_for: RoomAgentDispatch, kind: str = "sip"
) -> AsyncIterator[websockets.ClientConnection]:
    """Somebody in a room, by LiveKit's signalling alone: the room is real, and there is no sound."""
    token = (
        api.AccessToken(livekit.api_key, livekit.api_secret)
        .with_identity(f"{kind} in {room}")
        .with_kind(kind)  # type: ignore[arg-type]
        .with_attributes({FROM_ATTRIBUTE: CALLER, TO_ATTRIBUTE: TRUNK})
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .with_room_config(RoomConfiguration(agents=list(asks_for)))
    )
    async with websockets.connect(f"{livekit.url}/rtc?protocol=15&access_token={token.to_jwt()}") as line:
        await line.recv()  # the answer to the join
        yield line


async def hung_up(line: websockets.ClientConnection) -> None:
    """Return when LiveKit has put this one out."""
    async with asyncio.timeout(60):
        async for _ in line:
            pass


async def settled(reconciler: Reconciler) -> None:
    """Look, and wait for what came of it."""
    await reconciler.look()
    await reconciler._errands.wait(30)


async def names(admin: api.LiveKitAPI) -> set[str]:
    """The rooms that there are."""
    return {room.name for room in (await admin.room.list_rooms(api.ListRoomsRequest())).rooms}


async def test_a_caller_whom_nobody_took_is_claimed(
    livekit: LivekitServer, reconciler: Reconciler, pool: PoolDouble
) -> None:
    """With all that the dispatch and the phone say, and once; when that call is over, so is the silence."""
    async with somebody_in(livekit, "ring", OURS) as line:
        await settled(reconciler)
        (request,) = pool.asked
        asked = request.room, request.profile, request.from_, request.to
        assert asked == ("ring", "reminder", CALLER, TRUNK)
        await settled(reconciler)
        assert len(pool.asked) == 1
        await hung_up(line)


async def test_a_caller_whom_nobody_can_take_is_told(
    livekit: LivekitServer, reconciler: Reconciler, pool: PoolDouble, history: HistoryPort
) -> None:
    """A final answer at once, and a record."""
    pool.answers = [Refused(outcome=DRAINING, detail="")]
    async with somebody_in(livekit, "ring", OURS) as line:
        await settled(reconciler)
        await hung_up(line)
    call = await history.call(pool.asked[0].call_id, None, False)  # noqa: FBT003
    assert call is not None
    assert call["outcome"]["reason"] == "draining"


async def test_a_phone_that_we_dialled_and_left_alone_is_hung_up(
    livekit: LivekitServer, reconciler: Reconciler, pool: PoolDouble
) -> None:
    """Its room has the name of an outbound call, and no call has it."""
    async with somebody_in(livekit, OUTBOUND_ROOM) as line:
        await settled(reconciler)
        await hung_up(line)
    assert pool.asked == []


async def test_what_is_not_ours_or_in_use_is_left_alone(
    livekit: LivekitServer, admin: api.LiveKitAPI, reconciler: Reconciler, calls: CallsDouble, pool: PoolDouble
) -> None:
    """Others' phones and rooms, our callers with an agent, and our own calls, those too that wait in the queue."""
    calls.places = {OUTBOUND_ROOM: ("call-1", time.time())}
    async with (
        somebody_in(livekit, "theirs", OTHERS),
        somebody_in(livekit, "nobodys"),
        somebody_in(livekit, "web", OURS, kind="standard"),
        somebody_in(livekit, "served", OURS),
        somebody_in(livekit, "served", kind="agent"),
        somebody_in(livekit, OUTBOUND_ROOM),
    ):
        await settled(reconciler)
        assert await names(admin) == {"theirs", "nobodys", "web", "served", OUTBOUND_ROOM}
    assert (pool.asked, calls.given_up) == ([], [])


async def test_a_call_without_its_room_is_given_up_the_second_time(
    livekit: LivekitServer, reconciler: Reconciler, calls: CallsDouble
) -> None:
    """Its process had a minute to notice; one whose room is back goes on."""
    calls.places = {"gone": ("call-1", 0.0), "back": ("call-2", 0.0), "there": ("call-3", 0.0)}
    async with somebody_in(livekit, "there"):
        await reconciler.look()
        assert calls.given_up == []
        async with somebody_in(livekit, "back"):
            await reconciler.look()
    assert calls.given_up == ["call-1"]


async def test_without_livekit_nothing_is_known(
    livekit: LivekitServer, reconciler: Reconciler, calls: CallsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing is done."""
    calls.places = {"gone": ("call-1", 0.0)}
    nowhere = LivekitRooms("ws://127.0.0.1:1", livekit.api_key, livekit.api_secret)
    monkeypatch.setattr(reconciler, "_rooms", nowhere)
    await reconciler.look()
    await reconciler.look()
    assert calls.given_up == []
    assert await nowhere.asks_for("gone", OURS.agent_name) is None
    await nowhere.close()


async def test_livekit_may_fall_silent_between_two_questions(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, pool: PoolDouble
) -> None:
    """A room of which nobody knows who is in it is left alone."""

    async def all_rooms() -> list[Room]:
        return [Room(OUTBOUND_ROOM, "RM_1", 0.0)]

    async def no_answer(_room: str) -> list[Present] | None:
        return None

    monkeypatch.setattr(reconciler._rooms, "all", all_rooms)
    monkeypatch.setattr(reconciler._rooms, "present", no_answer)
    await settled(reconciler)
    assert pool.asked == []


async def test_it_looks_at_once_and_goes_on_after_a_failure(
    reconciler: Reconciler, calls: CallsDouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails is not the last."""
    monkeypatch.setattr("cluster.dispatch.reconciler.EVERY_S", 0.0)
    asked = asyncio.Event()

    def rooms() -> dict[str, tuple[str, float]]:
        if "KeyError" not in caplog.text:
            raise KeyError
        asked.set()
        return {}

    monkeypatch.setattr(calls, "rooms", rooms)
    reconciler.start()
    async with asyncio.timeout(60):
        await asked.wait()
