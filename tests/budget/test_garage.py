"""What the pool plans is done, and what became of it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count, cycle, repeat

import pytest

from cluster.budget.breaker import BreakerRules
from cluster.budget.garage import Garage
from cluster.budget.pool import Pool
from cluster.budget.ports import ActorLost
from cluster.budget.providers import Providers
from cluster.budget.slots import SlotState
from cluster.budget.suspects import SUSPECTED_FOR_S
from cluster.messages import LiveFault, Prepared
from tests.budget.fakes import MODEL, FakeCallActors, ManualClock
from tests.budget.house import desk_rules, until


class Yard:
    """A garage for two parked actors, on a clock of the test's."""

    def __init__(self) -> None:
        self.actors = FakeCallActors()
        self.clock = ManualClock()
        self.pool = Pool(desk_rules().pool, (f"call-slot-{number}" for number in count(1)))
        self.providers = Providers(BreakerRules(), self.clock.now, lambda: 0.0)
        self.garage = Garage(
            self.pool,
            self.actors,
            self.clock.now,
            providers=self.providers,
            models={"receptionist": MODEL},
            setup_timeout_s=8.0,
        )

    async def fill(self) -> None:
        """Wait for two parked actors."""
        self.garage.tick()
        await self.until(lambda: self.parked == 2)

    async def fill_two_nodes(self) -> None:
        """Wait for a parked actor on each of two nodes."""
        self.actors.nodes = cycle(("left", "right"))
        self.garage.settle_on({"left": 8, "right": 8}, frozenset())
        await self.fill()

    def hang(self) -> set[str]:
        """No actor that there is answers any more; returns their slots."""
        for actor in self.actors.alive.values():
            actor.answers.clear()
        return set(self.actors.alive)

    def lend(self) -> tuple[str, str]:
        """Give an actor to a call; returns its slot and its node."""
        loan = self.garage.lend("receptionist")
        assert loan is not None
        return loan.slot, self.garage._node_of(loan.slot)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.garage.tick()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for it, with the garage doing what is due."""

        def ticked() -> object:
            self.garage.tick()
            return condition()

        await until(ticked)

    @property
    def parked(self) -> int:
        """How many are parked for the receptionist."""
        parked: int = self.garage.statistics()["parked_by_profile"]["receptionist"]
        return parked


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    """An empty one."""
    yard = Yard()
    yield yard
    await yard.garage.close()


async def test_the_pool_is_filled(yard: Yard) -> None:
    """Two processes, each with a session of the profile."""
    await yard.fill()
    assert sorted(yard.actors.prepared) == [("call-slot-1", "receptionist"), ("call-slot-2", "receptionist")]


async def test_an_endpoint_that_is_down_leaves_idle_actors(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    """They are kept, the failure is counted and logged, and set up again when it is back."""
    yard.actors.endpoint_down = True
    yard.garage.tick()
    await yard.until(lambda: yard.garage.failed_setups and not yard.garage._tasks)
    assert "does not answer" in caplog.text
    yard.actors.endpoint_down = False
    await yard.pass_time(2.0)
    await yard.until(lambda: yard.parked == 2)
    assert yard.actors.killed == []


async def test_a_lent_actor_is_handed_over_when_its_set_up_is_done(yard: Yard) -> None:
    """Whoever borrows it never meets a set-up in progress."""
    await yard.fill()
    first, second = yard.actors.alive.values()
    second.answers.clear()
    await yard.pass_time(61.0)
    await yard.until(lambda: len(yard.actors.prepared) == 3 and yard.parked == 1)
    loan = yard.garage.lend("receptionist")
    assert loan is not None
    assert loan.slot == first.slot
    loan = yard.garage.lend("receptionist")
    assert loan is not None
    assert loan.slot == second.slot
    second.answers.set()
    assert await yard.garage.actor(second.slot) is second
    assert yard.actors.prepared[-1] == (second.slot, "receptionist")


async def test_a_parked_actor_that_died_is_replaced(yard: Yard) -> None:
    """Somebody looks every few seconds."""
    await yard.fill()
    dead = next(iter(yard.actors.alive.values()))
    dead.die()
    await yard.pass_time(5.0)
    await yard.until(lambda: dead.slot in yard.actors.killed and yard.parked == 2)
    assert yard.garage.lost_actors == 1


async def test_a_parked_session_that_was_closed_is_opened_again(yard: Yard) -> None:
    """In the same process."""
    await yard.fill()
    actor = next(iter(yard.actors.alive.values()))
    actor.state = "cold"
    await yard.pass_time(5.0)
    await yard.until(lambda: actor.state == "parked" and yard.parked == 2)
    assert len(yard.actors.prepared) == 3
    assert len(yard.actors.alive) == 2


async def test_a_check_that_comes_back_late_changes_nothing(yard: Yard) -> None:
    """Whatever was lent meanwhile is none of its business."""
    await yard.fill()
    first, second = yard.actors.alive.values()
    first.answers.clear()
    second.answers.clear()
    await yard.pass_time(5.0)
    for _ in range(2):
        assert yard.garage.lend("receptionist") is not None
    first.state = "cold"
    second.lost = ActorLost(gone=True)
    first.answers.set()
    second.answers.set()
    await yard.until(lambda: len(yard.garage._tasks) == 0)
    assert yard.garage.lost_actors == 0


async def test_an_actor_that_hangs_is_killed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a check, in its set-up, and when it is to be released."""
    monkeypatch.setattr("cluster.budget.garage.ANSWER_WITHIN_S", 0.01)
    await yard.fill()
    yard.hang()
    await yard.pass_time(5.0)
    await yard.until(lambda: sorted(yard.actors.killed) == ["call-slot-1", "call-slot-2"])
    await yard.fill()
    yard.garage._prepare_within_s = 0.01
    hung = yard.hang()
    await yard.pass_time(86_401.0)  # one is worn; the other, which stays until that one is replaced, is set up anew
    (preparing,) = [slot for slot in yard.pool.slots() if slot.name in hung]
    assert preparing.state is SlotState.PREPARING
    await yard.until(lambda: hung <= set(yard.actors.killed))


