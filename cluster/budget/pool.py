"""The pool of call actors: how many wait ready for which profile, who is lent, and when one is replaced. Pure.

Rules of this file:
1. A slot's states and what moves it stand in `SLOT`; an event that is not there raises and changes nothing.
2. `plan(now)` says what has to be done and notes it as begun; whoever does it reports back with `handle`.
3. A lent slot is never touched, and lent and waiting slots together never pass `max_actors`.
4. What fails is tried again ever later, so that an endpoint that is down is not hammered. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.machine import Table, step


class SlotState(StrEnum):
    """Where a call actor stands."""

    STARTING = "starting"
    IDLE = "idle"
    """The process is up and has no Live session."""
    PREPARING = "preparing"
    PARKED = "parked"
    """A Live session of its profile is set up and waits."""
    LENT = "lent"
    RETIRED = "retired"


class SlotEvent(StrEnum):
    """What moves a call actor."""

    STARTED = "started"
    PREPARE = "prepare"
    PREPARED = "prepared"
    NOT_PREPARED = "not-prepared"
    LEND = "lend"
    RETURN = "return"
    CLOSE = "close"
    """Its Live session was closed by the other side."""
    RETIRE = "retire"
    DIE = "die"


_S, _E = SlotState, SlotEvent
SLOT: Table[SlotState, SlotEvent] = {
    _S.STARTING: {_E.STARTED: _S.IDLE, _E.LEND: _S.LENT, _E.DIE: _S.RETIRED},
    _S.IDLE: {_E.PREPARE: _S.PREPARING, _E.LEND: _S.LENT, _E.RETIRE: _S.RETIRED, _E.DIE: _S.RETIRED},
    _S.PREPARING: {_E.PREPARED: _S.PARKED, _E.NOT_PREPARED: _S.IDLE, _E.LEND: _S.LENT, _E.DIE: _S.RETIRED},
    _S.PARKED: {
        _E.PREPARE: _S.PREPARING,
        _E.LEND: _S.LENT,
        _E.CLOSE: _S.IDLE,
        _E.RETIRE: _S.RETIRED,
        _E.DIE: _S.RETIRED,
    },
    # A slot that was lent while it started or prepared hears of that later.
    _S.LENT: {
        _E.STARTED: _S.LENT,
        _E.PREPARED: _S.LENT,
        _E.NOT_PREPARED: _S.LENT,
        _E.RETURN: _S.IDLE,
        _E.DIE: _S.RETIRED,
    },
    _S.RETIRED: {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRules:
    """How the pool is to be kept."""

    max_actors: int
    """Lent and waiting together; one call each."""
    baseline: Mapping[str, int]
    """How many are to be parked, by profile; the first ones are served first where there is no room for all."""
    session_max_age_s: float
    """A parked Live session is replaced then: idle ones are cut off after 86 s and more (reports from the field)."""
    actor_max_calls: int
    actor_max_age_s: float
    actor_max_growth_mb: float
    """Since the end of its first call, when everything has been loaded."""
    max_starting: int = 2
    """Ray starts at most one process per CPU at a time; more would only queue."""
    birth_every_s: float = 0.25
    """At most so often a Live session is opened ahead of need: the project's quota is for calls."""
    idle_kept_s: float = 60.0
    """A process without use is kept for the next wave: a new one costs 3 to 4 s."""
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class StartActor:
    """Start a call actor's process."""

    slot: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Have the actor set up a fresh Live session."""

    slot: str
    profile: str


@dataclass(frozen=True, slots=True)
class Retire:
    """End the actor: release, then kill."""

    slot: str


Effect = StartActor | Prepare | Retire


@dataclass(frozen=True, slots=True)
class Loan:
    """A call actor given to one call."""

    slot: str
    warm: bool
    """A Live session of the right profile is set up in it."""
    start: bool
    """There was none: its process has to be started first."""


@dataclass(slots=True)
class Slot:
    """What is known of one call actor."""

    name: str
    born_at: float
    state: SlotState
    since: float
    profile: str = ""
    """Of its Live session, or of the one being set up."""
    session_at: float = 0.0
    calls: int = 0
    first_mb: float | None = None
    memory_mb: float = 0.0
    node: str = ""
    """That it runs on; empty until its process is up, or where that is not known."""


@dataclass(slots=True)
class _Backoff:
    failures: int = 0
    not_before: float = field(default=float("-inf"))

    def failed(self, now: float, rules: PoolRules) -> None:
        self.not_before = now + min(rules.backoff_max_s, rules.backoff_s * 2 ** min(self.failures, 30))
        self.failures += 1


class Pool:
    """Every call actor, by slot."""

    def __init__(self, rules: PoolRules, names: Iterator[str]) -> None:
        """`names` yields a name never used before each time."""
        self._rules = rules
        self._names = names
        self._slots: dict[str, Slot] = {}
        self._start_backoff = _Backoff()
        self._session_backoff = {profile: _Backoff() for profile in rules.baseline}
        self._next_birth = float("-inf")
        self._leaving: frozenset[str] = frozenset()

    def __contains__(self, slot: str) -> bool:
        return slot in self._slots

    def slots(self) -> tuple[Slot, ...]:
        """Every slot that is not retired."""
        return tuple(self._slots.values())

    def adopt(self, slot: Slot) -> None:
        """Take over an actor of an earlier pool as it is."""
        self._slots[slot.name] = slot

    def leave(self, nodes: frozenset[str]) -> None:
        """No actor of these nodes is lent any more; those that wait there are retired, and others wait elsewhere."""
        self._leaving = nodes

    def lend(self, profile: str, now: float, *, avoid_node: str = "") -> Loan | None:
        """Give the best actor there is to a call: the freshest parked one, else the one that will be ready soonest.

        None on `avoid_node` is given, where another one of the call's processes may be lost with its node.
        """
        avoided = self._leaving | {avoid_node} - {""}
        elsewhere = (slot for slot in self._slots.values() if slot.node not in avoided)
        waiting = [slot for slot in elsewhere if slot.state in _READINESS]
        if not waiting and len(self._slots) >= self._rules.max_actors:
            return None
        best = min(waiting, key=lambda slot: _rank(slot, profile)) if waiting else self._new(now)
        warm = best.state is SlotState.PARKED and best.profile == profile
        self._move(best, SlotEvent.LEND, now)
        return Loan(best.name, warm=warm, start=not waiting)

    def handle(self, name: str, event: SlotEvent, now: float, *, session_age_s: float = 0.0, node: str = "") -> None:
        """Something happened to an actor. Raises `IllegalTransition` for what its state does not have.

        `session_age_s` comes with `PREPARED`, since an actor keeps a session that is still young and untouched, and
        `node`, where it runs, with `STARTED`.
        """
        slot = self._slots[name]
        before = slot.state
        self._move(slot, event, now)
        match event:
            case SlotEvent.PREPARED:
                slot.session_at = now - session_age_s
                self._session_backoff[slot.profile] = _Backoff()
            case SlotEvent.NOT_PREPARED:
                self._session_backoff[slot.profile].failed(now, self._rules)
            case SlotEvent.STARTED:
                slot.node = node
                self._start_backoff = _Backoff()
            case SlotEvent.RETURN:
                slot.calls += 1
            case SlotEvent.DIE if before is SlotState.STARTING:
                self._start_backoff.failed(now, self._rules)
            case SlotEvent.DIE if before is SlotState.PREPARING:
                self._session_backoff[slot.profile].failed(now, self._rules)
            case _:
                pass

    def weigh(self, name: str, memory_mb: float) -> None:
        """Note an actor's memory at the end of a call."""
        slot = self._slots[name]
        slot.memory_mb = memory_mb
        if slot.first_mb is None:
            slot.first_mb = memory_mb

    def plan(self, now: float, unserved: Container[str] = ()) -> list[Effect]:
        """What has to be done to have the right actors waiting; each of it counts as begun.

        No session is opened for the `unserved` profiles, whose model does not serve.
        """
        return [*self._retirements(now), *self._births(now, unserved), *self._starts(now)]

    def _retirements(self, now: float) -> list[Effect]:
        """The worn and the superfluous. Of the parked, only one at a time, and never while another starts."""
        idle = self._in(SlotState.IDLE)
        spare = len(idle) - self._needed()
        unused = [s for s in idle if now - s.since >= self._rules.idle_kept_s][: max(0, spare)]
        gone = [s for s in idle if s in unused or self._worn(s, now)]
        gone += [s for s in self._in(SlotState.IDLE, SlotState.PARKED) if s.node in self._leaving and s not in gone]
        if not self._in(SlotState.STARTING):
            gone += [s for s in self._in(SlotState.PARKED) if self._worn(s, now) and s not in gone][:1]
        for slot in gone:
            self._move(slot, SlotEvent.RETIRE, now)
        return [Retire(slot.name) for slot in gone]

    def _births(self, now: float, unserved: Container[str]) -> list[Effect]:
        """The next Live session to open: one that is missing, else one that replaces the oldest that has aged."""
        if now < self._next_birth:
            return []
        idle = self._in(SlotState.IDLE)
        may_open = {
            p for p, backoff in self._session_backoff.items() if now >= backoff.not_before and p not in unserved
        }
        missing = [p for p, lacking in self._missing().items() if lacking > 0 and p in may_open]
        if idle and missing:
            return [self._birth(min(idle, key=lambda s: s.since), missing[0], now)]
        aged = [s for s in self._in(SlotState.PARKED) if now - s.session_at >= self._rules.session_max_age_s]
        for slot in sorted(aged, key=lambda s: s.session_at):
            if self._missing().get(slot.profile, -1) < 0:
                self._move(slot, SlotEvent.RETIRE, now)
                return [Retire(slot.name)]
            if slot.profile in may_open:
                return [self._birth(slot, slot.profile, now)]
        return []

    def _birth(self, slot: Slot, profile: str, now: float) -> Effect:
        self._move(slot, SlotEvent.PREPARE, now)
        slot.profile = profile
        self._next_birth = now + self._rules.birth_every_s
        return Prepare(slot.name, profile)

    def _starts(self, now: float) -> list[Effect]:
        starting = len(self._in(SlotState.STARTING))
        needed = self._needed() - len(self._in(SlotState.IDLE)) - starting
        room = min(self._rules.max_actors - len(self._slots), self._rules.max_starting - starting)
        if now < self._start_backoff.not_before:
            return []
        return [StartActor(self._new(now).name) for _ in range(min(needed, room))]

    def _missing(self) -> dict[str, int]:
        """How many parked actors each profile lacks; negative where there are too many."""
        have = Counter(s.profile for s in self._slots.values() if s.state in (SlotState.PARKED, SlotState.PREPARING))
        return {profile: wanted - have[profile] for profile, wanted in self._rules.baseline.items()}

    def _needed(self) -> int:
        return sum(lacking for lacking in self._missing().values() if lacking > 0)

    def _worn(self, slot: Slot, now: float) -> bool:
        rules = self._rules
        grown_mb = 0.0 if slot.first_mb is None else slot.memory_mb - slot.first_mb
        return (
            slot.calls >= rules.actor_max_calls
            or now - slot.born_at >= rules.actor_max_age_s
            or grown_mb > rules.actor_max_growth_mb
        )

    def _in(self, *states: SlotState) -> list[Slot]:
        return [slot for slot in self._slots.values() if slot.state in states]

    def _new(self, now: float) -> Slot:
        name = next(self._names)
        self._slots[name] = slot = Slot(name, born_at=now, state=SlotState.STARTING, since=now)
        return slot

    def _move(self, slot: Slot, event: SlotEvent, now: float) -> None:
        slot.state = step(SLOT, slot.state, event)
        slot.since = now
        if slot.state is SlotState.RETIRED:
            del self._slots[slot.name]


_READINESS: Mapping[SlotState, int] = {
    SlotState.PARKED: 0,
    SlotState.PREPARING: 1,
    SlotState.IDLE: 2,
    SlotState.STARTING: 4,
}
"""How soon a slot could take a call. One that is ready for another profile (3) has to open its session anew."""


def _rank(slot: Slot, profile: str) -> tuple[int, float]:
    """Sort key: the readiest first, of several the one with the freshest session."""
    ready = _READINESS[slot.state]
    other = slot.state in (SlotState.PARKED, SlotState.PREPARING) and slot.profile != profile
    return (3 if other else ready), -slot.session_at
