"""Call actors, a history and a clock that live in the test's own process and speak as the real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

from cluster.budget.fleet import Fleet
from cluster.budget.ports import ActorLost, CallActorPort, NodesUnknown
from cluster.budget.pricing import Bill, charges
from cluster.messages import (
    ActorStatus,
    Assignment,
    CallRecord,
    CallRequest,
    Direction,
    LiveFault,
    Metered,
    Prepared,
    Usage,
)
from cluster.outcome import AGENT_ENDED, Outcome
from tests.fixtures.prices import TARIFF

MODEL = "gemini-3.8-live"


def call_request(number: int = 1, **changes: object) -> CallRequest:
    """An outbound request; the same number is the same request."""
    request = CallRequest(
        request_id=f"request-{number}",
        call_id=f"call-{number}",
        tenant="acme",
        direction=Direction.OUTBOUND,
        profile="receptionist",
        room=f"room-{number}",
        identity="agent",
        to="+15551230001",
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def bill(cost_usd_micros: int) -> Bill:
    """Text that costs exactly so much with the shipped prices."""
    metered = Metered(usage_by_model={MODEL: Usage(text_in=cost_usd_micros * 4 // 3)})
    return Bill(metered, charges(metered, TARIFF))


def call_record(assignment: Assignment, outcome: Outcome = AGENT_ENDED, cost_usd_micros: int = 0) -> CallRecord:
    """What an actor returns at the end of that call."""
    request = assignment.request
    return CallRecord(
        call_id=request.call_id,
        request_id=request.request_id,
        tenant=request.tenant,
        direction=request.direction,
        profile=request.profile,
        model=MODEL,
        room=request.room,
        slot="slot",
        node="node",
        outcome=outcome,
        started_at=0.0,
        answered_s=1.0,
        duration_s=5.0,
        talk_s=4.0,
        cost_usd_micros=cost_usd_micros,
        metered=bill(cost_usd_micros).metered,
        charges_usd_micros=bill(cost_usd_micros).charges,
        usage=Usage(audio_in=100),
        timings_ms={"join": 12.0},
        quality={},
        to=request.to,
    )


@dataclass(slots=True)
class ManualClock:
    """Both clocks, moved by hand. Its day is 2026-11-24."""

    monotonic: float = 1000.0
    epoch: float = 1_795_521_600.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.monotonic

    def utc(self) -> float:
        """UTC seconds."""
        return self.epoch

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.monotonic += seconds
        self.epoch += seconds


class FakeCallActor:
    """One call at a time, which ends when the test says so."""

    def __init__(self, slot: str, fleet: FakeCallActors) -> None:
        self.slot = slot
        self.fleet = fleet
        self.assignments: list[Assignment] = []
        self.profile = ""
        self.lost: ActorLost | None = None
        self.answers = asyncio.Event()
        """Cleared while it hangs."""
        self.answers.set()
        self.state = "cold"
        self.memory_mb = 100.0
        self.node = next(fleet.nodes)
        self.fingerprint = fleet.fingerprint
        self.mute_status = False
        self.hangups: list[str] = []
        self.released = False
        self._ending: asyncio.Future[CallRecord] | None = None
        self._dying: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def assignment(self) -> Assignment:
        """The newest one."""
        return self.assignments[-1]

    def end(
        self, outcome: Outcome = AGENT_ENDED, cost_usd_micros: int = 0, live_faults: tuple[LiveFault, ...] = ()
    ) -> None:
        """The call is over."""
        assert self._ending is not None
        self.state = "ended"
        record = call_record(self.assignment, outcome, cost_usd_micros)
        self._ending.set_result(replace(record, live_faults=live_faults))

    def die(self, *, gone: bool = True) -> None:
        """The process ends, or can't be reached any more."""
        self.lost = ActorLost(gone=gone)
        if not self._dying.done():
            self._dying.set_result(None)

    def come_back(self) -> None:
        """It could not be reached, and can be again."""
        self.lost = None
        self._dying = asyncio.get_running_loop().create_future()

    async def prepare(self, profile_name: str) -> Prepared:
        """As the real one."""
        await self._answer()
        self.fleet.prepared.append((self.slot, profile_name))
        self.state = "cold" if self.fleet.endpoint_down else "parked"
        self.profile = "" if self.fleet.endpoint_down else profile_name
        if self.fleet.endpoint_down:
            error = "the Live endpoint does not answer"
            return Prepared(model=MODEL, error=error, fault="unreachable", blames_provider=True)
        return Prepared(model=MODEL)

    async def start(self, assignment: Assignment) -> None:
        """As the real one."""
        await self._answer()
        self.assignments.append(assignment)
        self.state = "busy"
        self._ending = asyncio.get_running_loop().create_future()
        self.fleet.on_start(self)

    async def wait(self) -> CallRecord:
        """As the real one."""
        await self._answer()
        if self._ending is None:
            raise ActorLost(gone=False)
        both: list[asyncio.Future[Any]] = [self._ending, self._dying]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        await self._answer()
        return self._ending.result()

    async def hangup(self, reason: str) -> bool:
        """As the real one."""
        await self._answer()
        self.hangups.append(reason)
        return True

    async def status(self) -> ActorStatus:
        """As the real one."""
        await self._answer()
        if self.mute_status:
            raise ActorLost(gone=True)
        held = self.assignments[-1] if self.state in {"busy", "ended"} else None
        return ActorStatus(
            slot=self.slot,
            state=self.state,
            profile=self.profile,
            parked_s=0.0,
            calls_served=len(self.assignments),
            age_s=1.0,
            memory_mb=self.memory_mb,
            node=self.node,
            pid=1,
            fingerprint=self.fingerprint,
            call_id=held.request.call_id if held else "",
            lease_id=held.lease_id if held else "",
            fencing_token=held.fencing_token if held else 0,
        )

    async def release(self) -> None:
        """As the real one."""
        await self._answer()
        self.released = True

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.lost is not None:
            raise self.lost


