"""What a new desk finds of the old one: calls, money, answers and records."""

from __future__ import annotations

from sqlalchemy import text

from cluster import outcome as o
from cluster.messages import Admitted, Checkpoint, Verdict
from tests.budget.fakes import call_request
from tests.budget.house import House, until
from tests.budget.test_takeover import SAID


async def test_a_restart_attaches_to_the_calls_that_live(house: House) -> None:
    """The call goes on with the lease that it has, and ends as if nothing had been."""
    said = await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000)
    await house.desk.close()
    await house.open()
    assert await house.desk.admit(call_request(1)) == said
    assert house.desk.capacity() == 3
    assert house.desk.live_calls()[0]["cost_usd_micros"] == 3_000
    assert await house.renew(actor, 4_000) is Verdict.CONTINUE
    actor.end(cost_usd_micros=5_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].cost_usd_micros == 5_000
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 5_000}
    assert house.closed_rooms == []


async def test_a_call_that_the_history_was_not_told_of_is_told_after_a_restart(house: House) -> None:
    """Else nobody would find it before it ends."""
    house.history.failures = 10
    await house.desk.admit(call_request(1))
    assert house.history.begun == []
    await house.desk.close()
    house.history.failures = 0
    await house.open()
    await until(lambda: house.history.begun == ["call-1"])


async def test_a_call_can_be_hung_up_right_after_a_restart(house: House) -> None:
    """The wish goes to the actor that has the call, also before that has renewed its lease."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.desk.close()
    await house.open()
    assert await house.desk.hangup("call-1")
    assert actor.hangups == [str(o.HUNG_UP_BY_API)]


async def test_a_restart_finds_the_calls_that_ended_meanwhile(house: House) -> None:
    """The actor still has the record, and it is written once."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.desk.close()
    actor.end(o.CALLER_HUNG_UP, cost_usd_micros=1_000)
    await house.open(parked=None)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.CALLER_HUNG_UP
    assert house.desk.capacity() == 4


async def test_a_restart_remembers_what_was_spent(house: House) -> None:
    """Money is counted from the leases that ended."""
    await house.desk.admit(call_request(1))
    (await house.serving()).end(cost_usd_micros=1_234)
    await until(lambda: house.desk.capacity() == 4)
    await house.desk.close()
    await house.open()
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 1_234}


async def test_after_a_restart_a_call_without_an_actor_goes_on_in_another(house: House) -> None:
    """Whether its phone has rung is in the database, so that nobody dials again."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000, checkpoint=Checkpoint(leg="ringing"))
    await house.desk.close()
    actor.die()
    del house.actors.alive[actor.slot]
    await house.open(parked=None)
    successor = await house.serving()
    assert successor.assignment.fencing_token == actor.assignment.fencing_token + 1
    assert successor.assignment.takeover == Checkpoint(leg="dialling")
    assert await house.renew(actor, 9_000) is Verdict.VOID
    successor.end(cost_usd_micros=4_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].cost_usd_micros == 4_000


async def test_a_call_that_died_with_the_pool_goes_on_with_what_the_history_knows(house: House) -> None:
    """Its heartbeats went with the pool's process; nobody who was talked to is greeted again."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000, checkpoint=Checkpoint(transcript=SAID, leg="answered", phase="talking"))
    await house.desk.close()
    actor.die()
    del house.actors.alive[actor.slot]
    said = [{"who": "caller", "text": "My name is Ana.", "at_s": 3.0, "heard": True}]
    house.history.shown["call-1"] = {"transcript": said, "legs": [{"state": "answered", "answered_s": 1.5}]}
    house.clock.advance(4.0)
    await house.open(parked=None)
    at = (await house.serving()).assignment.takeover
    assert at == Checkpoint(
        transcript=SAID,
        unknown=1,
        age_s=4.0,
        answered_s=1.5,
        leg="answered",
        phase="talking",
        caller_waits=True,
        is_deaf=True,
    )


