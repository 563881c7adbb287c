"""What a new desk finds of the old one: calls, money, answers and records."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import text

from cluster import outcome as o
from cluster.budget.policy import Policy
from cluster.call.account import Account
from cluster.call.core import CallCore
from cluster.call.prompts import Prompts
from cluster.messages import Admitted, Checkpoint, Direction, Verdict
from cluster.outcome import Outcome
from tests.budget.fakes import ManualClock, bill, call_request
from tests.budget.house import CHECKPOINT, House, until
from tests.budget.test_takeover import SAID
from tests.call.test_account import RULES


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
    assert successor.assignment.takeover == Checkpoint(leg="dialling", metered=bill(3_000).metered)
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
        metered=bill(3_000).metered,
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
    takeover = (await house.serving()).assignment.takeover
    assert takeover == Checkpoint(leg="dialling", metered=bill(3_000).metered)


async def test_a_call_that_nobody_remembers_is_still_billed_from_its_beginning(house: House) -> None:
    """It rang in, so that nothing says how far it was; what it has cost counts with what it will cost."""
    await house.desk.admit(call_request(1, direction=Direction.INBOUND))
    actor = await house.serving()
    await house.renew(actor, 3_000)
    await house.desk.close()
    actor.die()
    del house.actors.alive[actor.slot]
    house.history.failures = 100
    await house.open(parked=None)
    assignment = (await house.serving()).assignment
    account = Account(assignment, "gemini-3.8-live", "slot", "node", began=0.0)
    core = CallCore(RULES, Prompts("Greet."), 0.0, assignment.takeover)
    assert account.renewal(core, 0.0, 1.0).cost_usd_micros >= 3_000


async def test_a_call_that_was_admitted_long_ago_is_not_begun(house: House) -> None:
    """Everything was away for ten hours: nobody expects the call any more."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.desk.close()
    del house.actors.alive[actor.slot]
    house.clock.advance(10 * 3600.0)
    await house.open(parked=None)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.WAITED_TOO_LONG
    assert all(not other.assignments for other in house.actors.alive.values())


NOON: Final = ManualClock().utc()
LOS_ANGELES: Final = "+13235550100"


@pytest.mark.parametrize(
    ("asked", "policy", "outcome"),
    [
        ({"dial_before": NOON + 200.0}, {}, o.OUTSIDE_HOURS),
        ({"to": LOS_ANGELES, "calling_hours": "Mo-Su 00:00-04:03"}, {}, o.OUTSIDE_HOURS),
        ({"to": LOS_ANGELES}, {"blocked_numbers": [LOS_ANGELES]}, o.BLOCKED_NUMBER),
    ],
)
async def test_a_call_that_may_not_be_dialled_any_more_is_not_begun(
    house: House, asked: dict[str, Any], policy: dict[str, Any], outcome: Outcome
) -> None:
    """The process that was to dial was lost, and the next one came too late."""
    assert isinstance(await house.desk.admit(call_request(1, **asked)), Admitted)
    actor = await house.serving()
    await house.desk.close()
    del house.actors.alive[actor.slot]
    house.clock.advance(250.0)
    house.policy = Policy.model_validate(policy)
    await house.open(parked=None)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == outcome
    assert all(not other.assignments for other in house.actors.alive.values())


async def test_a_hang_up_before_the_beginning_holds_after_a_restart(house: House) -> None:
    """Nobody is dialled whose call was cancelled, and whoever cancelled it was told so."""
    slow = asyncio.Event()
    for parked in house.actors.alive.values():
        parked.answers = slow
    await house.desk.admit(call_request(1))
    assert await house.desk.hangup("call-1")
    await house.desk.close()
    slow.set()
    await house.open(parked=None)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.HUNG_UP_BY_API
    assert all(not other.assignments for other in house.actors.alive.values())


async def test_a_model_that_the_profile_no_longer_has_is_still_priced(house: House) -> None:
    """The call has used it, and its next process goes on with that bill."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 3_000, checkpoint=replace(CHECKPOINT, metered=bill(3_000).metered))
    await house.desk.close()
    other = "gemini-2.5-flash-native-audio-preview-12-2025"
    house.profiles = {"receptionist": house.profiles["receptionist"].model_copy(update={"model": other})}
    await house.open(parked=None)
    await house.renew(actor, 3_000, checkpoint=replace(CHECKPOINT, metered=bill(3_000).metered))
    house.nobody_is_left()
    actor.die()
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].cost_usd_micros == 3_000
    await until(lambda: house.desk.capacity() == 4)


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
    actor.come_back()
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
    await until(lambda: not set(house.actors.alive) & old and "call-1" in house.history.finished)
    assert house.history.finished["call-1"].cost_usd_micros == 5_000
