"""The desk: admission, renewals, what is known of live calls, and what a restart finds."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import Engine, text

from cluster import outcome as o
from cluster.budget.calls import terms_of
from cluster.budget.doorway import DATABASE_UNAVAILABLE, KEY_REUSED, UNKNOWN_PROFILE
from cluster.errors import PriceError
from cluster.messages import Admitted, Direction, LiveFault, Queued, Refused, Verdict, Wait
from cluster.profiles import Profile
from tests.budget.fakes import MODEL, FakeCallActor, bill, call_request
from tests.budget.house import House, desk_rules, until


async def test_an_admitted_call_is_started_by_a_parked_actor(house: House) -> None:
    """The lease is durable before the call starts, the actor is told everything, and the history knows."""
    rows_at_start: list[int] = []
    house.actors.on_start = lambda _: rows_at_start.append(len(house.rows()))
    said = await house.desk.admit(call_request(1, max_duration_s=60.0))
    assert isinstance(said, Admitted)
    assert said.warm
    assert house.history.begun == ["call-1"]
    actor = await house.serving()
    assert rows_at_start == [1]
    assignment = actor.assignment
    assert (assignment.lease_id, assignment.fencing_token, assignment.max_duration_s) == (said.lease_id, 1, 60.0)
    assert 0 < assignment.reserved_usd_micros <= assignment.max_cost_usd_micros
    assert house.desk.capacity() == 3


async def test_the_same_request_gets_the_same_admission_also_at_the_same_time(house: House) -> None:
    """However often and however quickly it is repeated, there is one call."""
    said = await asyncio.gather(*(house.desk.admit(call_request(1, call_id=f"call-{n}")) for n in range(5)))
    assert len({answer.lease_id for answer in said if isinstance(answer, Admitted)}) == 1
    assert await house.desk.admit(call_request(1, call_id="call-9")) == said[0]
    assert len(house.rows()) == 1
    assert house.desk.statistics()["admitted"] == {"warm": 1, "cold": 0}


async def test_a_used_key_with_another_call_is_refused(house: House) -> None:
    """Also while the first is being decided. An inbound call is its room, whatever the hints say."""
    first, second = await asyncio.gather(
        house.desk.admit(call_request(1)), house.desk.admit(call_request(1, to="+15551230002"))
    )
    assert isinstance(first, Admitted)
    assert isinstance(second, Refused)
    assert second.outcome == KEY_REUSED
    ring = call_request(2, direction=Direction.INBOUND)
    assert await house.desk.admit(ring) == await house.desk.admit(replace(ring, context={"hint": "late"}))


async def test_the_same_key_of_another_tenant_is_another_request(house: House) -> None:
    """Tenants choose their keys without knowing of each other."""
    first = await house.desk.admit(call_request(1))
    second = await house.desk.admit(call_request(1, tenant="zeta", call_id="call-2"))
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert first.lease_id != second.lease_id


async def test_who_is_turned_away_may_ask_again(house: House) -> None:
    """Nothing was begun, so nothing is remembered but the count."""
    house.desk.limits.draining = True
    assert house.desk.capacity() == 0
    said = await house.desk.admit(call_request(1))
    assert isinstance(said, Refused)
    assert said.outcome == o.DRAINING
    house.desk.limits.draining = False
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    assert house.desk.statistics()["turned_away"] == {"draining": 1}


async def test_an_unknown_profile_is_refused_with_those_that_exist(house: House) -> None:
    """The sender can mend it."""
    said = await house.desk.admit(call_request(1, profile="nonesuch"))
    assert isinstance(said, Refused)
    assert said.outcome == UNKNOWN_PROFILE
    assert "receptionist" in said.detail


async def test_calls_beyond_the_ceiling_wait(house: House) -> None:
    """Four fit, from warm and cold actors; the fifth waits until one has ended."""
    said = await asyncio.gather(*(house.desk.admit(call_request(number)) for number in range(1, 6)))
    assert [type(answer) for answer in said] == [Admitted] * 4 + [Queued]
    assert house.desk.statistics()["admitted"] == {"warm": 2, "cold": 2}
    (await house.serving("call-3")).end()
    await until(lambda: "call-3" in house.history.finished)
    assert isinstance(await house.desk.admit(call_request(5)), Admitted)
    await house.serving("call-5")


async def test_a_tenant_can_not_reserve_more_than_its_day(engine: Engine, profiles: dict[str, Profile]) -> None:
    """Calls that run hold the money; when one ends cheaply, there is room for the next."""
    house = House(engine, profiles, desk_rules(daily_budget_usd_micros=45_000))
    await house.open()
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    second = await house.desk.admit(call_request(2))
    assert isinstance(second, Queued)
    assert second.outcome == o.OVER_BUDGET
    assert isinstance(await house.desk.admit(call_request(3, tenant="zeta")), Admitted)
    (await house.serving()).end(cost_usd_micros=20_000)
    await until(lambda: len(house.desk.live_calls("acme")) == 0)
    assert await house.desk.admit(call_request(2)) == Admitted(call_id="call-2", lease_id="", warm=False)
    await until(lambda: "call-2" in house.history.finished)
    assert house.history.finished["call-2"].outcome == o.OVER_BUDGET
    spent = await house.desk.admit(call_request(4))
    assert isinstance(spent, Refused)
    assert spent.retry_after_s == 43_200 - 0.0
    await house.pass_time(spent.retry_after_s)
    assert isinstance(await house.desk.admit(call_request(4)), Admitted)
    await house.desk.close()


@pytest.mark.parametrize("short_usd_micros", [0, 1])
async def test_who_is_admitted_may_talk_for_a_minute(
    engine: Engine, profiles: dict[str, Profile], short_usd_micros: int
) -> None:
    """With the last money of a budget too: nobody is dialled only to be told goodbye."""
    rules = desk_rules()
    terms = terms_of(call_request(1), profiles["receptionist"], rules.prices, date(2026, 11, 24))
    wish = terms.wish(rules.lease_ttl_s)
    house = House(engine, profiles, desk_rules(daily_budget_usd_micros=wish.worth_usd_micros - short_usd_micros))
    await house.open()
    said = await house.desk.admit(call_request(1, priority=9))
    if short_usd_micros:
        assert isinstance(said, Refused)
    else:
        actor = await house.serving()
        assert await house.renew(actor, 0, talk_s=0.0) is not Verdict.WIND_DOWN
        assert await house.renew(actor, wish.estimate_usd_micros, talk_s=0.0) is not Verdict.WIND_DOWN
    await house.desk.close()


async def test_money_of_a_call_that_passes_midnight_belongs_to_its_first_day(house: House) -> None:
    """The day that reserved it pays for it."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    house.clock.advance(86_400.0)
    await house.renew(actor, 5_000)
    actor.end(cost_usd_micros=7_000)
    await until(lambda: house.desk.capacity() == 4)
    assert house.desk.statistics()["spent_usd_micros"] == {}
    assert [(row["day"], row["cost_usd_micros"]) for row in house.rows()] == [("2026-11-24", 7_000)]


