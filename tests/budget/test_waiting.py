"""The queue at an open desk: who waits, what they hear, and what a restart finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from cluster import outcome as o
from cluster.budget import tables, waiting
from cluster.budget.doorway import DATABASE_UNAVAILABLE, KEY_REUSED, REUSED
from cluster.budget.policy import Policy
from cluster.messages import Admitted, Direction, Queued, Refused, Wait
from cluster.profiles import Profile
from tests.budget.fakes import call_request
from tests.budget.house import House, desk_rules, until

Open = Callable[..., Any]


@pytest.fixture
def open_house(engine: Engine, profiles: dict[str, Profile]) -> Open:
    """Opens a desk with so many slots, all of them or as many as said taken by calls of `first`, and a policy."""

    @asynccontextmanager
    async def opened(slots: int = 1, taken: int | None = None, **policy: Any) -> AsyncIterator[House]:
        rules = desk_rules(max_calls=slots, lease_ttl_s=400.0)
        house = House(engine, profiles, rules, policy=Policy.model_validate(policy))
        await house.open()
        for number in range(101, 101 + (slots if taken is None else taken)):
            await house.desk.admit(call_request(number, tenant="first"))
            await house.serving(f"call-{number}")
        yield house
        await house.desk.close()

    return opened


def stored(house: House) -> list[str]:
    """The calls that wait, in the database."""
    with house.engine.connect() as connection:
        return list(connection.execute(select(tables.waiting.c.call_id).order_by(tables.waiting.c.number)).scalars())


def ring(number: int, **changes: Any) -> Any:
    """Somebody calls."""
    return call_request(number, direction=Direction.INBOUND, **changes)


async def free_a_slot(house: House, call_id: str = "call-101") -> None:
    """A call ends, and whoever is next starts."""
    (await house.serving(call_id)).end()
    await until(lambda: all(call["call_id"] != call_id for call in house.desk.live_calls()))
    house.desk.tick()


async def test_what_can_not_start_waits_and_starts_by_itself(open_house: Open) -> None:
    """It is durable and known to the history when its sender hears of it, and the sender need not ask again."""
    async with open_house() as house:
        said = await house.desk.admit(call_request(1))
        assert said == Queued(
            call_id="call-1", position=1, estimated_wait_s=5.0, expires_in_s=300.0, outcome=o.OVER_CAPACITY
        )
        assert stored(house) == ["call-1"]
        assert house.history.begun[-1] == "call-1"
        assert house.desk.statistics()["queued"] == {"inbound": 0, "outbound": 1}
        house.clock.advance(2.0)
        [shown] = house.desk.queue("acme")
        assert (shown["state"], shown["position"], shown["waited_s"], shown["number"]) == (
            "queued",
            1,
            2.0,
            "+*********01",
        )
        assert house.desk.queue("zeta") == []
        await free_a_slot(house)
        await house.serving("call-1")
        assert stored(house) == house.desk.queue() == []
        assert isinstance(await house.desk.admit(call_request(1)), Admitted)


async def test_the_same_request_hears_its_place_and_another_is_refused(open_house: Open) -> None:
    """As with one that was admitted."""
    async with open_house() as house:
        first = await house.desk.admit(call_request(1))
        assert await house.desk.admit(call_request(1, call_id="call-9")) == first
        said = await house.desk.admit(call_request(1, to="+15551230002"))
        assert isinstance(said, Refused)
        assert said.outcome == KEY_REUSED
        assert stored(house) == ["call-1"]


async def test_nobody_overtakes_who_waits_for_the_same(open_house: Open) -> None:
    """A slot that has become free is the next one's, also of a request that comes at that moment."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        (await house.serving("call-101")).end()
        await until(lambda: not house.desk.live_calls("first"))
        assert isinstance(await house.desk.admit(call_request(2, tenant="zeta")), Queued)
        await house.serving("call-1")


async def test_one_lane_does_not_hold_up_another(open_house: Open) -> None:
    """Who waits for a campaign's limit lets everybody else pass, but not the campaign's own later calls."""
    async with open_house(slots=2, taken=0, campaigns={"spring": {"max_calls": 1}}) as house:
        assert isinstance(await house.desk.admit(call_request(1, campaign="spring")), Admitted)
        waits = [await house.desk.admit(call_request(number, campaign="spring")) for number in (2, 3)]
        assert [(said.outcome, said.position) for said in waits if isinstance(said, Queued)] == [
            (o.OVER_CAMPAIGN_CALLS, 1),
            (o.OVER_CAMPAIGN_CALLS, 2),
        ]
        assert isinstance(await house.desk.admit(call_request(4)), Admitted)


