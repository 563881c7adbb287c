"""A pool in a simulated world: processes and sessions take their time, calls come at random. No clock, no waiting."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from cluster.budget.pool import Effect, Pool, PoolRules, Prepare, StartActor
from cluster.budget.slots import SlotEvent, SlotState

TICK_S = 0.25


@dataclass(slots=True)
class World:
    """Runs a pool through a day of calls, for as long as it is told."""

    rules: PoolRules
    seed: int = 1
    start_s: float = 4.0
    """From asking for a process until it is up."""
    setup_s: float = 1.0
    """From asking for a Live session until it is set up."""
    call_s: float = 30.0
    """How long calls are, on average."""
    now: float = 0.0
    pool: Pool = field(init=False)
    lent: Counter[str] = field(default_factory=Counter)
    """Loans, by `warm`, `cold` and `none`."""
    _random: Random = field(init=False)
    _agenda: list[tuple[float, int, Any]] = field(default_factory=list)
    _order: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self.pool = Pool(self.rules, (f"a{number}" for number in count(1)))
        self._random = Random(self.seed)  # noqa: S311 - a simulation

    def run(self, seconds: float, *, calls_per_s: float = 0.0, profile: str = "reception") -> Counter[str]:
        """Let time pass, with calls at random; returns the loans meanwhile."""
        before, until = self.lent.copy(), self.now + seconds
        arrival = self._next_arrival(self.now, calls_per_s)
        while self.now < until:
            while arrival <= self.now:
                self.call(profile)
                arrival = self._next_arrival(arrival, calls_per_s)
            self._happen()
            self._begin(self.pool.plan(self.now))
            self.now += TICK_S
        return self.lent - before

    def call(self, profile: str = "reception") -> None:
        """A call comes, and lasts its time if it gets an actor."""
        loan = self.pool.lend(profile, self.now)
        self.lent["none" if loan is None else "warm" if loan.warm else "cold"] += 1
        if loan is None:
            return
        if loan.start:
            self._begin([StartActor(loan.slot)])
        # An actor that is not ready has to become so first.
        ready_s = 0.0 if loan.warm else self.start_s + self.setup_s
        self._at(ready_s + self._random.expovariate(1 / self.call_s), loan.slot, SlotEvent.RETURN)

    def in_state(self, state: SlotState) -> int:
        """How many actors are."""
        return sum(slot.state is state for slot in self.pool.slots())

    def _next_arrival(self, after: float, calls_per_s: float) -> float:
        return after + self._random.expovariate(calls_per_s) if calls_per_s else float("inf")

    def _begin(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartActor):
                self._at(self.start_s, effect.slot, SlotEvent.STARTED)
            elif isinstance(effect, Prepare):
                self._at(self.setup_s, effect.slot, SlotEvent.PREPARED)

    def _at(self, in_s: float, slot: str, event: SlotEvent) -> None:
        heappush(self._agenda, (self.now + in_s, next(self._order), (slot, event)))

    def _happen(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.now:
            _, _, (slot, event) = heappop(self._agenda)
            if slot in self.pool:
                self.pool.handle(slot, event, self.now)
                self._begin(self.pool.plan(self.now))
