"""The pool of call actors: how many wait, who is lent, and when one is replaced."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise, product

import pytest

from cluster.budget.fleet import Fleet
from cluster.budget.pool import Effect, Loan, Pool, PoolRules, Prepare, Retire, StartActor
from cluster.budget.slots import SLOT, Slot, SlotEvent, SlotState
from cluster.budget.standing import standing
from cluster.machine import IllegalTransition, step


def the_rules(max_actors: int = 4, **changes: object) -> PoolRules:
    """Two parked for one profile, unless the test wants others."""
    fields = {
        "max_actors": max_actors,
        "baseline": {"reception": 2},
        "session_max_age_s": 60.0,
        "actor_max_calls": 3,
        "actor_max_age_s": 1_000.0,
        "actor_max_growth_mb": 40.0,
        "birth_every_s": 0.25,
        **changes,
    }
    return PoolRules(**fields)  # type: ignore[arg-type]


def a_pool(max_actors: int = 4, **changes: object) -> Pool:
    """An empty pool; its slots will be named a1, a2 and so on."""
    return Pool(the_rules(max_actors, **changes), (f"a{number}" for number in count(1)))


def settle(pool: Pool, now: float, *, until: float = 5.0, fails: bool = False) -> list[Effect]:
    """Do at once whatever the pool plans in the seconds from `now` on; returns it all."""
    done: list[Effect] = []
    moment = now
    while moment <= now + until:
        for effect in pool.plan(moment):
            done.append(effect)
            if isinstance(effect, StartActor):
                pool.handle(effect.slot, SlotEvent.STARTED, moment)
            elif isinstance(effect, Prepare):
                pool.handle(effect.slot, SlotEvent.NOT_PREPARED if fails else SlotEvent.PREPARED, moment)
        moment += 0.25
    return done


def states(pool: Pool) -> Counter[SlotState]:
    """How many slots are in each state."""
    return Counter(slot.state for slot in pool.slots())


def serve(pool: Pool, profile: str, now: float, *, memory_mb: float = 100.0) -> Loan:
    """Lend an actor, and take it back after its call."""
    loan = pool.lend(profile, now)
    assert loan is not None
    pool.weigh(loan.slot, memory_mb)
    pool.handle(loan.slot, SlotEvent.RETURN, now)
    return loan


def test_an_event_that_the_table_does_not_have_raises() -> None:
    """Every pair of state and event is either in the table or illegal."""
    for state, event in product(SlotState, SlotEvent):
        if event in SLOT[state]:
            assert step(SLOT, state, event) in SlotState
        else:
            with pytest.raises(IllegalTransition):
                step(SLOT, state, event)


def test_an_empty_pool_fills_to_its_baseline_and_rests() -> None:
    """Two processes are started, two sessions set up, and then nothing is left to do."""
    pool = a_pool()
    done = settle(pool, 0.0)
    assert Counter(type(effect) for effect in done) == {StartActor: 2, Prepare: 2}
    assert states(pool) == {SlotState.PARKED: 2}
    assert settle(pool, 10.0) == []


def test_processes_start_two_at_a_time() -> None:
    """More would only queue in Ray."""
    pool = a_pool(12, baseline={"reception": 12})
    assert pool.plan(0.0) == [StartActor("a1"), StartActor("a2")]
    pool.handle("a1", SlotEvent.STARTED, 1.0)
    assert pool.plan(1.0) == [Prepare("a1", "reception"), StartActor("a3")]


def test_births_of_sessions_are_paced() -> None:
    """One Live session in a quarter of a second, however many are missing."""
    pool = a_pool(4, baseline={"reception": 4}, max_starting=4)
    for effect in pool.plan(0.0):
        pool.handle(effect.slot, SlotEvent.STARTED, 0.0)
    births = [now / 100 for now in range(100) for effect in pool.plan(now / 100) if isinstance(effect, Prepare)]
    assert births == [0.0, 0.25, 0.5, 0.75]


def test_waiting_actors_never_take_more_than_there_is_room_for() -> None:
    """Where there is no room for all, the first profiles are served."""
    pool = a_pool(3, baseline={"reception": 2, "sales": 2})
    settle(pool, 0.0)
    assert Counter(slot.profile for slot in pool.slots()) == {"reception": 2, "sales": 1}


def test_the_freshest_parked_actor_of_the_profile_is_lent_first() -> None:
    """Its session is the least likely to be cut off."""
    pool = a_pool()
    settle(pool, 0.0)
    ages = {slot.name: slot.session_at for slot in pool.slots()}
    assert pool.lend("reception", 6.0) == Loan(max(ages, key=lambda name: ages[name]), warm=True, start=False)


def test_who_takes_a_parked_actor_has_it_replaced() -> None:
    """Lending leaves a gap, and the gap is filled while the call runs."""
    pool = a_pool()
    settle(pool, 0.0)
    pool.lend("reception", 6.0)
    settle(pool, 6.0)
    assert states(pool) == {SlotState.PARKED: 2, SlotState.LENT: 1}


@pytest.mark.parametrize(
    ("slots", "lent", "warm"),
    [
        pytest.param([("x", SlotState.PREPARING, "sales")], "x", False, id="one that is nearly ready"),
        pytest.param(
            [("x", SlotState.PARKED, "other"), ("y", SlotState.IDLE, "")], "y", False, id="a process without a session"
        ),
        pytest.param(
            [("x", SlotState.STARTING, ""), ("y", SlotState.PARKED, "other")], "y", False, id="another profile's"
        ),
        pytest.param([("x", SlotState.STARTING, "")], "x", False, id="one that is starting"),
        pytest.param(
            [("x", SlotState.PREPARING, "other"), ("y", SlotState.PARKED, "sales")], "y", True, id="the right one"
        ),
    ],
)
def test_without_a_parked_actor_the_one_that_is_ready_soonest_is_lent(
    slots: list[tuple[str, SlotState, str]], lent: str, *, warm: bool
) -> None:
    """A cold path takes whatever is nearest to a session of the profile."""
    pool = a_pool()
    for name, state, profile in slots:
        pool.adopt(Slot(name, 0.0, state, 0.0, profile))
    assert pool.lend("sales", 1.0) == Loan(lent, warm=warm, start=False)


def test_with_no_actor_waiting_a_new_one_is_started_for_the_call() -> None:
    """Up to the ceiling; above it there is none to be had."""
    pool = a_pool(1)
    loan = pool.lend("reception", 0.0)
    assert loan == Loan("a1", warm=False, start=True)
    pool.handle("a1", SlotEvent.STARTED, 3.0)
    assert states(pool) == {SlotState.LENT: 1}
    assert pool.lend("reception", 3.0) is None
    assert pool.plan(3.0) == []


def test_an_actor_that_was_lent_while_it_prepared_may_report_that_later() -> None:
    """The call goes on, and the session counts as its own."""
    pool = a_pool()
    pool.adopt(Slot("x", 0.0, SlotState.PREPARING, 0.0, "reception"))
    pool.lend("reception", 1.0)
    pool.handle("x", SlotEvent.PREPARED, 2.0)
    assert states(pool) == {SlotState.LENT: 1}


def test_an_aged_session_is_replaced_one_at_a_time() -> None:
    """A parked actor prepares anew after the longest time that a session may wait."""
    pool = a_pool()
    settle(pool, 0.0)
    assert settle(pool, 10.0, until=45.0) == []
    done = settle(pool, 59.0)
    assert sorted(effect.slot for effect in done if isinstance(effect, Prepare)) == ["a1", "a2"]
    assert len(done) == 2


def test_a_kept_session_keeps_its_age() -> None:
    """An untouched session that stays is not younger for it."""
    pool = a_pool(1, baseline={"reception": 1})
    pool.adopt(Slot("x", 0.0, SlotState.IDLE, 0.0))
    assert pool.plan(100.0) == [Prepare("x", "reception")]
    pool.handle("x", SlotEvent.PREPARED, 100.0, session_age_s=50.0)
    assert pool.plan(109.9) == []
    assert pool.plan(110.0) == [Prepare("x", "reception")]


def test_an_aged_session_that_nobody_needs_is_not_replaced() -> None:
    """Settings that want fewer than there are shrink the pool."""
    pool = a_pool(baseline={"reception": 0})
    pool.adopt(Slot("x", 0.0, SlotState.PARKED, 0.0, "reception", session_at=0.0))
    pool.adopt(Slot("y", 0.0, SlotState.PARKED, 0.0, "gone", session_at=1.0))
    assert pool.plan(59.9) == []
    assert [*pool.plan(62.0), *pool.plan(62.0)] == [Retire("x"), Retire("y")]
    assert pool.slots() == ()


def test_a_session_that_the_other_side_closed_is_opened_again() -> None:
    """It is not warm any more, and the gap is filled from the same process."""
    pool = a_pool()
    settle(pool, 0.0)
    pool.handle("a1", SlotEvent.CLOSE, 6.0)
    assert pool.plan(6.0) == [Prepare("a1", "reception")]


def test_a_process_is_used_again_after_its_call() -> None:
    """Starting one costs seconds; a fresh session in it costs a fraction."""
    pool = a_pool(1, baseline={"reception": 1})
    settle(pool, 0.0)
    loan = serve(pool, "reception", 6.0)
    assert pool.plan(6.0) == [Prepare(loan.slot, "reception")]


def test_a_process_is_replaced_after_so_many_calls() -> None:
    """The third call of three is its last one."""
    pool = a_pool(1, baseline={"reception": 1})
    for number in range(3):
        settle(pool, number * 10.0)
        serve(pool, "reception", number * 10.0 + 6.0)
    assert pool.plan(26.0) == [Retire("a1"), StartActor("a2")]


def test_a_process_is_replaced_when_it_has_grown_since_its_first_call() -> None:
    """The first call loads what every call needs, so growth counts from its end."""
    pool = a_pool(1, baseline={"reception": 1})
    settle(pool, 0.0)
    serve(pool, "reception", 6.0, memory_mb=150.0)
    settle(pool, 10.0)
    serve(pool, "reception", 16.0, memory_mb=190.0)
    assert pool.plan(16.0) == [Prepare("a1", "reception")]
    pool.handle("a1", SlotEvent.PREPARED, 16.0)
    serve(pool, "reception", 26.0, memory_mb=190.1)
    assert Retire("a1") in pool.plan(26.0)


def test_old_parked_processes_are_replaced_one_after_the_other() -> None:
    """A pool whose actors were all started at once is never empty for it."""
    pool = a_pool(session_max_age_s=10_000.0)
    settle(pool, 0.0)
    assert pool.plan(1_001.0) == [Retire("a1"), StartActor("a3")]
    assert pool.plan(1_002.0) == []
    pool.handle("a3", SlotEvent.STARTED, 1_004.0)
    assert pool.plan(1_004.0) == [Retire("a2"), Prepare("a3", "reception"), StartActor("a4")]


def test_superfluous_processes_wait_a_while_and_go() -> None:
    """What a wave left is kept for the next one for a minute."""
    pool = a_pool(4)
    settle(pool, 0.0)
    pool.lend("reception", 6.0)
    pool.lend("reception", 6.0)
    settle(pool, 6.0)
    pool.handle("a1", SlotEvent.RETURN, 20.0)
    pool.handle("a2", SlotEvent.RETURN, 20.0)
    assert states(pool) == {SlotState.PARKED: 2, SlotState.IDLE: 2}
    assert settle(pool, 20.0, until=30.0) == []
    assert sorted(effect.slot for effect in pool.plan(80.0) if isinstance(effect, Retire)) == ["a1", "a2"]


def test_an_endpoint_that_is_down_is_asked_ever_more_rarely() -> None:
    """Each failure doubles the pause up to a minute; one success ends it."""
    pool = a_pool(1, baseline={"reception": 1})
    pool.handle(pool.plan(0.0)[0].slot, SlotEvent.STARTED, 0.0)
    tries = []
    for tick in range(2_000):
        now = tick / 4
        if pool.plan(now):
            tries.append(now)
            pool.handle("a1", SlotEvent.NOT_PREPARED, now)
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pool.plan(600.0) == [Prepare("a1", "reception")]
    pool.handle("a1", SlotEvent.PREPARED, 600.0)
    pool.handle("a1", SlotEvent.CLOSE, 601.0)
    assert pool.plan(601.0) == [Prepare("a1", "reception")]


def test_aged_sessions_stay_while_the_endpoint_is_down() -> None:
    """An old session is better than none, and one profile's trouble is not another's."""
    pool = a_pool(4, baseline={"reception": 1, "sales": 1})
    settle(pool, 0.0)
    pool.handle("a1", SlotEvent.CLOSE, 60.0)
    assert pool.plan(60.0) == [Prepare("a1", "reception")]
    pool.handle("a1", SlotEvent.NOT_PREPARED, 60.25)
    pool.handle(pool.plan(61.25)[0].slot, SlotEvent.PREPARED, 61.25)
    parked = next(slot for slot in pool.slots() if slot.profile == "sales")
    assert [effect.slot for effect in pool.plan(61.5)] == [parked.name]
    pool.handle(parked.name, SlotEvent.NOT_PREPARED, 61.5)
    assert pool.plan(61.75) == []


def test_nothing_is_set_up_for_a_profile_whose_model_does_not_serve() -> None:
    """Neither what is missing nor what has aged; other profiles are served, and so is this one when it can be."""
    pool = a_pool(baseline={"reception": 1, "sales": 1})
    settle(pool, 0.0)
    assert pool.plan(61.0, unserved={"reception", "sales"}) == []
    pool.lend("reception", 61.0)
    planned = [effect for tick in range(8) for effect in pool.plan(62.0 + tick, unserved={"reception"})]
    assert {effect.profile for effect in planned if isinstance(effect, Prepare)} == {"sales"}
    pool.handle("a2", SlotEvent.PREPARED, 70.0)
    pool.handle("a3", SlotEvent.STARTED, 70.0)
    assert settle(pool, 71.0) == [Prepare("a3", "reception")]


def test_a_parked_session_is_not_given_up_for_a_retry_that_may_not_be_due() -> None:
    """While a profile's set-up fails, its aged sessions wait."""
    pool = a_pool(4)
    settle(pool, 0.0)
    assert pool.plan(61.0) == [Prepare("a1", "reception")]
    pool.handle("a1", SlotEvent.NOT_PREPARED, 61.25)
    assert pool.plan(61.5) == []
    assert states(pool)[SlotState.PARKED] == 1


