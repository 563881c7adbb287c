"""A call outlives its process, and the process it had settles nothing any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.messages import Checkpoint, Line, Verdict
from tests.budget.fakes import FakeCallActor, call_request
from tests.budget.house import CHECKPOINT, House, until

SAID = (Line(who="caller", text="My name is Ana.", at_s=3.0),)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is waited for shortly."""
    monkeypatch.setattr("cluster.budget.serving.RETRY_S", 0.001)
    monkeypatch.setattr("cluster.budget.delivery.RETRY_S", 0.001)


async def after(house: House, lost: FakeCallActor) -> FakeCallActor:
    """The actor that has the call next."""
    await until(lambda: any(a is not lost and a.state == "busy" for a in house.actors.alive.values()))
    return next(a for a in house.actors.alive.values() if a is not lost and a.state == "busy")


async def test_a_call_goes_on_where_its_last_heartbeat_left_it(house: House) -> None:
    """With the handle, what was said, and the time that has passed; the phone is not hung up."""
    await house.desk.admit(call_request(1))
    lost = await house.serving()
    at = Checkpoint(resumption_handle="h", transcript=SAID, age_s=5.0, leg="answered", phase="talking")
    await house.renew(lost, 3_000, checkpoint=at)
    house.clock.advance(1.0)
    lost.die()
    taker = await after(house, lost)
    assert taker.assignment.takeover == Checkpoint(
        resumption_handle="h", transcript=SAID, age_s=6.0, leg="answered", phase="talking"
    )
    assert taker.assignment.fencing_token == lost.assignment.fencing_token + 1
    assert taker.assignment.lease_id == lost.assignment.lease_id
    assert house.rows()[0]["fencing_token"] == taker.assignment.fencing_token
    assert house.closed_rooms == []
    assert house.desk.statistics()["takeovers"] == {"warm": 1}
    taker.end(cost_usd_micros=7_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 7_000}


@pytest.mark.parametrize(("deaf_s", "is_deaf"), [(3.0, True), (0.6, False)])
async def test_a_caller_may_have_spoken_to_nobody(house: House, *, deaf_s: float, is_deaf: bool) -> None:
    """In three seconds, not between two heartbeats."""
    await house.desk.admit(call_request(1))
    lost = await house.serving()
    await house.renew(lost, checkpoint=Checkpoint(transcript=SAID, leg="answered", phase="talking"))
    house.clock.advance(deaf_s)
    lost.die()
    at = (await after(house, lost)).assignment.takeover
    assert at is not None
    assert at.is_deaf is is_deaf


@pytest.mark.parametrize("answers", [True, False])
async def test_a_silent_call_is_asked_before_it_is_taken_away(
    house: House, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    """A frozen process does not answer; one that was only late keeps its call."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 1_000)
    if not answers:
        actor.answers.clear()
        monkeypatch.setattr("cluster.budget.serving.ASK_WITHIN_S", 0.01)
    for _ in range(8):
        await house.pass_time(0.9)
    if answers:
        await until(lambda: not house.desk._serving._asked)
        assert await house.renew(actor, 2_000) is Verdict.CONTINUE
        assert house.desk.statistics()["takeovers"] == {}
        return
    taker = await after(house, actor)
    await until(lambda: actor.slot in house.actors.killed)
    assert await house.renew(actor, 50_000) is Verdict.VOID
    assert await house.renew(taker, 2_000) is Verdict.CONTINUE
    actor.answers.set()
    actor.end(cost_usd_micros=60_000)
    taker.end(cost_usd_micros=3_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].cost_usd_micros == 3_000
    assert house.desk.statistics()["reserved_usd_micros"] == {"acme": 0}


async def test_a_call_whose_node_ray_gave_up_is_taken_over_when_it_is_silent(house: House) -> None:
    """Nobody knows whether its process lives; until it is silent it may go on."""
    await house.desk.admit(call_request(1))
    lost = await house.serving()
    await house.renew(lost, 1_000)
    lost.die(gone=False)
    for _ in range(8):
        await house.pass_time(0.9)
    assert (await after(house, lost)).assignment.takeover is not None


async def test_a_hangup_that_nobody_heard_is_told_to_the_next_process(house: House) -> None:
    """It came between the two."""
    await house.desk.admit(call_request(1))
    lost = await house.serving()
    await house.renew(lost, 1_000, checkpoint=replace(CHECKPOINT, leg="answered"))
    lost.die(gone=False)
    await house.desk.hangup("call-1")
    lost.die()
    taker = await after(house, lost)
    await until(lambda: taker.hangups)


async def test_a_call_that_kills_every_process_is_given_up(house: House) -> None:
    """Five of them within a minute; the others are needed for other calls."""
    house.actors.on_start = lambda actor: actor.die()
    await house.desk.admit(call_request(1))
    await until(lambda: "call-1" in house.history.finished and house.closed_rooms == ["room-1"])
    assert sum(house.desk.statistics()["takeovers"].values()) == 4


async def test_where_every_actor_is_busy_the_next_one_that_is_free_takes_over(house: House) -> None:
    """Whose call ended a moment later."""
    for number in range(1, 5):
        await house.desk.admit(call_request(number))
    actors = [await house.serving(f"call-{number}") for number in range(1, 5)]
    for actor in actors:
        await house.renew(actor, 1_000)
    house.desk._garage._pool.rules = replace(house.rules.pool, max_actors=3)
    actors[0].die()
    await until(lambda: actors[0].slot in house.actors.killed)
    actors[1].end()
    assert await house.serving("call-1") is actors[1]
    assert house.closed_rooms == []
