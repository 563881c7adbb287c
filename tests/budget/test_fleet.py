"""How many call slots there should be, and which node goes when fewer are enough."""

from __future__ import annotations

import pytest

from cluster.budget.fleet import Fleet, leaving, slots_wanted
from cluster.budget.slots import Slot, SlotState


def slots(*groups: tuple[int, SlotState, str]) -> list[Slot]:
    """So many actors in that state on that node."""
    return [
        Slot(f"{state}-{node}-{number}", born_at=0.0, state=state, since=0.0, node=node)
        for count, state, node in groups
        for number in range(count)
    ]


LENT, PARKED, IDLE = SlotState.LENT, SlotState.PARKED, SlotState.IDLE


@pytest.mark.parametrize(
    ("lent", "waiting", "wanted"),
    [(0, 0, 3), (0, 2, 3), (1, 2, 4), (4, 2, 7), (5, 2, 9), (40, 2, 52), (0, 5, 6), (80, 2, 100), (100, 0, 100)],
)
def test_the_cluster_has_room_for_calls_parked_actors_and_a_reserve(lent: int, waiting: int, wanted: int) -> None:
    """Two are to be parked, and the ceiling 100; the reserve is a quarter of the calls, and one at least."""
    actors = slots((lent, LENT, "a"), (waiting, PARKED, "a"))
    assert slots_wanted(actors, parked=2, max_actors=100) == wanted


def test_the_node_with_the_fewest_calls_goes_when_the_others_are_enough() -> None:
    """Also with calls on it: they end there. Whether actors are parked there decides among equals."""
    fleet = Fleet({"a": 4, "b": 4})
    assert leaving(fleet, slots((2, LENT, "a"), (1, LENT, "b"), (2, PARKED, "b")), wanted=4) == {"b"}
    assert leaving(fleet, slots((1, LENT, "a"), (1, LENT, "b"), (1, IDLE, "b")), wanted=4) == {"a"}
    assert leaving(fleet, slots((1, LENT, "b"), (1, LENT, "a")), wanted=4) == {"a"}


def test_no_node_goes_that_is_needed() -> None:
    """By one slot."""
    assert leaving(Fleet({"a": 4, "b": 4}), slots((2, LENT, "a")), wanted=5) == frozenset()


def test_so_many_nodes_as_are_to_be_kept_stay() -> None:
    """A call whose node is lost finds a parked actor on another one."""
    fleet = Fleet({"a": 4, "b": 4, "c": 4})
    assert leaving(fleet, slots((1, LENT, "a")), wanted=1, min_nodes=2) == {"b"}
    assert leaving(fleet, slots((1, LENT, "a")), wanted=1, min_nodes=3) == frozenset()


def test_the_last_node_stays() -> None:
    """Whatever is wanted."""
    assert leaving(Fleet({"a": 4}), (), wanted=0) == frozenset()
    assert leaving(Fleet({}), (), wanted=0) == frozenset()


def test_nodes_that_drain_leave_and_are_no_room_for_others() -> None:
    """With b draining, a is the last one; of three, one may go beside it."""
    assert leaving(Fleet({"a": 4, "b": 4}, frozenset({"b"})), (), wanted=1) == {"b"}
    fleet = Fleet({"a": 4, "b": 4, "c": 4}, frozenset({"b"}))
    assert leaving(fleet, slots((1, LENT, "a")), wanted=4) == {"b", "c"}
    assert leaving(fleet, slots((1, LENT, "a")), wanted=5) == {"b"}