def test_processes_that_die_at_their_start_are_not_started_in_a_loop() -> None:
    """A broken installation costs one start a minute, not one after the other."""
    pool = a_pool(1, baseline={"reception": 1})
    starts = 0
    for tick in range(4 * 120):
        for effect in pool.plan(tick / 4):
            starts += 1
            pool.handle(effect.slot, SlotEvent.DIE, tick / 4)
    assert starts == 7


def test_a_process_that_dies_while_it_prepares_delays_the_next_set_up() -> None:
    """Its death may be the profile's doing."""
    pool = a_pool(1, baseline={"reception": 1})
    pool.handle(pool.plan(0.0)[0].slot, SlotEvent.STARTED, 0.0)
    assert pool.plan(0.0) == [Prepare("a1", "reception")]
    pool.handle("a1", SlotEvent.DIE, 0.1)
    assert pool.plan(0.1) == [StartActor("a2")]
    pool.handle("a2", SlotEvent.STARTED, 0.5)
    assert pool.plan(0.5) == []
    assert pool.plan(1.1) == [Prepare("a2", "reception")]


def test_a_dead_actor_is_replaced() -> None:
    """Lent or parked, its place is free at once."""
    pool = a_pool(2)
    settle(pool, 0.0)
    assert pool.lend("reception", 6.0) is not None
    for slot in pool.slots():
        pool.handle(slot.name, SlotEvent.DIE, 7.0)
    assert "a1" not in pool
    assert pool.plan(7.0) == [StartActor("a3"), StartActor("a4")]


