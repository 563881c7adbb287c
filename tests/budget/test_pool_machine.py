"""The pool under any order of events: never over a ceiling, and its baseline when it is left alone."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.budget.pool import Effect, Prepare, Retire, StartActor
from cluster.budget.slots import SlotEvent, SlotState
from tests.budget.test_pool import a_pool, settle, states


class PoolMachine(RuleBasedStateMachine):
    """Calls come and go, actors and sessions die, nodes drain, the quota changes; what is planned may happen late."""

    @initialize(max_actors=st.integers(1, 5))
    def begin(self, max_actors: int) -> None:
        """An empty pool for two profiles."""
        self.max_actors = max_actors
        self.pool = a_pool(max_actors, baseline={"reception": 2, "sales": 1})
        self.drained: set[str] = set()
        self.now = 0.0
        self.lent: set[str] = set()
        self.pending: dict[str, Effect] = {}
        self.births: list[float] = []

    @rule(seconds=st.sampled_from([0.1, 0.25, 5.0, 70.0, 1_001.0]))
    def plan(self, seconds: float) -> None:
        """Time passes and the pool plans; it never touches a lent actor, nor one that it waits for."""
        self.now += seconds
        for effect in self.pool.plan(self.now):
            assert effect.slot not in self.lent
            assert effect.slot not in self.pending
            if isinstance(effect, Retire):
                assert effect.slot not in self.pool
            else:
                self.pending[effect.slot] = effect
            if isinstance(effect, Prepare):
                self.births.append(self.now)
        found = self.pool.slots()
        assert not [s for s in found if s.node in self.drained and s.state in {SlotState.IDLE, SlotState.PARKED}]
        parked = sum(slot.state is SlotState.PARKED for slot in found)
        if self.pool.max_sessions is not None:
            assert len(self.lent) + parked <= max(self.pool.max_sessions, len(self.lent))

    @rule(node=st.sampled_from(["left", "right"]), on=st.booleans())
    def drain(self, node: str, on: bool) -> None:  # noqa: FBT001
        """A node should go, or stays after all."""
        (self.drained.add if on else self.drained.discard)(node)
        self.pool.leaving = frozenset(self.drained)

    @rule(most=st.sampled_from([None, 0, 1, 2, 4]))
    def limit_sessions(self, most: int | None) -> None:
        """The project's quota changes."""
        self.pool.max_sessions = most

    @rule(works=st.booleans(), dies=st.booleans(), node=st.sampled_from(["left", "right"]))
    def finish(self, works: bool, dies: bool, node: str) -> None:  # noqa: FBT001
        """The oldest thing under way is done, fails or dies."""
        if not self.pending:
            return
        slot, effect = next(iter(self.pending.items()))
        del self.pending[slot]
        if dies:
            self._die(slot)
        elif isinstance(effect, StartActor):
            self.pool.handle(slot, SlotEvent.STARTED, self.now, node=node)
        else:
            self.pool.handle(slot, SlotEvent.PREPARED if works else SlotEvent.NOT_PREPARED, self.now)

    @rule(profile=st.sampled_from(["reception", "sales", "rare"]))
    def lend(self, profile: str) -> None:
        """A call wants an actor, and gets one whenever one waits where it may, or one more may start there."""
        found = {slot.name: slot for slot in self.pool.slots()}
        waiting = [s for s in found.values() if s.name not in self.lent and (not s.node or s.node not in self.drained)]
        may_start = len(found) < self.max_actors
        loan = self.pool.lend(profile, self.now)
        assert (loan is not None) == bool(waiting or may_start)
        if loan is not None:
            assert loan.start or found[loan.slot] in waiting
            assert loan.slot not in self.lent
            assert not (loan.warm and loan.slot in self.pending)
            self.lent.add(loan.slot)
            if loan.start:
                self.pending[loan.slot] = StartActor(loan.slot)

    @rule(memory_mb=st.sampled_from([100.0, 120.0, 150.0]))
    def give_back(self, memory_mb: float) -> None:
        """A call ends. Its actor has finished what was under way when it was lent."""
        done = sorted(self.lent - self.pending.keys())
        if done:
            self.lent.remove(done[0])
            self.pool.weigh(done[0], memory_mb)
            self.pool.handle(done[0], SlotEvent.RETURN, self.now)

    @rule(pick=st.integers(0, 10))
    def die(self, pick: int) -> None:
        """An actor dies."""
        slots = self.pool.slots()
        if slots:
            name = slots[pick % len(slots)].name
            self.pending.pop(name, None)
            self._die(name)

    @rule()
    def close(self) -> None:
        """The other side closes a parked session."""
        for slot in self.pool.slots():
            if slot.state is SlotState.PARKED:
                self.pool.handle(slot.name, SlotEvent.CLOSE, self.now)
                return

    @invariant()
    def there_are_never_too_many(self) -> None:
        """Neither actors, nor sessions set up at once."""
        found = self.pool.slots()
        assert len(found) <= self.max_actors
        assert {slot.name for slot in found if slot.state is SlotState.LENT} == self.lent
        assert all(later - earlier > 0.24 for earlier, later in pairwise(self.births))

    def teardown(self) -> None:
        """Left alone, with everything working, the pool forgets the calls, reaches its baseline and rests."""
        self.limit_sessions(None)
        for node in ("left", "right"):
            self.drain(node, on=False)
        self.now += 1_000.0
        for _ in range(3):
            while self.pending:
                self.finish(works=True, dies=False, node="left")
            self.now += 61.0
            settle(self.pool, self.now, until=20.0)
            self.now += 21.0
        waiting = states(self.pool)[SlotState.PARKED] + states(self.pool)[SlotState.PREPARING]
        assert waiting == min(3, self.max_actors - len(self.lent))

    def _die(self, slot: str) -> None:
        self.lent.discard(slot)
        self.pool.handle(slot, SlotEvent.DIE, self.now)


PoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestPoolMachine = PoolMachine.TestCase