async def test_an_actor_that_does_not_come_up_is_given_up(yard: Yard) -> None:
    """And another is started in its place, a while later."""
    yard.actors.stillborn = True
    yard.garage.tick()
    await yard.until(lambda: yard.garage.lost_actors >= 2)
    yard.actors.stillborn = False
    await yard.pass_time(10.0)
    await yard.until(lambda: yard.parked == 2)


async def test_an_actor_that_comes_up_too_late_is_killed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was given up; its process would hold a place that nobody knows of."""
    monkeypatch.setattr("cluster.budget.garage.START_WITHIN_S", 0.01)
    yard.actors.makes.clear()
    yard.garage.tick()
    await yard.until(lambda: yard.garage.lost_actors == 2)
    monkeypatch.undo()
    assert yard.actors.alive == {}
    yard.actors.makes.set()
    await yard.until(lambda: sorted(yard.actors.killed) == ["call-slot-1", "call-slot-2"])
    await yard.pass_time(10.0)
    await yard.until(lambda: yard.parked == 2)
    assert len(yard.actors.alive) == 2


async def test_a_worn_actor_is_released_then_killed(yard: Yard) -> None:
    """Its room connection and its session are closed in good order."""
    await yard.fill()
    first, second = yard.actors.alive.values()
    second.lost = None
    await yard.pass_time(86_401.0)
    await yard.until(lambda: first.slot in yard.actors.killed)
    assert first.released
    await yard.until(lambda: second.slot in yard.actors.killed)


async def test_a_worn_actor_that_can_not_be_released_is_killed_all_the_same(yard: Yard) -> None:
    """Nobody waits for the dead."""
    await yard.fill()
    first = yard.actors.alive["call-slot-1"]
    yard.garage._next_check = float("inf")
    first.lost = ActorLost(gone=False)
    await yard.pass_time(86_401.0)
    await yard.until(lambda: first.slot in yard.actors.killed)
    assert not first.released


async def test_an_actor_that_is_not_there_is_lost(yard: Yard) -> None:
    """Asking for it says so."""
    with pytest.raises(ActorLost):
        await yard.garage.actor("nonesuch")
    yard.garage.give_back("nonesuch")
    yard.garage.drop("nonesuch")
    assert yard.garage.lost_actors == 0


async def test_a_provider_that_is_down_is_asked_by_one_probe_at_a_time(yard: Yard) -> None:
    """After five faults in a row nothing is set up; then one, and its success has the pool filled."""

    def is_open() -> bool:
        if not yard.garage._tasks:  # a set-up takes no time, else the faults are too far apart
            yard.clock.advance(0.25)
        return yard.providers.wait_s(MODEL) > 0

    yard.actors.endpoint_down = True
    await yard.until(is_open)
    await yard.pass_time(yard.providers.wait_s(MODEL) - 0.1)
    await yard.until(lambda: len(yard.garage._tasks) == 0)
    assert len(yard.actors.prepared) == 5
    yard.actors.endpoint_down = False
    for actor in yard.actors.alive.values():
        actor.answers.clear()
    for seconds in (60.0, 1.0, 1.0):
        await yard.pass_time(seconds)
        assert yard.garage.statistics()["preparing"] == 1
    for actor in yard.actors.alive.values():
        actor.answers.set()
    await yard.until(lambda: yard.parked == 2)
    assert yard.providers.wait_s(MODEL) == 0.0


async def test_a_set_up_that_was_not_needed_tells_nothing_of_the_provider(yard: Yard) -> None:
    """Nor does one that a call was in the way of."""
    for _ in range(5):
        yard.providers.failed([LiveFault(model=MODEL, name="quota", blames_provider=True)])
    yard.garage._judge(Prepared())
    yard.garage._judge(Prepared(error="a call is running"))
    assert yard.providers.wait_s(MODEL) == 5.0


async def test_a_call_goes_on_in_an_actor_that_answers(yard: Yard) -> None:
    """A process has ended; whoever is parked beside it may have, too, and is asked."""
    await yard.fill_two_nodes()
    lost, node = yard.lend()
    yard.actors.nodes = repeat(node)
    yard.clock.advance(1)  # the session beside it is the freshest, and the first to be taken
    await yard.fill()
    for actor in [one for one in yard.actors.alive.values() if one.node == node]:
        actor.die(gone=False)
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=False)
    assert loan is not None
    assert loan.warm
    assert yard.garage._node_of(loan.slot) not in {"", node}
    assert yard.pool.leaving == {node}


async def test_a_silent_call_goes_on_on_another_node(yard: Yard) -> None:
    """Where one is parked: nobody has to be asked first whether the node is lost."""
    await yard.fill_two_nodes()
    lost, node = yard.lend()
    yard.clock.advance(1)
    await yard.fill()
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=True)
    assert loan is not None
    assert loan.warm
    assert yard.garage._node_of(loan.slot) not in {"", node}
    assert yard.pool.leaving == frozenset()


async def test_an_actor_beside_a_silent_one_takes_over_if_it_answers(yard: Yard) -> None:
    """One process was frozen; nothing is wrong with its node."""
    yard.garage.settle_on({"node": 8, "other": 8}, frozenset({"other"}))
    await yard.fill()
    lost, _ = yard.lend()
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=True)
    assert loan is not None
    assert (loan.warm, yard.garage._node_of(loan.slot), yard.pool.leaving) == (True, "node", frozenset({"other"}))


async def test_a_new_process_for_a_lost_call_comes_up_on_another_node(yard: Yard) -> None:
    """Even on one that should go, and though the cluster does not know yet that a node is lost."""
    yard.garage.settle_on({"node": 8, "other": 8}, frozenset({"other"}))
    await yard.fill()
    lost, _ = yard.lend()
    for actor in list(yard.actors.alive.values()):
        actor.die(gone=False)
    yard.actors.nodes = cycle(("other",))
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=True)
    assert loan is not None
    assert loan.start
    await yard.garage.actor(loan.slot)
    assert yard.actors.avoided[loan.slot] == {"node"}


async def test_a_silent_actor_that_was_alone_on_its_node_makes_the_node_suspect(yard: Yard) -> None:
    """Nobody else can tell. A minute later the cluster has given the node up, or it is none that is lost."""
    await yard.fill_two_nodes()
    lost, node = yard.lend()
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=True)
    assert loan is not None
    assert yard.garage._node_of(loan.slot) not in {"", node}
    assert yard.pool.leaving == {node}
    await yard.pass_time(SUSPECTED_FOR_S)
    assert yard.pool.leaving == frozenset()


async def test_what_starts_where_a_node_may_be_lost_is_started_anew(yard: Yard) -> None:
    """Nobody knows where it was to come up."""
    await yard.fill_two_nodes()
    lost, node = yard.lend()
    yard.garage.tick()
    (starting,) = [slot.name for slot in yard.pool.slots() if slot.state is SlotState.STARTING]
    assert await yard.garage.relieve(lost, "receptionist", is_silent=True) is not None
    assert starting not in yard.pool
    await yard.until(lambda: starting in yard.actors.killed)
    assert starting not in yard.actors.alive
    yard.clock.advance(5)
    await yard.fill()
    assert all(yard.actors.avoided[slot.name] == {node} for slot in yard.pool.slots() if slot.name > starting)


async def test_where_there_is_one_node_it_has_to_do(yard: Yard) -> None:
    """A frozen process is no reason to look for a machine that does not exist."""
    await yard.fill()
    yard.garage.settle_on({"node": 8}, frozenset())
    lost, _ = yard.lend()
    loan = await yard.garage.relieve(lost, "receptionist", is_silent=True)
    assert loan is not None
    assert loan.warm
    assert yard.garage._node_of("unheard of") == ""
