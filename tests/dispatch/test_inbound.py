"""Inbound calls: each is admitted or refused, and each refusal hangs up and is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest

from cluster import outcome as o
from cluster.dispatch import inbound as i
from cluster.dispatch.ports import ControlPlaneDown, Present
from cluster.dispatch.requests import BAD_METADATA, UNKNOWN_PROFILE, Arrival, call_id_of_room
from cluster.messages import Admitted, Queued, Refused, Wait
from cluster.outcome import Outcome
from tests.dispatch.doubles import HistoryPort, PoolDouble, RoomsDouble

ROOM = "call-_+15551230001_x"
ARRIVAL = Arrival(room=ROOM, room_sid="RM_1", attributes={"sip.phoneNumber": "+15551230001"})
CALL_ID = call_id_of_room("RM_1")
FULL = Wait(outcome=o.OVER_CAPACITY, retry_after_s=0.01)


def queued(expires_in_s: float) -> Queued:
    """It waits."""
    return Queued(call_id=CALL_ID, position=1, estimated_wait_s=1.0, expires_in_s=expires_in_s, outcome=o.OVER_CAPACITY)


async def outcome_of(history: HistoryPort, call_id: str = CALL_ID) -> Outcome | None:
    """The recorded outcome."""
    call = await history.call(call_id, None, False)  # noqa: FBT003
    return None if call is None else Outcome.parse(f"{call['outcome']['result']}/{call['outcome']['reason']}")


async def test_a_call_is_admitted(inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble) -> None:
    """Its room stays."""
    admitted = await inbound.take(ARRIVAL)
    assert isinstance(admitted, Admitted)
    assert (admitted.call_id, pool.asked[0].profile, rooms.deleted) == (CALL_ID, "receptionist", [])


async def test_a_refused_caller_gets_a_final_answer(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort, caplog: pytest.LogCaptureFixture
) -> None:
    """The room is deleted, the refusal is recorded, and the caller's number is not in the log."""
    pool.answers = [Refused(outcome=o.OVER_BUDGET, detail="Spent.")]
    with caplog.at_level(logging.DEBUG):
        assert await inbound.take(ARRIVAL) is None
    assert rooms.deleted == [ROOM]
    assert await outcome_of(history) == o.OVER_BUDGET
    [line] = [vars(record) for record in caplog.records if "refused" in record.message]
    assert (line["call_id"], line["outcome"], line["why"]) == (CALL_ID, "policy/budget", "Spent.")
    assert "15551230001" not in str([vars(record) for record in caplog.records])


async def test_a_ringing_phone_may_wait_a_little(inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble) -> None:
    """For a place that becomes free, or for a control actor that comes back."""
    pool.answers = [FULL, FULL]
    assert isinstance(await inbound.take(ARRIVAL), Admitted)
    assert (len(pool.asked), rooms.deleted) == (3, [])


