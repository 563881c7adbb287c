"""Every admitted call comes to one end, whoever dies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from cluster import outcome as o
from cluster.messages import Assignment, Direction, Verdict
from tests.budget.fakes import FakeCallActor, call_request
from tests.budget.house import House, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again soon."""
    monkeypatch.setattr("cluster.budget.serving.RETRY_S", 0.001)
    monkeypatch.setattr("cluster.budget.delivery.RETRY_S", 0.001)


async def test_a_call_that_nobody_can_take_over_is_recorded_and_its_room_is_closed(house: House) -> None:
    """With the cost and the transcript of its last sign of life, and nobody is left in silence."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000, talk_s=5.0)
    house.room_failures = 2
    house.nobody_is_left()
    actor.die()
    await until(lambda: "call-1" in house.history.finished and house.closed_rooms)
    record = house.history.finished["call-1"]
    assert (record.outcome, record.cost_usd_micros, record.talk_s) == (o.ACTOR_DIED, 3_000, 5.0)
    assert [line.text for line in record.transcript] == ["Hello"]
    assert house.closed_rooms == ["room-1"]
    assert house.farewells == ["call-1"]
    await until(lambda: actor.slot in house.actors.killed)
    assert house.desk.capacity() == 4
    assert await house.renew(actor, 9_000) is Verdict.VOID
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 3_000}
    house.actors.stillborn = False
    await until(lambda: house.desk.statistics()["starting"] == 0)
    await house.pass_time(60.0)  # those that failed meanwhile are not tried again at once
    await until(lambda: house.desk.statistics()["parked"] >= 2)


@pytest.mark.parametrize(("direction", "told"), [(Direction.INBOUND, ["call-1"]), (Direction.OUTBOUND, [])])
async def test_only_who_may_be_listening_is_told(house: House, direction: Direction, told: list[str]) -> None:
    """Nobody is called to hear that nobody can talk. Where that can not be said, the phone is hung up all the same."""
    house.is_mute = True
    await house.desk.admit(call_request(1, direction=direction))
    actor = await house.serving()
    house.nobody_is_left()
    actor.die()
    await until(lambda: house.closed_rooms == ["room-1"])
    assert house.farewells == told


async def test_a_room_that_can_not_be_closed_is_given_up_and_logged(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """After five tries; the record is written all the same."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    house.room_failures = 10**9
    house.nobody_is_left()
    actor.die()
    await until(lambda: "could not be closed" in caplog.text)
    assert "room-1" not in caplog.text
    await until(lambda: "call-1" in house.history.finished)


async def test_an_actor_that_can_not_be_reached_keeps_its_call_while_it_renews(house: House) -> None:
    """A dead network between us is not the caller's trouble; when it is back, the end arrives."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    actor.die(gone=False)
    await house.pass_time(8.0)
    assert await house.renew(actor, 1_000) is Verdict.CONTINUE
    await house.pass_time(8.0)
    assert house.desk.capacity() == 3
    actor.come_back()
    actor.end(cost_usd_micros=2_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.AGENT_ENDED


async def test_a_call_that_gives_no_sign_of_life_is_ended_with_its_lease(house: House) -> None:
    """Its money stays held until then, and its process is ended lest it go on."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 1_000)
    await house.pass_time(9.9)
    assert house.desk.statistics()["reserved_usd_micros"]["acme"] > 0
    await house.pass_time(0.2)
    await until(lambda: "call-1" in house.history.finished and house.closed_rooms == ["room-1"])
    assert house.history.finished["call-1"].outcome == o.ACTOR_DIED
    await until(lambda: actor.slot in house.actors.killed)
    assert house.desk.statistics()["reserved_usd_micros"] == {"acme": 0}