def on_nodes(pool: Pool, *places: str, state: SlotState = SlotState.PARKED, profile: str = "reception") -> None:
    """Adopt an actor on each of these nodes, named `node` and a number."""
    for number, node in enumerate(places):
        name = f"{node}{number}"
        pool.adopt(Slot(name, 0.0, state, 0.0, node=node, profile=profile, session_at=0.0))


def test_an_actor_of_a_node_that_goes_is_not_lent() -> None:
    """Not even where there is no other one and no room for a new one."""
    pool = a_pool(2)
    on_nodes(pool, "left", "right")
    pool.leaving = frozenset({"right"})
    assert pool.lend("reception", 1.0) == Loan("left0", warm=True, start=False)
    assert pool.lend("reception", 1.0) is None
    pool.leaving = frozenset()
    assert pool.lend("reception", 1.0) == Loan("right1", warm=True, start=False)


def test_of_two_nodes_that_stay_none_has_all_the_parked_actors() -> None:
    """A node that is lost takes its parked actors with it. One moves at a time, and only while none starts."""
    pool = a_pool(8, baseline={"reception": 2})
    on_nodes(pool, "x", "x")
    assert pool.avoided() == frozenset()
    pool.staying = {"x": 8, "y": 8}
    pool.leaving = frozenset({"z"})
    assert pool.avoided() == {"x", "z"}
    retired, started = pool.plan(1.0)
    assert isinstance(retired, Retire)
    assert isinstance(started, StartActor)
    assert pool.plan(1.1) == []
    pool.handle(started.slot, SlotEvent.STARTED, 2.0, node="y")
    assert pool.avoided() == {"z"}
    assert pool.plan(2.0) == [Prepare(started.slot, "reception")]