async def test_but_not_for_ever(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that stays taken, or will be for longer than anybody rings, is a refusal."""
    clock = SimpleNamespace(monotonic=lambda: i.PATIENCE_S / 3 * len(pool.asked), time=time.time)
    monkeypatch.setattr(i, "time", clock)  # each answer takes a third of the time that there is
    pool.answers = [FULL] * 1000
    assert await inbound.take(ARRIVAL) is None
    asked = len(pool.asked)
    assert asked == 4
    pool.answers = [Wait(outcome=o.OVER_BUDGET, retry_after_s=60)]
    assert await inbound.take(Arrival(room="call-2", room_sid="RM_2")) is None
    assert len(pool.asked) == asked + 1
    assert rooms.deleted == [ROOM, "call-2"]
    assert await outcome_of(history) == o.OVER_CAPACITY
    assert await outcome_of(history, call_id_of_room("RM_2")) == o.OVER_BUDGET


async def test_a_queued_call_is_asked_for_again_until_its_time_is_up(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort
) -> None:
    """`BudgetPool` holds each answer; whoever gets no place is taken from the queue and gets a final answer."""
    pool.answers = [queued(60.0), queued(60.0)]
    assert isinstance(await inbound.take(ARRIVAL), Admitted)
    assert (len(pool.asked), pool.hung_up) == (3, [])
    other = Arrival(room="call-2", room_sid="RM_2")
    pool.answers = [queued(0.05)] * 100_000
    assert await inbound.take(other) is None
    assert rooms.deleted == ["call-2"]
    assert pool.hung_up == [call_id_of_room("RM_2")]
    assert await outcome_of(history, call_id_of_room("RM_2")) == o.OVER_CAPACITY


async def test_a_caller_who_hung_up_while_queued_leaves_the_queue(
    inbound: i.Inbound, pool: PoolDouble, history: HistoryPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where `BudgetPool` can't be told, since its time in the queue ends by itself."""

    async def gone(_call_id: str) -> bool:
        raise ControlPlaneDown

    looks: list[list[Present]] = [[Present("SIP", {})], [], [Present("SIP", {})], []]

    async def present(_room: str) -> list[Present]:
        return looks.pop(0)

    rooms = RoomsDouble()
    monkeypatch.setattr(rooms, "present", present)
    inbound._rooms = rooms
    attributes = {"sip.phoneNumber": "+15551230001"}
    pool.answers = [queued(60.0), queued(60.0)]
    assert await inbound.take(Arrival(room=ROOM, room_sid="RM_1", attributes=attributes)) is None
    assert (pool.hung_up, await outcome_of(history)) == ([CALL_ID], o.CALLER_LEFT_EARLY)
    monkeypatch.setattr(pool, "hangup", gone)
    assert await inbound.take(Arrival(room="call-2", room_sid="RM_2", attributes=attributes)) is None
    assert await outcome_of(history, call_id_of_room("RM_2")) == o.CALLER_LEFT_EARLY


async def test_a_caller_who_hung_up_meanwhile_gets_no_call(
    inbound: i.Inbound, pool: PoolDouble, history: HistoryPort
) -> None:
    """Nobody is sent into a room that has emptied."""

    class Leaving(RoomsDouble):
        async def present(self, room: str) -> list[Present] | None:
            assert room == ROOM
            return looks.pop(0)

    looks: list[list[Present] | None] = [None, [Present("SIP", {})], None, []]
    inbound._rooms = Leaving()
    pool.answers = [FULL] * 3
    assert await inbound.take(ARRIVAL) is None
    assert (len(pool.asked), looks, await outcome_of(history)) == (3, [], o.CALLER_LEFT_EARLY)
    assert pool.live == {}


async def test_without_the_control_actors_the_caller_is_refused(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few tries; even if the refusal cannot be recorded, the phone stops ringing."""
    monkeypatch.setattr(i, "CONTROL_PLANE_PAUSE_S", 0.01)
    pool.answers = [ControlPlaneDown()]
    assert isinstance(await inbound.take(ARRIVAL), Admitted)
    monkeypatch.setattr(i, "PATIENCE_S", 0.1)
    pool.down = history.down = True
    assert await inbound.take(ARRIVAL) is None
    assert rooms.deleted == [ROOM]
    history.down = False
    assert await outcome_of(history) is None


async def test_a_fault_of_ours_leaves_nobody_ringing(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort
) -> None:
    """The caller gets a final answer, and the record says whose fault it was."""
    pool.answers = [RuntimeError("a bug")]
    assert await inbound.take(ARRIVAL) is None
    assert (rooms.deleted, await outcome_of(history)) == ([ROOM], o.FAULT)


@pytest.mark.parametrize("case", [('{"profile": "nobody"}', UNKNOWN_PROFILE), ('{"context": 1}', BAD_METADATA)])
async def test_a_dispatch_that_cannot_be_served_is_refused(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, history: HistoryPort, case: tuple[str, Outcome]
) -> None:
    """Nothing is asked of admission, and the record says what was wrong with the dispatch."""
    metadata, outcome = case
    assert await inbound.take(Arrival(room=ROOM, room_sid="RM_1", metadata=metadata)) is None
    assert (pool.asked, rooms.deleted) == ([], [ROOM])
    assert await outcome_of(history) == outcome


async def test_who_calls_is_seen_in_the_room(
    inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiveKit's job does not say it. A phone comes first, our own kind does not count, and nobody waits for it long."""
    phone = Present("SIP", {"sip.phoneNumber": "+15551230001", "sip.trunkPhoneNumber": "+15559870002"})
    browser = Present("STANDARD", {"ringmaster.profile": "reminder"})
    rooms.inside = {"1": [browser, Present("AGENT", {}), phone], "2": [browser], "3": [Present("AGENT", {"a": "b"})]}
    for room in ("1", "2", "3", "4"):
        await inbound.take(Arrival(room=room, room_sid=f"RM_{room}"))
    seen = [(request.from_, request.to, request.profile) for request in pool.asked]
    assert seen[0] == ("+15551230001", "+15559870002", "receptionist")
    assert seen[1:] == [("", "", "reminder"), ("", "", "receptionist"), ("", "", "receptionist")]

    async def hang(_room: str) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(i, "CALLER_KNOWN_WITHIN_S", 0.01)
    monkeypatch.setattr(rooms, "present", hang)
    assert isinstance(await inbound.take(Arrival(room="5", room_sid="RM_5")), Admitted)


async def test_a_hint_has_no_effect_but_an_admission(inbound: i.Inbound, pool: PoolDouble, rooms: RoomsDouble) -> None:
    """What is refused early may be admitted a moment later, when LiveKit itself asks."""
    pool.answers = [FULL, Refused(outcome=o.OVER_BUDGET, detail="Spent."), ControlPlaneDown()]
    for _ in range(3):
        assert not isinstance(await inbound.hint(ARRIVAL), Admitted)
    assert await inbound.hint(Arrival(room=ROOM, room_sid="RM_1", metadata='{"profile": "nobody"}')) is None
    assert rooms.deleted == []
    early = await inbound.hint(ARRIVAL)
    assert early == await inbound.take(ARRIVAL)
    assert len(pool.live) == 1
