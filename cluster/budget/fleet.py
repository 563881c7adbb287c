"""Which call nodes there should be: how many slots in all, and which node should go when fewer are enough. Pure.

A node is given back when no actor is on it, and every parked one would keep it. So the pool gathers: the node with the
fewest calls gets no more of them, its parked actors are retired and others parked elsewhere; the calls that run there
end as they would have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from cluster.budget.slots import Slot, SlotState

SPARE_SHARE: Final = 0.25
"""A worker takes a minute to come (48 s from demand to two pods, measured): a quarter more calls fit meanwhile."""
SPARE_MIN: Final = 1
"""With few calls a quarter is none at all."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The call nodes as Ray has them."""

    slots: Mapping[str, int]
    """Calls that each node has room for, by its id."""
    draining: frozenset[str] = frozenset()
    """Nodes that Ray places nothing on any more: they end with their last actor."""


def slots_wanted(slots: Collection[Slot], parked: int, max_actors: int) -> int:
    """How many call slots the cluster should have in all, for Ray's autoscaler.

    That is the calls, the actors that wait beside them (`parked`, that should be, at least), and a reserve.
    """
    lent = sum(slot.state is SlotState.LENT for slot in slots)
    waiting = max(parked, len(slots) - lent)
    reserve = max(SPARE_MIN, math.ceil(lent * SPARE_SHARE))
    return min(max_actors, lent + waiting + reserve)


def leaving(fleet: Fleet, slots: Collection[Slot], wanted: int, min_nodes: int = 1) -> frozenset[str]:
    """The nodes that no call and no parked actor may come to any more.

    Those that drain; and one beyond `min_nodes` that is not needed, as the others have room for all that is wanted.
    """
    staying = {node: room for node, room in fleet.slots.items() if node not in fleet.draining}
    if len(staying) <= min_nodes:
        return fleet.draining
    lent = Counter(slot.node for slot in slots if slot.state is SlotState.LENT)
    waiting = Counter(slot.node for slot in slots if slot.state is not SlotState.LENT)
    # The id decides last, so that the choice does not move back and forth.
    emptiest = min(staying, key=lambda node: (lent[node], waiting[node], node))
    spared = sum(staying.values()) - staying[emptiest] >= wanted
    return fleet.draining | {emptiest} if spared else fleet.draining