def test_where_the_other_node_is_full_all_are_parked_on_the_one_that_is_not() -> None:
    """A call's place is not taken for one that may come."""
    pool = a_pool(8, baseline={"reception": 2})
    on_nodes(pool, "x", "x")
    on_nodes(pool, "y", "y", state=SlotState.LENT)
    pool.staying = {"x": 8, "y": 2}
    assert pool.avoided() == frozenset()
    assert pool.plan(1.0) == []
    pool.staying = {"x": 8, "y": 3}
    assert pool.avoided() == {"x"}


def test_the_only_parked_actor_stays_where_it_is() -> None:
    """Wherever that is, its node may be lost."""
    pool = a_pool(8, baseline={"reception": 1})
    on_nodes(pool, "x")
    pool.staying = {"x": 8, "y": 8}
    assert pool.plan(1.0) == []


def test_of_two_parked_actors_the_one_beside_other_calls_is_lent() -> None:
    """The other one's node can be given back sooner."""
    pool = a_pool(5)
    on_nodes(pool, "idle", "busy")
    on_nodes(pool, "busy", state=SlotState.LENT)
    pool.adopt(Slot("fresh", 0.0, SlotState.PARKED, 0.0, node="idle", profile="reception", session_at=1.0))
    assert pool.lend("reception", 2.0) == Loan("busy1", warm=True, start=False)
    assert pool.lend("reception", 2.0) == Loan("fresh", warm=True, start=False)


