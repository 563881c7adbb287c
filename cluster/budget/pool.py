"""The pool of call actors: how many wait ready for which profile, who is lent, and when one is replaced. Pure.

Rules of this file:
1. A slot's states and what moves it stand in `SLOT`; an event that is not there raises and changes nothing.
2. `plan(now)` says what has to be done and notes it as begun; whoever does it reports back with `handle`.
3. A lent slot is never touched, and lent and waiting slots together never pass `max_actors`.
   Calls go first: a limit of sessions bounds what is parked, never what is lent.
4. What fails is tried again ever later, so that an endpoint that is down is not hammered. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from cluster.budget.forecast import Forecast, share
from cluster.budget.slots import READINESS, SLOT, Slot, SlotEvent, SlotState
from cluster.machine import step

ACTOR_MB = 120.0
"""What a call actor's process is taken for until one has been weighed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRules:
    """How the pool is to be kept."""

    max_actors: int
    """Lent and waiting together; one call each."""
    baseline: Mapping[str, int]
    """How many are parked at least, by profile; the first ones are served first where there is no room for all."""
    session_max_age_s: float
    """A parked Live session is replaced then: idle ones are cut off after 86 s and more (reports from the field)."""
    actor_max_calls: int
    actor_max_age_s: float
    actor_max_growth_mb: float
    """Since the end of its first call, when everything has been loaded."""
    memory_mb: int | None = None
    """Of all actors together; None: as much as `max_actors` take."""
    max_starting: int = 2
    """Ray starts at most one process per CPU at a time; more would only queue."""
    min_nodes: int = 1
    """So many nodes are kept though fewer would do."""
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
        self.rules = rules
        self._names = names
        self._slots: dict[str, Slot] = {}
        self._start_backoff = _Backoff()
        self._session_backoff: defaultdict[str, _Backoff] = defaultdict(_Backoff)
        self._next_birth = float("-inf")
        self.forecast = Forecast()
        self.max_sessions: int | None = None
        """So many Live sessions may be open at once, those of calls included; None: as many as there are actors."""
        self.targets: dict[str, int] = dict(rules.baseline)
        """How many each profile is to have parked, as of the last plan."""
        self.leaving: frozenset[str] = frozenset()
        """No actor of these nodes is lent any more; those that wait there are retired, and others wait elsewhere."""
        self.staying: Mapping[str, int] = {}
        """The other nodes, as far as they are known, and for how many actors each has room.

        None of them has all that are parked, if there is room on another.
        """
        self.lent: Counter[tuple[str, bool]] = Counter()
        """How many times an actor was given to a call of a profile, and whether a parked one was there."""

    def __contains__(self, slot: str) -> bool:
        return slot in self._slots

    def slots(self) -> tuple[Slot, ...]:
        """Every slot that is not retired."""
        return tuple(self._slots.values())

    def adopt(self, slot: Slot) -> None:
        """Take over an actor of an earlier pool as it is."""
        self._slots[slot.name] = slot

    def lend(self, profile: str, now: float, *, shun: str = "") -> Loan | None:
        """Give the best actor there is to a call: a parked one, else the one that will be ready soonest.

        Of equally ready ones, those on another node than `shun`.
        """
        waiting = [s for s in self._slots.values() if s.state in READINESS and s.node not in self.leaving]
        if not waiting and self._room() <= 0:
            return None
        if self._is_full():
            # It takes over a session, or the place of one.
            waiting = [s for s in waiting if s.state in _WITH_SESSION] or waiting
        lent = self._by_node(SlotState.LENT)
        best = min(waiting, key=lambda s: _rank(s, profile, lent[s.node], shun)) if waiting else self._new(now)
        warm = best.state is SlotState.PARKED and best.profile == profile
        self._move(best, SlotEvent.LEND, now)
        self.forecast.arrived(profile, now)
        self.lent[profile, warm] += 1
        return Loan(best.name, warm=warm, start=not waiting)

    def handle(
        self,
        name: str,
        event: SlotEvent,
        now: float,
        *,
        session_age_s: float = 0.0,
        node: str = "",
        memory_mb: float = 0.0,
    ) -> None:
        """Something happened to an actor. Raises `IllegalTransition` for what its state does not have.

        `session_age_s` and `memory_mb` come with `PREPARED`, since an actor keeps a session that is still young and
        untouched; `node`, where it runs, comes with `STARTED`.
        """
        slot = self._slots[name]
        before, took_s = slot.state, now - slot.since
        self._move(slot, event, now)
        match event:
            case SlotEvent.PREPARED:
                slot.session_at = now - session_age_s
                slot.memory_mb = memory_mb
                self._session_backoff[slot.profile] = _Backoff()
                if slot.started_in_s and before is SlotState.PREPARING:
                    self.forecast.timed(slot.started_in_s + took_s)
                    slot.started_in_s = 0.0
            case SlotEvent.NOT_PREPARED:
                self._session_backoff[slot.profile].failed(now, self.rules)
            case SlotEvent.STARTED:
                slot.node = node
                slot.started_in_s = took_s if before is SlotState.STARTING else 0.0
                self._start_backoff = _Backoff()
            case SlotEvent.RETURN:
                slot.calls += 1
            case SlotEvent.DIE if before is SlotState.STARTING:
                self._start_backoff.failed(now, self.rules)
            case SlotEvent.DIE if before is SlotState.PREPARING:
                self._session_backoff[slot.profile].failed(now, self.rules)
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
        self._aim(now)
        return [*self._retirements(now), *self._births(now, unserved), *self._starts(now)]

    def avoided(self) -> frozenset[str]:
        """Where no actor may be started: also not beside all that wait, which would be lost with their node."""
        crowded = self._crowded()
        return self.leaving | {crowded} if crowded else self.leaving

    def with_session(self) -> list[Slot]:
        """The actors that hold a Live session, or are about to."""
        return [slot for slot in self._slots.values() if slot.state in _WITH_SESSION or slot.state is SlotState.LENT]

    def waiting_by_profile(self) -> Counter[str]:
        """How many are parked or are just being parked."""
        return Counter(slot.profile for slot in self._slots.values() if slot.state in _WITH_SESSION)

    def _aim(self, now: float) -> None:
        """Decide how many to have parked."""
        lent = len(self._in(SlotState.LENT))
        room = len(self._slots) - lent + self._room()
        if self.max_sessions is not None:
            room = min(room, self.max_sessions - lent)
        self.targets = share(self.rules.baseline, self.forecast.wanted(self.rules.baseline, now), max(0, room))

    def _retirements(self, now: float) -> list[Effect]:
        """The superfluous, those on nodes that go, and the worn: of these one at a time, never while another starts."""
        lent = self._by_node(SlotState.LENT)
        idle = sorted(self._in(SlotState.IDLE), key=lambda s: lent[s.node])
        parked = self._in(SlotState.PARKED)
        spare = len(idle) - self._needed()
        unused = [s for s in idle if now - s.since >= self.rules.idle_kept_s][: max(0, spare)]
        gone = [s for s in idle if s in unused or self._worn(s, now)]
        gone += [s for s in (*idle, *parked) if s.node in self.leaving and s not in gone]
        if not self._in(SlotState.STARTING):
            crowded = self._crowded() if len(parked) > 1 else ""
            gone += [s for s in parked if (self._worn(s, now) or (crowded and s.node == crowded)) and s not in gone][:1]
        for slot in gone:
            self._move(slot, SlotEvent.RETIRE, now)
        if self.max_sessions is not None:
            over = max(0, len(self.with_session()) - self.max_sessions)
            for slot in self._surplus()[:over]:
                self._move(slot, SlotEvent.RETIRE, now)
                gone.append(slot)
        return [Retire(slot.name) for slot in gone]

    def _births(self, now: float, unserved: Container[str]) -> list[Effect]:
        """The next Live session to open: one that is missing, else one that replaces the oldest that has aged."""
        if now < self._next_birth:
            return []
        may_open = {p for p in self.targets if now >= self._session_backoff[p].not_before and p not in unserved}
        missing = [p for p, lacking in self._missing().items() if lacking > 0 and p in may_open]
        idle = [] if self._is_full() else sorted(self._in(SlotState.IDLE), key=lambda s: s.since)
        # Without a process, or a session to spare, another profile's takes its place.
        free = idle or (self._surplus() if self._is_full() or self._room() <= 0 else [])
        if free and missing:
            return [self._birth(free[0], missing[0], now)]
        aged = [s for s in self._in(SlotState.PARKED) if now - s.session_at >= self.rules.session_max_age_s]
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
        self._next_birth = now + self.rules.birth_every_s
        return Prepare(slot.name, profile)

    def _starts(self, now: float) -> list[Effect]:
        starting = len(self._in(SlotState.STARTING))
        needed = self._needed() - len(self._in(SlotState.IDLE)) - starting
        room = min(self._room(), self.rules.max_starting - starting)
        if now < self._start_backoff.not_before:
            return []
        return [StartActor(self._new(now).name) for _ in range(min(needed, room))]

    def _room(self) -> int:
        """How many more processes there may be; negative where those that there are take too much memory."""
        room = self.rules.max_actors - len(self._slots)
        if self.rules.memory_mb is None:
            return room
        weighed = [slot.memory_mb for slot in self._slots.values() if slot.memory_mb]
        each = fmean(weighed) if weighed else ACTOR_MB
        used = sum(weighed) + each * (len(self._slots) - len(weighed))
        return min(room, int((self.rules.memory_mb - used) // each))

    def _is_full(self) -> bool:
        """As many Live sessions are open as may be."""
        return self.max_sessions is not None and len(self.with_session()) >= self.max_sessions

    def _surplus(self) -> list[Slot]:
        """Parked actors beyond what their profiles are to have, the oldest sessions first."""
        missing = self._missing()
        extra = {profile: -missing.get(profile, -len(self._slots)) for profile in {s.profile for s in self.slots()}}
        found = []
        for slot in sorted(self._in(SlotState.PARKED), key=lambda s: s.session_at):
            if extra[slot.profile] > 0:
                extra[slot.profile] -= 1
                found.append(slot)
        return found

    def _crowded(self) -> str:
        """The one node that has all the waiting actors, while another one has room; empty if there is none such."""
        nodes = {slot.node for slot in self._slots.values() if slot.state in READINESS and slot.node}
        used = Counter(slot.node for slot in self._slots.values())
        others = (node for node, room in self.staying.items() if node not in nodes and used[node] < room)
        return nodes.pop() if len(nodes) == 1 and nodes <= self.staying.keys() and any(others) else ""

    def _by_node(self, *states: SlotState) -> Counter[str]:
        return Counter(slot.node for slot in self._slots.values() if slot.state in states)

    def _missing(self) -> dict[str, int]:
        """How many parked actors each profile lacks; negative where there are too many."""
        have = self.waiting_by_profile()
        return {profile: wanted - have[profile] for profile, wanted in self.targets.items()}

    def _needed(self) -> int:
        return sum(lacking for lacking in self._missing().values() if lacking > 0)

    def _worn(self, slot: Slot, now: float) -> bool:
        rules = self.rules
        grown_mb = 0.0 if slot.first_mb is None else slot.memory_mb - slot.first_mb
        return (
            slot.is_outdated
            or slot.calls >= rules.actor_max_calls
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


_WITH_SESSION = frozenset({SlotState.PARKED, SlotState.PREPARING})


def _rank(slot: Slot, profile: str, lent_beside: int, shun: str) -> tuple[int, bool, int, float]:
    """Sort key: the readiest first, of several the one on the busiest node, then the one with the freshest session."""
    ready = READINESS[slot.state]
    other = slot.state in _WITH_SESSION and slot.profile != profile
    return (3 if other else ready), slot.node == shun, -lent_beside, -slot.session_at
