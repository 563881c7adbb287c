"""One conversation over many Live connections: when to open, to swap, to try again and to give up.

Rules of this file:
1. Connections are numbered from 1 in the order in which they are wanted. At most one serves and one is on its way;
   what is heard of any other is history.
2. A planned swap is made before the break: the next connection is set up while the old one serves, and takes over
   between two turns, or when time runs out. Where a server refuses that, the old one is closed first from then on.
3. A connection resumes from the newest handle, or it is told what was said; never both. A handle is a model's own.
4. `now` is seconds of any clock that does not jump. What follows is returned as effects, in the order to be done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cluster.call import events as ev
from cluster.call.faults import WENT_MUTE, Diagnosis, Fault, Remedy, Stage, diagnose
from cluster.call.states import LIVE, Live, LiveEvent
from cluster.machine import step

MARGIN_S: Final = 3.0
"""Before the time that a server gives is up: setting a connection up takes a second at worst."""
NOTICE_S: Final = 30.0
"""How long a rotation by our own clock waits for a pause between two turns."""
RECOVER_WITHIN_S: Final = 12.0
"""A caller who has waited that long with a filler sentence is told the truth."""
RETRY_S: Final = 0.1
"""First pause between attempts; doubles, up to the next line, and is spread by half of it either way."""
RETRY_MAX_S: Final = 3.0
ROTATE_AGAIN_S: Final = 2.0
HEDGE_S: Final = 1.5
"""A setup takes up to a second (field logs); one that takes longer may hang, and a second one is tried beside it."""
RESUME_TRIES: Final = 2
"""A handle that failed so often is given up for a fresh session."""


class Moment(StrEnum):
    """Whose turn it is; decides when a connection may be swapped."""

    IDLE = "idle"
    CALLER = "caller"
    """The caller speaks: what was said since the handle is sent to the new connection."""
    AGENT = "agent"
    """The model generates, or owes an answer, or waits for a tool: a swap would cut it."""


class _Timer(StrEnum):
    ROTATE = "rotate"
    FORCE = "force"
    RETRY = "retry"
    HEDGE = "hedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuityRules:
    """What holds for one call. `models` has the model of each target, the main one first."""

    models: tuple[str, ...] = ("",)
    rotate_after_s: float = 500.0
    open_within_s: float = 6.0
    """How long the first connection may take, over all targets: somebody is listening to the ringing."""
    close_first: bool = False
    spread: Callable[[], float] = lambda: 0.5
    """0 to 1, so that calls that broke together do not come back together."""


class Continuity:
    """The plan of one call's connections."""

    def __init__(self, rules: ContinuityRules) -> None:
        self._rules = rules
        self.state = Live.CLOSED
        self.current = 0
        """The connection that serves; 0 where none does."""
        self.target = 0
        """The index of the model and place that is used, or tried."""
        self.handle = ""
        """The newest one that can be resumed from; a secret."""
        self.close_first = rules.close_first
        self.faults: list[tuple[int, Diagnosis]] = []
        """What went wrong since somebody last took this list, and on which target."""
        self._opened = 0
        self._next = 0
        self._rival = 0
        """The second try beside the next connection: whichever is set up first is taken."""
        self._next_is_ready = False
        self._next_handle = ""
        self._wanted = False
        self._forced = False
        self._planned = False
        self._moment = Moment.IDLE
        self._failures = 0
        self._hopeless: set[int] = set()
        self._broke_at = 0.0
        self._give_up_at = 0.0
        self._replay = True
        self._timers: dict[_Timer, float] = {}

    def begin(self, now: float) -> list[ev.Effect]:
        """Open the first connection."""
        self._move(LiveEvent.CONNECT)
        self._broke_at, self._give_up_at = now, now + self._rules.open_within_s
        return [self._open(now)]

    def opened(self, connection: int, age_s: float, now: float) -> list[ev.Effect]:
        """A connection is set up; `age_s` is how long it has been so already (a parked one)."""
        if connection not in {self._next, self._rival}:
            return [ev.DropLive(connection)]
        beaten = self._beaten_by(connection)
        self._timers[_Timer.ROTATE] = now + max(0.0, self._rules.rotate_after_s - age_s)
        if self.state is Live.ROTATING and self._moment is Moment.AGENT and not self._forced:
            self._next_is_ready = True
            return beaten
        return [*beaten, *self._switch(now)]

    def _beaten_by(self, connection: int) -> list[ev.Effect]:
        """Of two tries this one is taken; the other is closed, should it come about."""
        loser = self._other_than(connection)
        self._next, self._rival = connection, 0
        return [ev.DropLive(loser)] if loser else []

    def _other_than(self, connection: int) -> int:
        """The other one of two tries; 0 where there is none."""
        return self._next if connection == self._rival else self._rival

    def failed(self, connection: int, fault: Fault, now: float) -> list[ev.Effect]:
        """A connection could not be set up."""
        if connection not in {self._next, self._rival}:
            return []
        diagnosis = self._blame(fault)
        if self._rival:
            self._next, self._rival = self._other_than(connection), 0
            return []
        self._next, self._next_is_ready = 0, False
        self._timers.pop(_Timer.HEDGE, None)
        if self.state is Live.ROTATING:
            return self._keep(diagnosis, now)
        return self._try_again(diagnosis, now)

    def broke(self, connection: int, fault: Fault, now: float) -> list[ev.Effect]:
        """A connection that was set up has closed."""
        if connection == self._next:
            return self.failed(connection, fault, now)
        if connection != self.current:
            return []
        diagnosis = self._blame(fault)
        self._planned = False
        self._lose(now, replay=diagnosis.remedy is not Remedy.RESUME_WITHOUT_AUDIO)
        if self._next_is_ready:
            return self._switch(now)
        if self._next:
            self._timers[_Timer.HEDGE] = now + HEDGE_S
            return []
        if diagnosis.remedy in {Remedy.RESUME, Remedy.RESUME_WITHOUT_AUDIO} and self._failures < RESUME_TRIES:
            self._failures += 1
            return [self._open(now)]
        return self._try_again(diagnosis, now)

    def mute(self, now: float, *, fresh: bool) -> list[ev.Effect]:
        """The connection that serves is of no use; `fresh`: neither is its handle."""
        if not self.current:
            return []
        if fresh:
            self.handle, self._failures = "", 0
        connection = self.current
        return [ev.DropLive(connection), *self.broke(connection, Fault(Stage.SESSION, WENT_MUTE), now)]

    def going_away(self, time_left_s: float, now: float) -> list[ev.Effect]:
        """The server will close the connection that serves."""
        self._wanted = True
        force_at = now + max(0.0, time_left_s - MARGIN_S)
        self._timers[_Timer.FORCE] = min(force_at, self._timers.get(_Timer.FORCE, force_at))
        self._timers.pop(_Timer.ROTATE, None)
        return self._rotate_between_turns(now)

    def resumable(self, handle: str) -> None:
        """The server gave a new handle."""
        self.handle = handle

    def served(self) -> None:
        """The model answered: the connection works, and the next failure is a new story."""
        self._failures = 0

    def turn(self, moment: Moment, now: float) -> list[ev.Effect]:
        """Whose turn it is from now on."""
        self._moment = moment
        if self.state is Live.ROTATING and self._next_is_ready and moment is not Moment.AGENT:
            return self._switch(now)
        return self._rotate_between_turns(now)

    @property
    def serves(self) -> bool:
        """Whether what is sent reaches a model."""
        return self.state in {Live.READY, Live.ROTATING}

    def deadline(self) -> float | None:
        """When `tick` is due next, or None."""
        return min(self._timers.values(), default=None)

    def tick(self, now: float) -> list[ev.Effect]:
        """Do what is due at `now`."""
        effects: list[ev.Effect] = []
        for timer in [timer for timer, at in self._timers.items() if at <= now]:
            self._timers.pop(timer, None)
            match timer:
                case _Timer.ROTATE:
                    effects += self.going_away(NOTICE_S + MARGIN_S, now)
                case _Timer.FORCE:
                    effects += self._force(now)
                case _Timer.HEDGE:
                    effects += self._hedge()
                case _:
                    effects += self._retry(now)
        return effects

    def _hedge(self) -> list[ev.Effect]:
        """The next connection takes long, and nothing serves. A newer handle would know more than the first try."""
        if self.handle != self._next_handle:
            return []
        self._opened += 1
        self._rival = self._opened
        return [ev.OpenLive(self._rival, self.target, self.handle)]

    def _retry(self, now: float) -> list[ev.Effect]:
        if self.state in {Live.CONNECTING, Live.RESUMING}:
            return [self._open(now)]
        return self._force(now) if self._forced else self._rotate_between_turns(now)

    def _move(self, event: LiveEvent) -> None:
        self.state = step(LIVE, self.state, event)

    def _blame(self, fault: Fault) -> Diagnosis:
        diagnosis = diagnose(fault)
        self.faults.append((self.target, diagnosis))
        return diagnosis

    def _open(self, now: float) -> ev.OpenLive:
        self._opened += 1
        self._next, self._next_is_ready, self._next_handle = self._opened, False, self.handle
        if not self.current:
            self._timers[_Timer.HEDGE] = now + HEDGE_S
        return ev.OpenLive(self._next, self.target, self.handle)

    def _switch(self, now: float) -> list[ev.Effect]:
        """The connection that is set up takes over."""
        old, self.current = self.current, self._next
        self._next, self._next_is_ready, self._wanted, self._forced = 0, False, False, False
        for timer in (_Timer.FORCE, _Timer.RETRY, _Timer.HEDGE):
            self._timers.pop(timer, None)
        gap_s = 0.0 if old else now - self._broke_at
        self._move(LiveEvent.SETUP)
        switch = ev.SwitchLive(
            self.current,
            target=self.target,
            resumed=bool(self._next_handle),
            replay=self._replay,
            gap_s=gap_s,
            planned=self._planned,
        )
        self._replay, self._planned = True, False
        return [switch, ev.DropLive(old)] if old else [switch]

    def _lose(self, now: float, *, replay: bool) -> None:
        self._move(LiveEvent.LOSE)
        self.current = 0
        self._replay = replay
        self._broke_at, self._give_up_at = now, now + RECOVER_WITHIN_S
        for timer in (_Timer.ROTATE, _Timer.FORCE, _Timer.RETRY):
            self._timers.pop(timer, None)

    def _rotate_between_turns(self, now: float) -> list[ev.Effect]:
        waits = self.state is not Live.READY or not self._wanted or _Timer.RETRY in self._timers
        return [] if waits or self._moment is not Moment.IDLE else self._rotate(now)

    def _rotate(self, now: float) -> list[ev.Effect]:
        self._planned = True
        if not self.close_first:
            self._move(LiveEvent.ROTATE)
            return [self._open(now)]
        old = self.current
        self._lose(now, replay=True)
        return [ev.DropLive(old), self._open(now)]

    def _force(self, now: float) -> list[ev.Effect]:
        """Time runs out: what is not said yet will be said on the next connection."""
        self._forced = True
        if self.state is Live.READY:
            return self._rotate(now)
        return self._switch(now) if self.state is Live.ROTATING and self._next_is_ready else []

    def _keep(self, diagnosis: Diagnosis, now: float) -> list[ev.Effect]:
        """The next connection did not come about, and the old one still serves."""
        self._move(LiveEvent.KEEP)
        if diagnosis.remedy is Remedy.RESUME:
            self.close_first = True
            return self._rotate(now) if self._forced or self._moment is Moment.IDLE else []
        if diagnosis.remedy is Remedy.FRESH:
            self.handle = ""
        self._timers[_Timer.RETRY] = now + ROTATE_AGAIN_S
        return []

    def _try_again(self, diagnosis: Diagnosis, now: float) -> list[ev.Effect]:
        """Nothing serves: with the handle, without it, elsewhere, later, or not at all."""
        self._failures += 1
        at_once = False
        if self.handle and (diagnosis.remedy is Remedy.FRESH or self._failures >= RESUME_TRIES):
            self.handle, at_once = "", True
        if diagnosis.remedy in {Remedy.BACK_OFF, Remedy.GIVE_UP}:
            if diagnosis.remedy is Remedy.GIVE_UP:
                self._hopeless.add(self.target)
            at_once = self._go_elsewhere() or at_once
        if len(self._hopeless) == len(self._rules.models):
            return self._lost(diagnosis)
        pause_s = min(RETRY_MAX_S, RETRY_S * 2 ** max(0, self._failures - 1)) * (0.5 + self._rules.spread())
        if now + (0.0 if at_once else pause_s) >= self._give_up_at:
            return self._lost(diagnosis)
        if at_once:
            return [self._open(now)]
        self._timers[_Timer.RETRY] = now + pause_s
        return []

    def _go_elsewhere(self) -> bool:
        """Turn to the next target that is not hopeless; True where that is another one."""
        before, count = self.target, len(self._rules.models)
        for distance in range(1, count + 1):
            candidate = (before + distance) % count
            if candidate not in self._hopeless:
                self.target = candidate
                break
        if self._rules.models[self.target] != self._rules.models[before]:
            self.handle = ""
        # Once around, the same targets are tried again only after a pause.
        return self.target > before

    def _lost(self, diagnosis: Diagnosis) -> list[ev.Effect]:
        self._move(LiveEvent.FAIL)
        self._timers.clear()
        return [ev.LiveGone(diagnosis.name)]
