"""Does what the pool plans: starts, prepares, checks and ends call actors, and tells the pool how it went.

Rules of this file:
1. Only what the pool says is done, and every result goes back to it; a slot is changed in no other way.
2. An actor that does not answer in time is as good as dead: it is killed, and another takes its place.
3. Whoever borrows an actor gets it when nothing of ours is under way in it any more.
4. A node whose actors do not answer is suspected for a minute: where there is another one, nothing is begun on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from cluster.budget.fleet import Fleet
from cluster.budget.pool import Effect, Loan, Pool, Prepare, Retire, StartActor
from cluster.budget.ports import ActorLost, CallActorPort, CallActors
from cluster.budget.providers import Providers
from cluster.budget.slots import READINESS, Slot, SlotEvent, SlotState
from cluster.budget.standing import standing, statistics
from cluster.budget.suspects import Suspects
from cluster.messages import ActorStatus, LiveFault, Prepared
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

START_WITHIN_S: Final = 60.0
"""A process takes 4 s, a dozen at once on two cores 25 s, and a new node most of a minute."""
ANSWER_WITHIN_S: Final = 5.0
"""For what an actor answers from memory."""
PREPARE_MARGIN_S: Final = 10.0
"""Beyond the time limit that an actor itself has for setting up a Live session."""
RELIEF_ANSWERS_WITHIN_S: Final = 0.5
"""The same, while a caller waits in silence."""
CHECK_EVERY_S: Final = 5.0
"""How often parked sessions are looked at: one that the other side closed is not warm."""


class Garage:
    """The call actors themselves, under the pool's direction."""

    def __init__(
        self,
        pool: Pool,
        actors: CallActors,
        now: Callable[[], float],
        *,
        providers: Providers,
        models: Mapping[str, str],
        setup_timeout_s: float,
    ) -> None:
        """`now` is a monotonic clock; `models` has each profile's model.

        `setup_timeout_s` is an actor's own limit for setting up a Live session.
        """
        self._pool = pool
        self._providers = providers
        self._models = models
        self._source = actors
        self._now = now
        self._prepare_within_s = setup_timeout_s + PREPARE_MARGIN_S
        self._actors: dict[str, CallActorPort] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._tasks = TaskSet()
        self._next_check = 0.0
        self._nodes: Mapping[str, int] = {}
        self._leaving: frozenset[str] = frozenset()
        self.suspects = Suspects()
        self.failed_setups = 0
        self.lost_actors = 0

    def tick(self) -> None:
        """Do what is due."""
        now = self._now()
        self._choose()
        unserved = {profile for profile, model in self._models.items() if self._providers.wait_s(model)}
        for effect in self._pool.plan(now, unserved):
            self._begin(effect)
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            for slot in self._pool.slots():
                if slot.state is SlotState.PARKED:
                    self._tasks.spawn("check of a parked actor", self._check(slot))

    def settle_on(self, nodes: Mapping[str, int], leaving: frozenset[str]) -> None:
        """There are these nodes, each with room for so many; have none on those that are `leaving` but lent ones."""
        self._nodes, self._leaving = nodes, leaving
        self._choose()

    def slots(self) -> tuple[Slot, ...]:
        """Every call actor there is."""
        return self._pool.slots()

    def lend(self, profile: str, shun: str = "") -> Loan | None:
        """Take an actor for a call of that profile, if possible not on that node; None where every one is taken."""
        loan = self._pool.lend(profile, self._now(), shun=shun)
        if loan is not None and loan.start:
            self._begin(StartActor(loan.slot))
        return loan

    async def relieve(self, lost: str, profile: str, *, is_silent: bool) -> Loan | None:
        """Take an actor that goes on with the call of the `lost` one, whose process did not end but `is_silent`.

        With it its whole node may be lost, and whoever is parked there: one that was parked has to answer first.
        """
        shun = self._node_of(lost) if is_silent else ""
        self.drop(lost)
        if shun and not any(slot.node == shun and slot.state in READINESS for slot in self._pool.slots()):
            self._suspect(shun)
        while (loan := self.lend(profile, shun)) is not None and not loan.start:
            node = self._node_of(loan.slot)
            if not node or await self._answers(loan.slot):
                break
            self.drop(loan.slot)
            self._suspect(node)
        return loan

    def limit_sessions(self, most: int | None) -> None:
        """So many Live sessions may be open at once, those of calls included; parked ones beyond that are closed."""
        self._pool.max_sessions = most

    def standing(self, fleet: Fleet) -> dict[str, Any]:
        """How the pool stands on those nodes, by profile and by node, as JSON."""
        return standing(self._pool, fleet, self._now())

    def wanted(self) -> int:
        """How many actors should be parked in all."""
        return sum(self._pool.targets.values())

    async def actor(self, slot: str) -> CallActorPort:
        """The lent actor, once it is up and free to begin. Raises `ActorLost`."""
        if (task := self._under_way.get(slot)) is not None:
            await asyncio.wait([task])
        if slot not in self._actors:
            raise ActorLost(gone=True)
        return self._actors[slot]

    async def weigh(self, slot: str) -> None:
        """Note a lent actor's memory before it is given back. Raises `ActorLost`."""
        status = await self._status(await self.actor(slot))
        self._pool.weigh(slot, status.memory_mb)

    def give_back(self, slot: str) -> None:
        """The call is over; the actor may serve another, once it is up."""
        if (task := self._under_way.get(slot)) is not None:
            task.add_done_callback(lambda _: self.give_back(slot))
        elif slot in self._pool:
            self._pool.handle(slot, SlotEvent.RETURN, self._now())
            self.tick()

    def drop(self, slot: str) -> None:
        """The actor is lost; its process is ended, should it still be there."""
        if slot in self._pool:
            self.lost_actors += 1
            self._pool.handle(slot, SlotEvent.DIE, self._now())
        if (actor := self._actors.pop(slot, None)) is not None:
            self._tasks.spawn("kill of a lost actor", self._kill(actor))

    async def adopt(self, leases: Mapping[str, str]) -> frozenset[str]:
        """Take over the actors that an earlier process left, and return the slots of those that serve a call.

        `leases` has the id of each open lease, by slot. An actor without a lease that does not answer, or serves a
        call, is ended: that call is not ours.
        """
        found = await self._source.find()
        await asyncio.gather(*(self._adopt(slot, actor, leases.get(slot)) for slot, actor in found.items()))
        return frozenset(slot.name for slot in self._pool.slots() if slot.state is SlotState.LENT)

    def statistics(self) -> dict[str, Any]:
        """The actors, as plain numbers."""
        return statistics(self._pool) | {"failed_setups": self.failed_setups, "lost_actors": self.lost_actors}

    async def close(self) -> None:
        """Stop directing the actors; they live on."""
        await self._tasks.close()

    def _node_of(self, slot: str) -> str:
        """Where the actor runs; empty where that is not known."""
        return next((known.node for known in self._pool.slots() if known.name == slot), "")

    def _suspect(self, node: str) -> None:
        """An actor of this node did not answer: it may be lost with all that is on it, and all that starts there."""
        self.suspects.add(node, self._now())
        self._choose()
        if node in self._pool.leaving:
            for slot in [slot for slot in self._pool.slots() if slot.state is SlotState.STARTING]:
                self.drop(slot.name)

    def _choose(self) -> None:
        """Where no call and no parked actor comes to. Better a node that should go than one that may be lost."""
        suspected = self.suspects.among(frozenset(self._nodes), self._now())
        avoided = self._leaving | suspected
        self._pool.leaving = avoided if not self._nodes or self._nodes.keys() - avoided else suspected
        self._pool.staying = {node: room for node, room in self._nodes.items() if node not in self._pool.leaving}

    async def _answers(self, slot: str) -> bool:
        try:
            async with asyncio.timeout(RELIEF_ANSWERS_WITHIN_S):
                await self._actors[slot].status()
        except (ActorLost, TimeoutError):
            return False
        return True

    def _begin(self, effect: Effect) -> None:
        match effect:
            case StartActor(slot):
                self._track(slot, "start of an actor", self._start(slot, self._pool.avoided()))
            case Prepare(slot, profile):
                self._providers.ask(self._models[profile])
                self._track(slot, "setting up of a Live session", self._prepare(slot, profile))
            case Retire(slot):
                self._tasks.spawn("end of an actor", self._retire(self._actors.pop(slot)))

    def _track(self, slot: str, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.spawn(name, work)
        self._under_way[slot] = task
        task.add_done_callback(lambda done: self._under_way.pop(slot) if self._under_way.get(slot) is done else None)

    async def _start(self, slot: str, avoid: frozenset[str]) -> None:
        making = asyncio.ensure_future(self._source.create(slot, avoid))
        try:
            async with asyncio.timeout(START_WITHIN_S):
                actor = await asyncio.shield(making)
                if slot in self._pool:  # it may have been given up meanwhile
                    self._actors[slot] = actor
                status = await actor.status()
        except (ActorLost, TimeoutError):
            if slot not in self._actors:
                self._tasks.spawn("kill of an actor that comes too late", self._kill_when_made(making))
            self.drop(slot)
        else:
            if slot not in self._actors:
                await self._kill(actor)
            self._tell(slot, SlotEvent.STARTED, node=status.node)

    async def _kill_when_made(self, making: asyncio.Future[CallActorPort]) -> None:
        """Nobody else would end it: it is detached, and holds a place."""
        await asyncio.wait([making])
        if making.exception() is None:
            await self._kill(making.result())

    async def _prepare(self, slot: str, profile: str) -> None:
        actor = self._actors[slot]
        try:
            async with asyncio.timeout(self._prepare_within_s):
                prepared = await actor.prepare(profile)
                status = await actor.status()
        except (ActorLost, TimeoutError):
            self.drop(slot)
            return
        self._judge(prepared)
        if prepared.error:
            self.failed_setups += 1
            log.warning("no Live session for the profile %s: %s", profile, prepared.error)
        event = SlotEvent.NOT_PREPARED if prepared.error else SlotEvent.PREPARED
        self._tell(slot, event, session_age_s=status.parked_s, memory_mb=status.memory_mb)

    def _judge(self, prepared: Prepared) -> None:
        """What a set-up tells of its model. One that was not needed, or was in the way of a call, tells nothing."""
        if prepared.fault:
            fault = LiveFault(model=prepared.model, name=prepared.fault, blames_provider=prepared.blames_provider)
            self._providers.failed([fault])
        elif prepared.model:
            self._providers.succeeded(prepared.model)

    async def _check(self, slot: Slot) -> None:
        parked_since = slot.since

        def is_same() -> bool:
            return slot.state is SlotState.PARKED and slot.since == parked_since

        try:
            status = await self._status(self._actors[slot.name])
        except ActorLost:
            if is_same():
                self.drop(slot.name)
            return
        if status.state != "parked" and is_same():
            self._tell(slot.name, SlotEvent.CLOSE)

    async def _retire(self, actor: CallActorPort) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await actor.release()
        except (ActorLost, TimeoutError):
            pass
        await self._kill(actor)

    async def _kill(self, actor: CallActorPort) -> None:
        await self._source.kill(actor)

    async def _adopt(self, name: str, actor: CallActorPort, lease_id: str | None) -> None:
        now = self._now()
        try:
            status = await self._status(actor)
        except ActorLost:
            if lease_id is None:
                await self._kill(actor)
                return
            # Its lease tells whether the call lives on.
            slot = Slot(name, born_at=now, state=SlotState.LENT, since=now)
        else:
            serving = status.lease_id == lease_id
            if status.state == "busy" and not serving:
                log.warning("the actor %s serves a call that has ended for us; it is ended", name)
                await self._retire(actor)
                return
            parked = status.state == "parked"
            state = SlotState.LENT if serving else SlotState.PARKED if parked else SlotState.IDLE
            slot = Slot(
                name,
                born_at=now - status.age_s,
                state=state,
                since=now,
                node=status.node,
                profile=status.profile,
                session_at=now - status.parked_s,
                calls=status.calls_served,
                is_outdated=status.fingerprint != self._source.fingerprint,
            )
        self._actors[name] = actor
        self._pool.adopt(slot)

    async def _status(self, actor: CallActorPort) -> ActorStatus:
        """The actor's status; silence counts as loss, of which nothing certain is known."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await actor.status()
        except TimeoutError:
            raise ActorLost(gone=False) from None

    def _tell(self, slot: str, event: SlotEvent, **facts: Any) -> None:
        if slot in self._pool:
            self._pool.handle(slot, event, self._now(), **facts)
            self.tick()