async def test_without_a_database_nothing_is_admitted_and_nothing_is_held(house: House) -> None:
    """A decision that can't be made durable is taken back."""
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE requests RENAME TO away"))
    said = await house.desk.admit(call_request(1))
    assert isinstance(said, Wait)
    assert said.outcome == DATABASE_UNAVAILABLE
    assert house.desk.capacity() == 4
    assert house.desk.statistics()["reserved_usd_micros"] == {"acme": 0}
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO requests"))
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)


async def test_a_history_that_is_away_keeps_no_call_waiting(house: House) -> None:
    """The call begins, and is made known when the history is back."""
    house.history.failures = 1
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    await until(lambda: house.history.begun == ["call-1"])
    (await house.serving()).end()
    await until(lambda: "call-1" in house.history.finished)


async def test_a_renewal_is_stored_and_answered(house: House) -> None:
    """Going on, winding down when money is used up, and void for whoever lost the lease."""
    await house.desk.admit(call_request(1, max_cost_usd_micros=100_000))
    actor = await house.serving()
    assert await house.renew(actor, 1_000) is Verdict.CONTINUE
    assert await house.renew(actor, 2_000, token=0) is Verdict.VOID
    assert await house.renew(actor, 99_000) is Verdict.WIND_DOWN
    await until(lambda: house.rows()[0]["cost_usd_micros"] == 99_000)
    assert house.rows()[0]["state"] == "winding-down"
    actor.end(cost_usd_micros=99_500)
    await until(lambda: house.desk.capacity() == 4)
    assert await house.renew(actor, 99_500) is Verdict.VOID


async def test_a_long_turn_winds_a_call_down_before_it_is_reported(house: House) -> None:
    """The model has said more by now than there is money for, and no usage record has come."""
    await house.desk.admit(call_request(1, max_cost_usd_micros=100_000))
    actor = await house.serving()
    assert await house.renew(actor, 1_000) is Verdict.CONTINUE
    assert await house.renew(actor, 1_000, running_usd_micros=98_000) is Verdict.WIND_DOWN


async def test_more_money_is_durable_before_the_call_may_spend_it(house: House) -> None:
    """A raised reservation is in the database when the renewal is answered."""
    await house.desk.admit(call_request(1, max_duration_s=20.0))
    actor = await house.serving()
    cost = actor.assignment.reserved_usd_micros
    assert await house.renew(actor, cost) is Verdict.CONTINUE
    assert house.rows()[0]["reserved_usd_micros"] > cost