async def test_an_end_that_comes_after_the_lease_changes_nothing(house: House) -> None:
    """Who is late settles nothing and records nothing."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.pass_time(61.0)
    actor.end(cost_usd_micros=77_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.desk.capacity() == 4
    assert house.history.finished["call-1"].outcome == o.ACTOR_DIED
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 0}


async def test_a_call_whose_parked_actor_has_died_is_started_by_another(house: House) -> None:
    """The caller does not learn of it; the newer fencing token counts."""
    parked = list(house.actors.alive.values())
    for actor in parked:
        actor.die()
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    assert actor not in parked
    assert actor.assignment.fencing_token == 2
    assert await house.renew(actor, 0, token=1) is Verdict.VOID
    assert await house.renew(actor, 0) is Verdict.CONTINUE
    await until(lambda: house.rows()[0]["fencing_token"] == 2)
    assert house.closed_rooms == []
    assert house.desk.statistics()["lost_actors"] == 2


async def test_a_call_that_no_actor_can_start_is_ended(house: House) -> None:
    """Five tries; then it is recorded, and its room closed."""
    house.actors.stillborn = True
    for actor in house.actors.alive.values():
        actor.die()
    await house.desk.admit(call_request(1))
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.ACTOR_DIED
    await until(lambda: house.closed_rooms == ["room-1"])
    assert house.desk.capacity() == 4


async def test_a_call_whose_actor_never_comes_up_runs_out(house: House) -> None:
    """A minute, then nobody waits any longer, and what comes too late is nobody's."""
    for actor in house.actors.alive.values():
        actor.answers.clear()
    await house.desk.admit(call_request(1))
    await house.pass_time(60.0)
    await until(lambda: "call-1" in house.history.finished)
    for actor in list(house.actors.alive.values()):
        actor.answers.set()
    await until(lambda: house.desk.statistics()["parked"] >= 2)
    assert house.desk.capacity() == 4


async def test_a_start_that_hangs_is_tried_elsewhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor that does not answer is as good as dead."""
    stuck = list(house.actors.alive.values())
    for actor in stuck:
        actor.answers.clear()
    with monkeypatch.context() as short:
        short.setattr("cluster.budget.serving.START_WITHIN_S", 0.01)
        await house.desk.admit(call_request(1))
        await until(lambda: house.desk.statistics()["lost_actors"])
    assert await house.serving() not in stuck


async def test_when_every_other_actor_is_lent_a_failed_start_ends_the_call(house: House) -> None:
    """There is nobody to pass it on to."""
    house.actors.stillborn = True
    for number in range(1, 5):
        await house.desk.admit(call_request(number))
    await until(lambda: len(house.history.finished) == 2)
    assert house.desk.capacity() == 2
    assert {record.outcome for record in house.history.finished.values()} == {o.ACTOR_DIED}


async def test_an_actor_with_an_earlier_calls_record_does_not_end_this_one(house: House) -> None:
    """A record has to be of the call that the lease is for."""
    await house.desk.admit(call_request(1))
    actor: FakeCallActor = await house.serving()
    actor.assignments.append(_other(actor))
    actor.end()
    await until(lambda: house.desk.statistics()["takeovers"])
    assert house.desk.capacity() == 3
    assert house.history.finished == {}


async def test_an_actor_that_dies_right_after_its_call_costs_no_record(house: House) -> None:
    """The record is there, and only the actor is replaced."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    actor.mute_status = True
    actor.end(o.CALLER_HUNG_UP, cost_usd_micros=9)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.CALLER_HUNG_UP
    await until(lambda: actor.slot in house.actors.killed)
    assert house.closed_rooms == []


async def test_an_end_waits_for_the_database(house: House) -> None:
    """Nothing is free before the end is written."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE leases RENAME TO away"))
    actor.end(cost_usd_micros=10)
    await until(lambda: house.desk.live_calls()[0]["state"] == "ending")
    await house.pass_time(100.0)
    assert house.desk.capacity() == 3
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO leases"))
    await until(lambda: "call-1" in house.history.finished)
    assert house.desk.capacity() == 4
    assert house.history.finished["call-1"].cost_usd_micros == 10


async def test_a_record_is_offered_until_the_history_takes_it(house: House) -> None:
    """The money is free meanwhile."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    house.history.failures = 3
    actor.end()
    await until(lambda: "call-1" in house.history.finished)
    await until(lambda: house.rows()[0]["record"] is None)


def _other(actor: FakeCallActor) -> Assignment:
    return replace(actor.assignment, request=call_request(99))
