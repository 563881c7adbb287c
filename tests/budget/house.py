"""A desk with everything around it, which a test can close and open again as a restart does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, select

from cluster.budget.desk import Desk
from cluster.budget.policy import NO_POLICY, Policy
from cluster.budget.pool import PoolRules
from cluster.budget.prices import load_prices
from cluster.budget.rules import DeskRules
from cluster.budget.serving import Clock
from cluster.budget.tables import leases
from cluster.messages import Checkpoint, Line, Renewal, Usage, Verdict
from cluster.profiles import Profile
from tests.budget.fakes import FakeCallActor, FakeCallActors, FakeHistory, FakeNodes, ManualClock, bill

CHECKPOINT = Checkpoint(transcript=(Line(who="caller", text="Hello", at_s=1.0),))


def desk_rules(**changes: Any) -> DeskRules:
    """Four calls, two parked actors, ten dollars a day."""
    fields: dict[str, Any] = {
        "max_calls": 4,
        "daily_budget_usd_micros": 10_000_000,
        "prices": load_prices(),
        "renew_every_s": 2.0,
        "lease_ttl_s": 10.0,
        "setup_timeout_s": 8.0,
        "pool": PoolRules(
            max_actors=4,
            baseline={"receptionist": 2},
            session_max_age_s=60.0,
            actor_max_calls=200,
            actor_max_age_s=86_400.0,
            actor_max_growth_mb=40.0,
            birth_every_s=0.0,
        ),
        **changes,
    }
    return DeskRules(**fields)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop and the journal's thread work until it is so; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is anybody's
            await asyncio.sleep(0.001)


@dataclass(slots=True)
class House:
    """One desk at a time, on one database, with actors that outlive it."""

    engine: Engine
    profiles: dict[str, Profile]
    rules: DeskRules = field(default_factory=desk_rules)
    policy: Policy = NO_POLICY
    actors: FakeCallActors = field(default_factory=FakeCallActors)
    nodes: FakeNodes = field(default_factory=FakeNodes)
    history: FakeHistory = field(default_factory=FakeHistory)
    clock: ManualClock = field(default_factory=ManualClock)
    closed_rooms: list[str] = field(default_factory=list)
    room_failures: int = 0
    desk: Desk = field(init=False)

    async def open(self, *, parked: int | None = 2) -> None:
        """Open a desk, and wait until so many actors are parked."""
        self.desk = Desk(
            rules=self.rules,
            profiles=self.profiles,
            engine=self.engine,
            actors=self.actors,
            nodes=self.nodes,
            history=self.history,
            close_room=self._close_room,
            clock=Clock(now=self.clock.now, utc=self.clock.utc),
            policy=self.policy,
        )
        await self.desk.open()
        if parked is not None:
            await until(lambda: self.desk.statistics()["parked"] == parked)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything that is due happen."""
        self.clock.advance(seconds)
        self.desk.tick()
        await asyncio.sleep(0)

    async def serving(self, call_id: str = "call-1") -> FakeCallActor:
        """The actor that serves that call, once it does."""
        await until(lambda: any(self._serves(actor, call_id) for actor in self.actors.alive.values()))
        return self.actors.serving(call_id)

    async def renew(
        self,
        actor: FakeCallActor,
        cost_usd_micros: int = 0,
        *,
        talk_s: float = 1.0,
        token: int | None = None,
        checkpoint: Checkpoint = CHECKPOINT,
        **live: Any,
    ) -> Verdict:
        """A heartbeat of that actor's call."""
        assignment = actor.assignment
        return await self.desk.renew(
            Renewal(
                lease_id=assignment.lease_id,
                fencing_token=assignment.fencing_token if token is None else token,
                usage=Usage(audio_in=7),
                cost_usd_micros=cost_usd_micros,
                metered=bill(cost_usd_micros).metered,
                charges_usd_micros=bill(cost_usd_micros).charges,
                talk_s=talk_s,
                checkpoint=checkpoint,
                **live,
            )
        )

    def nobody_is_left(self) -> None:
        """Every actor that serves nobody dies, and new ones die at their start."""
        self.actors.stillborn = True
        for actor in self.actors.alive.values():
            if actor.state != "busy":
                actor.die()

    def rows(self) -> list[dict[str, Any]]:
        """The stored leases."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(leases)).mappings()]

    async def _close_room(self, room: str) -> bool:
        await asyncio.sleep(0)
        if self.room_failures:
            self.room_failures -= 1
            return False
        self.closed_rooms.append(room)
        return True

    @staticmethod
    def _serves(actor: FakeCallActor, call_id: str) -> bool:
        return actor.state == "busy" and actor.assignment.request.call_id == call_id