async def test_an_ended_call_is_settled_and_recorded_and_its_actor_parks_again(house: House) -> None:
    """Money, record and actor are free in one step; the history has the record once."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await house.renew(actor, 4_000)
    actor.end(o.BUSY, cost_usd_micros=0)
    await until(lambda: "call-1" in house.history.finished and house.rows()[0]["record"] is None)
    record = house.history.finished["call-1"]
    assert (record.outcome, record.cost_usd_micros) == (o.BUSY, 4_000)
    row = house.rows()[0]
    assert (row["state"], row["reserved_usd_micros"], row["request"]) == ("settled", 0, None)
    statistics = house.desk.statistics()
    assert (statistics["spent_usd_micros"], statistics["reserved_usd_micros"]) == ({"acme": 4_000}, {"acme": 0})
    assert statistics["ended"] == {"caller/busy": 1}
    assert statistics["measured"]["tokens"]["gemini-3.8-live", "text_in"] == 4_000 * 4 // 3
    assert statistics["actors"] >= 2
    assert house.actors.killed == []


async def test_live_calls_show_no_number_and_only_the_tenants_own(house: House) -> None:
    """State, cost and times of what runs."""
    await house.desk.admit(call_request(1))
    await house.desk.admit(call_request(2, tenant="zeta", direction=Direction.INBOUND, from_="+15551239999"))
    outbound, inbound = await house.serving("call-1"), await house.serving("call-2")
    assert {call["state"] for call in house.desk.live_calls()} <= {"starting", "dialling", "ringing"}
    house.clock.advance(5.0)
    await house.renew(outbound, 10, talk_s=2.0)
    await house.renew(inbound, 0, talk_s=0.0)
    mine, other = house.desk.live_calls()
    assert (mine["state"], mine["number"], mine["duration_s"], mine["talk_s"]) == ("answered", "+*********01", 5.0, 2.0)
    assert (mine["cost_usd_micros"], mine["direction"]) == (10, "outbound")
    assert (other["state"], other["number"]) == ("ringing", "+*********99")
    assert [call["call_id"] for call in house.desk.live_calls("zeta")] == ["call-2"]
    assert house.desk.live_calls("nobody") == []


async def test_a_call_can_be_hung_up(house: House) -> None:
    """Whoever has it is told; where there is no such call, the answer is no."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await until(lambda: house.desk.live_calls()[0]["state"] == "dialling")
    assert await house.desk.hangup("call-1")
    assert actor.hangups == [str(o.HUNG_UP_BY_API)]
    assert not await house.desk.hangup("call-2")
    actor.end(o.HUNG_UP_BY_API)
    await until(lambda: house.desk.capacity() == 4)
    assert not await house.desk.hangup("call-1")


@pytest.mark.parametrize("direction", Direction)
async def test_a_call_that_has_not_begun_is_hung_up_when_it_has(house: House, direction: Direction) -> None:
    """The wish is not lost while the actor starts; who rings is hung up on, and not told goodbye for want of money."""
    for actor in house.actors.alive.values():
        actor.answers.clear()
    assert not await house.desk.hangup("call-1")
    await house.desk.admit(call_request(1, direction=direction))
    assert house.desk.live_calls()[0]["state"] == "starting"
    assert await house.desk.hangup("call-1")
    for actor in house.actors.alive.values():
        actor.answers.set()
    actor = await house.serving()
    await until(lambda: actor.hangups == [str(o.HUNG_UP_BY_API)])
    if direction is Direction.INBOUND:
        assert await house.renew(actor) is Verdict.CONTINUE


async def test_a_call_that_is_just_being_admitted_can_be_hung_up(house: House) -> None:
    """Nobody sees it before its admission is durable; then it ends, and nobody has been dialled."""
    admission = asyncio.create_task(house.desk.admit(call_request(1)))
    await asyncio.sleep(0)
    assert house.desk.capacity() == 3
    assert await house.desk.hangup("call-1")
    assert house.desk.live_calls() == []
    assert isinstance(await admission, Admitted)
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.HUNG_UP_BY_API
    assert {len(actor.assignments) for actor in house.actors.alive.values()} == {0}