@dataclass(slots=True)
class FakeCallActors:
    """Where they come from and go to."""

    alive: dict[str, FakeCallActor] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    prepared: list[tuple[str, str]] = field(default_factory=list)
    fingerprint: str = "settings"
    endpoint_down: bool = False
    nodes: Iterator[str] = field(default_factory=lambda: repeat("node"))
    """Where new actors run, one after the other."""
    makes: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while the cluster has no place for a new one."""
    stillborn: bool = False
    """Whether new actors die at their start."""
    avoided: dict[str, frozenset[str]] = field(default_factory=dict)
    """Where each was not to start, by slot; the newest last."""
    on_start: Callable[[FakeCallActor], None] = lambda _: None
    """Called when a call has begun."""

    def __post_init__(self) -> None:
        self.makes.set()

    async def create(self, slot: str, avoid: frozenset[str] = frozenset()) -> CallActorPort:
        """As the real one."""
        await asyncio.sleep(0)
        await self.makes.wait()
        self.avoided[slot] = frozenset(avoid)
        self.alive[slot] = actor = FakeCallActor(slot, self)
        if self.stillborn:
            actor.die()
        return actor

    async def find(self) -> Mapping[str, CallActorPort]:
        """As the real one."""
        await asyncio.sleep(0)
        return {slot: actor for slot, actor in self.alive.items() if actor.lost is None or not actor.lost.gone}

    async def kill(self, actor: CallActorPort) -> None:
        """As the real one."""
        await asyncio.sleep(0)
        assert isinstance(actor, FakeCallActor)
        self.killed.append(actor.slot)
        self.alive.pop(actor.slot, None)
        actor.die()

    def serving(self, call_id: str) -> FakeCallActor:
        """The actor that has that call."""
        return next(
            actor
            for actor in self.alive.values()
            if actor.state == "busy" and actor.assignment.request.call_id == call_id
        )


@dataclass(slots=True)
class FakeNodes:
    """A cluster that says what the test says."""

    now: Fleet = field(default_factory=lambda: Fleet({"node": 8}))
    away: bool = False
    requested: list[int] = field(default_factory=list)
    without: frozenset[str] = frozenset()
    """Nodes that the newest request does not count on."""
    drained: list[str] = field(default_factory=list)

    async def fleet(self) -> Fleet:
        """As the real one."""
        await asyncio.sleep(0)
        if self.away:
            raise NodesUnknown
        return self.now

    async def request(self, slots: int, without: frozenset[str]) -> None:
        """As the real one."""
        await asyncio.sleep(0)
        self.requested.append(slots)
        self.without = without

    async def drain(self, node: str) -> bool:
        """As the real one."""
        await asyncio.sleep(0)
        if self.away:
            raise NodesUnknown
        self.drained.append(node)
        return node in self.now.slots


@dataclass(slots=True)
class FakeHistory:
    """What the history was told; `failures` is how many times it does not take it first."""

    begun: list[str] = field(default_factory=list)
    finished: dict[str, CallRecord] = field(default_factory=dict)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What it knows of each call."""
    failures: int = 0

    async def begin(self, request: CallRequest, started_at: float) -> None:  # noqa: ARG002
        """As the real one."""
        await self._answer()
        self.begun.append(request.call_id)

    async def finish(self, record: CallRecord) -> None:
        """As the real one: the first ending stays."""
        await self._answer()
        self.finished.setdefault(record.call_id, record)

    async def call(self, call_id: str, tenant: str | None) -> dict[str, Any] | None:  # noqa: ARG002
        """As the real one."""
        await self._answer()
        return self.shown.get(call_id)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ConnectionError
