"""The pool in a simulated world: nearly every call finds a warm actor, and none is kept for calls that don't come."""

from __future__ import annotations

import pytest

from cluster.budget.slots import SlotState
from tests.budget.pool_world import World
from tests.budget.test_pool import the_rules


def a_world(seed: int = 1, **changes: object) -> World:
    """Two parked for the reception, processes that last, and room for a hundred."""
    return World(the_rules(100, **{"actor_max_calls": 200, "actor_max_age_s": 86_400.0, **changes}), seed=seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_a_steady_call_a_second_calls_find_a_warm_actor(seed: int) -> None:
    """Calls of 30 s that come at random: 99 of 100 and more, once five minutes of them were seen."""
    world = a_world(seed)
    world.run(300, calls_per_s=1.0)
    loans = world.run(600, calls_per_s=1.0)
    assert loans.total() > 500
    assert loans["warm"] >= 0.99 * loans.total()
    # They end, and their actors are not kept for others that do not come.
    world.run(600)
    assert world.in_state(SlotState.PARKED) == 2
    assert len(world.pool.slots()) == 2


def test_a_burst_over_the_pool_starts_cold_is_counted_and_learned_from() -> None:
    """Nobody is turned away; a minute later there are nearly as many parked as came, within two minutes of none."""
    world = a_world()
    world.run(30)
    for _ in range(12):
        world.call()
    assert world.lent == {"warm": 2, "cold": 10}
    assert {world.pool.lent["reception", warm] for warm in (True, False)} == {2, 10}
    world.run(60)
    for _ in range(8):
        world.call()
    assert world.lent == {"warm": 10, "cold": 10}


def test_the_pool_keeps_under_its_ceilings_while_calls_come() -> None:
    """Processes, sessions and memory: what is lent and parked together never passes them."""
    world = a_world(memory_mb=20 * 120)
    world.pool.max_sessions = 15
    for _ in range(40):
        world.run(10, calls_per_s=0.3)
        assert len(world.pool.slots()) <= 20
        lent = world.in_state(SlotState.LENT)
        assert len(world.pool.with_session()) <= max(15, lent)
    assert world.lent["warm"]
