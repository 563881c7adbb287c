"""Keeps the call nodes: asks for as many as are needed, and clears those that go.

What there should be stands in `fleet`; this looks at what there is, once a second. While the cluster does not answer
(its head is away), everything stays as it was last known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cluster.budget.fleet import Fleet, leaving, slots_wanted
from cluster.budget.garage import Garage
from cluster.budget.pool import PoolRules
from cluster.budget.ports import Nodes, NodesUnknown
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""A node that is told to go has at least half a minute; a call lent there meanwhile ends in time all the same."""
REPEAT_EVERY_S: Final = 60.0
"""A request is said again so often, should the cluster's head have come back without it."""


class NodeKeeper:
    """The call nodes, on behalf of the garage."""

    def __init__(self, garage: Garage, nodes: Nodes, rules: PoolRules, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock."""
        self._garage = garage
        self._nodes = nodes
        self._rules = rules
        self._now = now
        self._tasks = TaskSet()
        self._next_look = 0.0
        self._requested = 0, frozenset[str]()
        self._next_request = 0.0
        self.fleet = Fleet({})
        """The nodes as last seen."""
        self.leaving: frozenset[str] = frozenset()
        """The ids of the nodes that no call comes to any more."""

    def tick(self) -> None:
        """Look at the nodes where that is due, one look at a time."""
        if self._now() >= self._next_look and not self._tasks:
            self._next_look = self._now() + LOOK_EVERY_S
            self._tasks.spawn("look at the call nodes", self._look())

    async def drain(self, node: str) -> bool:
        """Have a node end with its last call. False where there is no such node, or the cluster does not answer."""
        try:
            return await self._nodes.drain(node)
        except NodesUnknown:
            return False

    async def close(self) -> None:
        """Stop looking."""
        await self._tasks.close()

    async def _look(self) -> None:
        try:
            self.fleet = fleet = await self._nodes.fleet()
            slots = self._garage.slots()
            wanted = slots_wanted(slots, self._garage.wanted(), self._rules.max_actors)
            suspected = self._garage.suspects.among(frozenset(fleet.slots), self._now())
            sound = replace(fleet, draining=fleet.draining | suspected)
            self._clear(leaving(sound, slots, wanted, self._rules.min_nodes))
            request = wanted, self.leaving
            if request != self._requested or self._now() >= self._next_request:
                await self._nodes.request(*request)
                self._requested, self._next_request = request, self._now() + REPEAT_EVERY_S
        except NodesUnknown:
            log.debug("the cluster does not say which nodes it has")

    def _clear(self, nodes: frozenset[str]) -> None:
        if nodes != self.leaving:
            log.info("no calls any more on %s", ", ".join(sorted(nodes)) or "no node: all take some")
            self.leaving = nodes
        self._garage.settle_on(self.fleet.slots, nodes)