async def test_time_in_the_queue_ends_with_a_record(open_house: Open) -> None:
    """Which says what it waited for, and is written again until the history takes it."""
    async with open_house(queue={"outbound_ttl_s": 60}) as house:
        await house.desk.admit(call_request(1))
        house.history.failures = 1
        await house.pass_time(60.0)
        await until(lambda: "call-1" in house.history.finished)
        record = house.history.finished["call-1"]
        assert (record.outcome, record.duration_s, record.cost_usd_micros) == (o.WAITED_TOO_LONG, 60.0, 0)
        assert record.detail.startswith("It waited 60 s in the queue, and could not start: Every slot is taken")
        await until(lambda: not stored(house))
        assert house.desk.statistics()["turned_away"] == {"waited-too-long": 1}


async def test_a_queued_call_can_be_hung_up(open_house: Open) -> None:
    """Then it does not start, and has its record."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        assert await house.desk.hangup("call-1")
        assert not await house.desk.hangup("call-1")
        await until(lambda: "call-1" in house.history.finished)
        assert house.history.finished["call-1"].outcome == o.HUNG_UP_BY_API


async def test_a_key_whose_call_left_the_queue_is_still_that_call(open_house: Open) -> None:
    """Whoever repeats the request, not knowing, dials nobody; neither does the next process."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        assert await house.desk.hangup("call-1")
        again = call_request(1, call_id="call-2")
        await free_a_slot(house)
        same = Admitted(call_id="call-1", lease_id="", warm=False)
        assert await house.desk.admit(again) == same
        assert await house.desk.admit(call_request(1, to="+15551230009")) == REUSED
        await house.desk.close()
        await house.open(parked=None)
        assert await house.desk.admit(again) == same
        assert house.desk.live_calls() == []


async def test_a_hang_up_holds_while_the_history_is_away(open_house: Open) -> None:
    """The next process finds that the call was given up, and why."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        house.history.failures = 10**9
        assert await house.desk.hangup("call-1")
        await house.desk.close()
        house.history.failures = 0
        await house.open(parked=None)
        await until(lambda: "call-1" in house.history.finished and stored(house) == [])
        assert house.history.finished["call-1"].outcome == o.HUNG_UP_BY_API
        assert house.desk.queue() == []


@pytest.mark.parametrize("durable", [True, False])
async def test_a_hang_up_holds_while_the_call_is_taken_from_the_queue(
    open_house: Open, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    """Its admission is being made durable, or can't be: nobody is dialled either way."""
    monkeypatch.setattr("cluster.budget.desk.TICK_S", 1_000.0)
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        (await house.serving("call-101")).end()
        await until(lambda: house.desk.capacity() == 1)
        if not durable:
            with house.engine.begin() as connection:
                connection.execute(text("ALTER TABLE requests RENAME TO away"))
        house.desk.tick()
        assert house.desk.queue() == []
        assert await house.desk.hangup("call-1")
        await until(lambda: "call-1" in house.history.finished)
        assert house.history.finished["call-1"].outcome == o.HUNG_UP_BY_API
        assert [a.request.call_id for other in house.actors.alive.values() for a in other.assignments] == ["call-101"]


async def test_a_call_may_be_taken_from_the_queue_and_from_nowhere_else(open_house: Open) -> None:
    """Its campaign is paused: who is on the phone already goes on talking."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        assert await house.desk.leave_queue("call-1")
        await until(lambda: "call-1" in house.history.finished)
        assert house.history.finished["call-1"].outcome == o.WITHDRAWN
        assert not await house.desk.leave_queue("call-101")
        assert [call["call_id"] for call in house.desk.live_calls()] == ["call-101"]


async def test_nobody_waits_beyond_the_time_at_which_to_dial(open_house: Open) -> None:
    """However long the queue may be."""
    async with open_house() as house:
        await house.desk.admit(call_request(1, dial_before=house.clock.utc() + 30.0))
        await house.pass_time(31.0)
        await until(lambda: "call-1" in house.history.finished)
        assert house.history.finished["call-1"].outcome == o.WAITED_TOO_LONG


async def test_what_may_no_longer_start_is_given_up(open_house: Open) -> None:
    """It was put off when it came, and is refused when its turn comes."""
    async with open_house(tenants={"acme": {"calling_hours": "Mo-Su 09:00-13:01"}}) as house:
        await house.desk.admit(call_request(1, to="+4930123456"))
        house.clock.advance(90.0)
        await free_a_slot(house)
        await until(lambda: "call-1" in house.history.finished)
        assert house.history.finished["call-1"].outcome == o.OUTSIDE_HOURS


async def test_a_tenants_queue_has_a_size(open_house: Open) -> None:
    """Who comes after is refused, with the time after which it may be worth a try; other tenants are not."""
    async with open_house(queue={"size": 1}) as house:
        await house.desk.admit(call_request(1))
        said = await house.desk.admit(call_request(2))
        assert said == Refused(outcome=o.QUEUE_FULL, detail=o.WHY_NOT[o.QUEUE_FULL], retry_after_s=5.0)
        assert isinstance(await house.desk.admit(call_request(3, tenant="zeta")), Queued)


async def test_nobody_starts_while_the_service_drains(open_house: Open) -> None:
    """Those who wait are there afterwards."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        house.desk.limits.draining = True
        await free_a_slot(house)
        assert [call["call_id"] for call in house.desk.queue()] == ["call-1"]
        house.desk.limits.draining = False
        house.desk.tick()
        await house.serving("call-1")


