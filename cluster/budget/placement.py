"""On which nodes actors should wait, and which nodes they should leave so that these can be given back. Pure.

Any actor keeps its node from being idle, so the parked ones gather where calls are. How many nodes the cluster has
follows from how many call slots it is asked to offer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

SPARE_SLOTS = 2
"""Beyond what is lent and parked: for cold starts, since a new node takes most of a minute."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster that offers call slots."""

    name: str
    call_slots: int
    draining: bool = False
    """It is about to go: no new actor comes up there."""


def headroom(*, lent: int, parked: int, most: int) -> int:
    """How many call slots the cluster should offer in all, for so many lent and wanted parked actors."""
    return min(most, lent + parked + SPARE_SLOTS)


def leaving(nodes: Collection[Node], lent: Mapping[str, int], waiting: Mapping[str, int], needed: int) -> set[str]:
    """The nodes on which nothing should wait: those that drain, and those without a call that are not needed.

    `lent` and `waiting` count the actors by node, `needed` is the headroom. Of the nodes that are not needed the one
    with the fewest actors goes first, and only with some room to spare, lest it be missed again at once. One node
    always stays.
    """
    staying = [node for node in nodes if not node.draining]
    offered = sum(node.call_slots for node in staying)
    gone = {node.name for node in nodes if node.draining}
    for node in sorted(staying, key=lambda node: (waiting.get(node.name, 0), node.call_slots, node.name)):
        if not lent.get(node.name) and offered - node.call_slots >= needed + SPARE_SLOTS:
            gone.add(node.name)
            offered -= node.call_slots
    return gone