async def test_a_history_that_is_away_too_keeps_no_call_from_going_on(house: House) -> None:
    """What the database says of the phone is enough to dial nobody twice."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000, checkpoint=Checkpoint(leg="answered", phase="talking"))
    await house.desk.close()
    actor.die()
    del house.actors.alive[actor.slot]
    house.history.failures = 100
    await house.open(parked=None)
    assert (await house.serving()).assignment.takeover == Checkpoint(leg="dialling")


async def test_after_a_restart_an_admission_that_was_never_started_is_started(house: House) -> None:
    """Its actor is parked and knows nothing of it; whoever gets the call now begins it."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.desk.close()
    actor.state = "parked"
    await house.open(parked=None)
    assert (await house.serving()).assignment.takeover is None
    assert house.actors.killed == []


async def test_a_restart_ends_actors_whose_call_is_not_its_own(house: House) -> None:
    """A call that ended for us must not go on, and an actor that does not answer is of no use."""
    await house.desk.admit(call_request(1))
    zombie = await house.serving()
    lost = next(actor for actor in house.actors.alive.values() if actor is not zombie)
    lost.die(gone=False)
    with house.engine.begin() as connection:
        connection.execute(text("UPDATE leases SET ended_at = 1, state = 'settled'"))
    await house.desk.close()
    await house.open()
    assert {zombie.slot, lost.slot} <= set(house.actors.killed)
    assert zombie.released


async def test_after_a_restart_an_actor_with_a_lease_may_be_slow_to_answer(house: House) -> None:
    """It is not ended for that: its lease decides, and a sign of life keeps it."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    actor.die(gone=False)
    await house.desk.close()
    await house.open()
    actor.lost = None
    await house.pass_time(9.0)
    assert await house.renew(actor, 1_000) is Verdict.CONTINUE
    await house.pass_time(9.0)
    actor.end(cost_usd_micros=2_000)
    await until(lambda: house.desk.capacity() == 4)
    assert actor.slot not in house.actors.killed


async def test_a_record_that_the_history_did_not_get_is_delivered_after_a_restart(house: House) -> None:
    """The ending stands in the database until the history has it."""
    house.history.failures = 10**9
    await house.desk.admit(call_request(1))
    (await house.serving()).end(o.SILENCE, cost_usd_micros=5)
    await until(lambda: house.desk.capacity() == 4)
    await house.desk.close()
    house.history.failures = 0
    await house.open()
    await until(lambda: "call-1" in house.history.finished and house.rows()[0]["record"] is None)
    assert house.history.finished["call-1"].outcome == o.SILENCE
    assert house.desk.statistics()["ended"] == {}


async def test_a_key_is_free_again_after_a_day(house: House) -> None:
    """For this process, and in the database for the next one."""
    first = await house.desk.admit(call_request(1))
    (await house.serving()).end()
    await until(lambda: house.desk.capacity() == 4)
    await house.pass_time(86_399.0)
    assert await house.desk.admit(call_request(1)) == first
    await house.pass_time(700.0)
    again = await house.desk.admit(call_request(1, call_id="call-2"))
    assert isinstance(again, Admitted)
    assert again != first
    await house.desk.close()
    await house.open(parked=None)
    assert await house.desk.admit(call_request(1)) == again


async def test_after_a_restart_with_other_settings_no_actor_of_the_old_ones_stays(house: House) -> None:
    """Those that wait are replaced; who serves a call is, once that is over."""
    await house.desk.admit(call_request(1))
    busy = await house.serving()
    await until(lambda: house.desk.statistics()["parked"] == 2)
    await house.desk.close()
    old = set(house.actors.alive)
    house.actors.fingerprint = "others"
    await house.open()
    await until(lambda: set(house.actors.alive) & old == {busy.slot})
    assert await house.renew(busy, 4_000) is Verdict.CONTINUE
    busy.end(cost_usd_micros=5_000)
    await until(lambda: not set(house.actors.alive) & old)
    assert house.history.finished["call-1"].cost_usd_micros == 5_000