def test_at_the_limit_of_sessions_a_call_takes_over_another_profiles() -> None:
    """And not the process without one, nor a new one."""
    pool = a_pool(8, baseline={"reception": 1, "sales": 1})
    on_nodes(pool, "here", profile="sales")
    on_nodes(pool, "there", state=SlotState.IDLE)
    pool.max_sessions = 1
    assert pool.lend("reception", 1.0) == Loan("here0", warm=False, start=False)
    # Calls go first: the next one gets an actor all the same.
    assert pool.lend("reception", 1.0) == Loan("there0", warm=False, start=False)


def test_a_lower_limit_of_sessions_closes_parked_ones_at_once() -> None:
    """Those beyond it, and the baseline that stands first keeps its own."""
    pool = a_pool(8, baseline={"reception": 1, "sales": 2})
    on_nodes(pool, "x", profile="sales")
    on_nodes(pool, "y", "y", profile="sales")
    pool.max_sessions = 2
    assert Counter(type(effect) for effect in pool.plan(1.0)) == {Retire: 1, Prepare: 1}
    assert pool.targets == {"reception": 1, "sales": 1}
    assert len(pool.with_session()) == 2


def test_a_profile_that_calls_ask_for_takes_the_place_of_one_that_has_too_many() -> None:
    """Where there is no room for another process, its session makes way."""
    pool = a_pool(3, baseline={"reception": 0})
    on_nodes(pool, "n", "n", "n")
    for _ in range(2):
        assert pool.lend("sales", 1.0) is not None
    assert pool.plan(1.0) == [Prepare("n2", "sales")]