async def test_a_caller_waits_before_everybody_else_and_hears_as_soon_as_there_is_a_place(open_house: Open) -> None:
    """The answer is held, so that the caller's side need not ask all the time."""
    async with open_house() as house:
        await house.desk.admit(call_request(1, priority=9))
        asked = asyncio.create_task(house.desk.admit(ring(2)))
        await until(lambda: stored(house) == ["call-1", "call-2"])
        again = asyncio.create_task(house.desk.admit(ring(2)))
        await free_a_slot(house)
        said = await asked
        assert isinstance(said, Admitted)
        assert await again == said
        await house.serving("call-2")
        assert [call["call_id"] for call in house.desk.queue()] == ["call-1"]


async def test_a_caller_who_waited_in_vain_is_told(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds that it still waits; when its time is up that it is over. Whoever asked writes the record."""
    monkeypatch.setattr(waiting, "HOLD_S", 0.001)
    async with open_house(queue={"inbound_ttl_s": 8}) as house:
        said = await house.desk.admit(ring(1))
        assert isinstance(said, Queued)
        assert said.expires_in_s == 8.0
        monkeypatch.setattr(waiting, "HOLD_S", 10.0)
        asked = asyncio.create_task(house.desk.admit(ring(1)))
        await asyncio.sleep(0)
        await house.pass_time(8.0)
        said = await asked
        assert isinstance(said, Refused)
        assert said.outcome == o.WAITED_TOO_LONG
        await until(lambda: not stored(house))
        assert house.history.finished == {}


async def test_slots_are_kept_for_callers(open_house: Open) -> None:
    """Outbound calls wait although a slot is free; a caller gets it at once."""
    async with open_house(slots=2, taken=1, inbound_reserve=1) as house:
        assert isinstance(await house.desk.admit(call_request(2)), Queued)
        assert isinstance(await house.desk.admit(ring(1)), Admitted)


async def test_after_a_restart_the_queue_is_as_it_was(open_house: Open) -> None:
    """The same order, the same time left; what ended its time meanwhile is recorded."""
    async with open_house(queue={"outbound_ttl_s": 60}) as house:
        await house.desk.admit(call_request(1))
        house.clock.advance(30.0)
        for number, priority in ((2, 0), (3, 1)):
            await house.desk.admit(call_request(number, priority=priority))
        before = house.desk.queue()
        assert [(call["call_id"], call["position"]) for call in before] == [("call-1", 2), ("call-2", 3), ("call-3", 1)]
        await house.desk.close()
        house.clock.advance(40.0)
        await house.open(parked=None)
        await until(lambda: "call-1" in house.history.finished)
        after = house.desk.queue()
        assert [(call["call_id"], call["position"]) for call in after] == [("call-2", 2), ("call-3", 1)]
        assert [call["expires_in_s"] for call in after] == [20.0, 20.0]
        await house.desk.admit(call_request(4))
        await free_a_slot(house)
        await house.serving("call-3")
        assert [call["call_id"] for call in house.desk.queue()] == ["call-2", "call-4"]


async def test_without_a_database_nobody_is_promised_a_place(open_house: Open) -> None:
    """Nor is anybody started who could not be recorded; who waits goes on waiting."""
    async with open_house() as house:
        await house.desk.admit(call_request(1))
        with house.engine.begin() as connection:
            connection.execute(text("ALTER TABLE waiting RENAME TO away"))
            connection.execute(text("ALTER TABLE requests RENAME TO gone"))
        said = await house.desk.admit(call_request(2))
        assert isinstance(said, Wait)
        assert said.outcome == DATABASE_UNAVAILABLE
        (await house.serving("call-101")).end()
        await until(lambda: not house.desk.live_calls("first"))
        house.desk.tick()
        await until(lambda: house.desk.capacity() == 1 and house.desk.queue())
        with house.engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO waiting"))
            connection.execute(text("ALTER TABLE gone RENAME TO requests"))
        house.desk.tick()
        await house.serving("call-1")


async def test_a_trunk_gives_the_next_its_turn_to_the_moment(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the desk's clock ticks: a fast trunk takes several calls within that time."""
    monkeypatch.setattr("cluster.budget.desk.TICK_S", 1_000.0)
    async with open_house(slots=4, taken=0, trunks={"ST_fast": {"calls_per_second": 100, "prefixes": ["+1"]}}) as house:
        assert isinstance(await house.desk.admit(call_request(1)), Queued)
        house.desk.tick()
        house.clock.advance(0.01)
        await house.serving("call-1")