async def test_a_call_whose_actor_does_not_answer_is_not_reported_as_hung_up(house: House) -> None:
    """No is the honest answer."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await until(lambda: house.desk.live_calls()[0]["state"] == "dialling")
    actor.die(gone=False)
    assert not await house.desk.hangup("call-1")


async def test_a_profile_without_a_price_is_found_at_the_start(engine: Engine, profiles: dict[str, Profile]) -> None:
    """Not with the first call."""
    unpriced = profiles["receptionist"].model_copy(update={"model": "unknown"})
    house = House(engine, {"receptionist": unpriced})
    with pytest.raises(PriceError, match="unknown"):
        await house.open()
    await house.desk.close()


async def test_a_clock_that_stumbles_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out whatever else is wrong."""
    stumbles: list[int] = []

    def stumble() -> None:
        stumbles.append(1)
        raise RuntimeError

    monkeypatch.setattr("cluster.budget.desk.TICK_S", 0.001)
    monkeypatch.setattr(house.desk, "_sweep", stumble)
    await until(lambda: len(stumbles) >= 2)
    monkeypatch.undo()


async def test_every_place_is_used_when_lost_calls_still_hold_their_actors(house: House) -> None:
    """While a lost call's actor has not been given up, a request that no actor is free for waits a moment."""
    for number in range(1, 5):
        await house.desk.admit(call_request(number))
    actor: FakeCallActor = await house.serving("call-1")
    house.desk._book.end(actor.assignment.lease_id)
    house.desk._book.settle(actor.assignment.lease_id, bill(0))
    said = await house.desk.admit(call_request(5))
    assert isinstance(said, Queued)
    assert said.outcome == o.OVER_CAPACITY


DOWN = LiveFault(model=MODEL, name="quota", blames_provider=True)


async def test_nobody_is_dialled_while_the_model_does_not_serve(house: House) -> None:
    """What calls met opens the breaker; who rings is answered all the same, and a success of anybody's closes it."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    await until(lambda: house.desk.statistics()["parked"] == 2)
    house.actors.makes.clear()  # else the pool's own set-ups are successes too
    await house.renew(actor, live_faults=(DOWN,) * 4)
    assert isinstance(await house.desk.admit(call_request(2)), Admitted)
    await house.renew(actor, live_faults=(DOWN,))
    said = await house.desk.admit(call_request(3))
    assert isinstance(said, Queued)
    assert said.outcome == o.LIVE_UNAVAILABLE
    assert 5.0 <= said.estimated_wait_s <= 10.0
    assert isinstance(await house.desk.admit(call_request(4, direction=Direction.INBOUND)), Admitted)
    statistics = house.desk.statistics()
    assert statistics["breakers"][MODEL]["state"] == "open"
    assert statistics["live_faults"] == {(MODEL, "quota"): 5}
    await house.renew(actor, live_ok=True, live_model="another")
    house.desk.tick()
    assert isinstance(await house.desk.admit(call_request(3)), Queued)
    await house.renew(actor, live_ok=True)
    house.desk.tick()
    assert isinstance(await house.desk.admit(call_request(3)), Admitted)


async def test_without_parked_actors_one_outbound_call_is_the_probe(
    engine: Engine, profiles: dict[str, Profile]
) -> None:
    """Somebody has to try again; the others wait for what becomes of it. No call of that profile came before."""
    rules = desk_rules(pool=replace(desk_rules().pool, baseline={}), lease_ttl_s=60.0)
    house = House(engine, profiles, rules=rules)
    await house.open(parked=0)
    await house.desk.admit(call_request(1, profile="reminder"))
    actor = await house.serving()
    await until(lambda: house.desk.statistics()["parked"] == 1)  # the next of its profile: a success of its own
    await house.renew(actor, live_faults=(DOWN,) * 5)
    house.clock.advance(10.0)
    assert isinstance(await house.desk.admit(call_request(2)), Admitted)
    said = await house.desk.admit(call_request(3))
    assert isinstance(said, Queued)
    assert said.estimated_wait_s == 20.0
    (await house.serving("call-2")).end(live_faults=(DOWN,))
    await until(lambda: house.desk.statistics()["breakers"][MODEL]["state"] == "open")
    await house.desk.close()


async def test_it_is_known_which_call_is_in_which_room(house: House) -> None:
    """One that has not begun need not be there yet."""
    actors = list(house.actors.alive.values())
    for actor in actors:
        actor.answers.clear()
    await house.desk.admit(call_request(1))
    assert house.desk.occupancy.rooms() == {"room-1": ("call-1", math.inf)}
    for actor in actors:
        actor.answers.set()
    await house.serving()
    await until(lambda: house.desk.occupancy.rooms() == {"room-1": ("call-1", house.clock.utc())})


async def test_a_call_that_is_given_up_ends_with_its_process(house: House) -> None:
    """What it last reported is what is known; a call that nobody has is no matter."""
    await house.desk.admit(call_request(1))
    actor = await house.serving()
    house.desk.occupancy.give_up("call-1")
    house.desk.occupancy.give_up("call-2")
    await until(lambda: "call-1" in house.history.finished)
    assert house.history.finished["call-1"].outcome == o.ACTOR_DIED
    await until(lambda: actor.slot in house.actors.killed)