def test_memory_bounds_how_many_processes_there_are() -> None:
    """What they were weighed at counts; one that was not is taken for a usual one."""
    pool = a_pool(8, baseline={"reception": 8}, memory_mb=500, max_starting=8)
    assert len(pool.plan(0.0)) == 4
    for number in range(1, 5):
        pool.handle(f"a{number}", SlotEvent.STARTED, 1.0)
        pool.plan(1.0 + number)
        pool.handle(f"a{number}", SlotEvent.PREPARED, 2.0 + number, memory_mb=99.0)
    pool.plan(9.0)
    assert len(pool.slots()) == 5


def test_how_long_actors_take_is_learned_from_those_that_were_started_ahead() -> None:
    """The process and its first session; later sessions, and the wait for a turn in between, do not count."""
    pool = a_pool(1, baseline={"reception": 1})
    pool.plan(0.0)
    pool.handle("a1", SlotEvent.STARTED, 10.0)
    pool.plan(20.0)
    pool.handle("a1", SlotEvent.PREPARED, 22.0)
    learned_s = pool.forecast.start_s
    assert learned_s == pytest.approx(0.8 * 5.0 + 0.2 * 12.0)
    pool.plan(90.0)
    pool.handle("a1", SlotEvent.PREPARED, 99.0)
    assert pool.forecast.start_s == learned_s


def test_how_the_pool_stands() -> None:
    """By profile, by node, and what bounds it."""
    pool = a_pool(6, memory_mb=900)
    on_nodes(pool, "n", "n", "elsewhere")
    pool.lend("reception", 1.0)
    pool.lend("sales", 1.0)
    pool.plan(1.0)
    shown = standing(pool, Fleet({"n": 4, "empty": 4}), 1.0)
    assert shown["profiles"] == [
        {
            "profile": "reception",
            "baseline": 2,
            "wanted": 2,
            "parked": 1,
            "parking": 0,
            "calls_per_minute": 1.0,
            "lent_warm": 1,
            "lent_cold": 0,
        },
        {
            "profile": "sales",
            "baseline": 0,
            "wanted": 1,
            "parked": 0,
            "parking": 0,
            "calls_per_minute": 1.0,
            "lent_warm": 0,
            "lent_cold": 1,
        },
    ]
    nodes = {node.pop("node"): node for node in shown["nodes"]}
    assert sum(node["live"] for node in nodes.values()) == 2
    assert nodes["elsewhere"]["call_slots"] is None
    assert nodes["empty"] == {"call_slots": 4, "live": 0, "waiting": 0, "draining": False, "leaving": False}
    assert shown["actors"] == {"now": 5, "most": 6}
    assert shown["sessions"] == {"now": 3, "most": None}
    assert shown["memory_mb"] == {"now": 0, "most": 900}
    assert shown["start_s"] == 5.0
