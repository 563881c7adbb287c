"""Whether a model of the Live API is worth asking: a circuit breaker (Nygard's). Pure.

Rules of this file:
1. Only what other calls would meet too is counted (`Diagnosis.blames_provider`); whose call met it does not matter.
2. A success of anybody's closes the breaker: it is newer than every fault that was counted.
3. While it is open, nothing is tried but one probe at a time, ever later. What fails meanwhile (calls that were let in
   all the same) tells nothing new. `now` is monotonic seconds, `jitter` a number from 0 to 1.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cluster.machine import Table, step


class BreakerState(StrEnum):
    """What is thought of a model."""

    CLOSED = "closed"
    """It serves."""
    OPEN = "open"
    """It does not: nobody asks until it is time for a probe."""
    HALF_OPEN = "half-open"
    """Somebody is asking."""


class BreakerEvent(StrEnum):
    """What changes that."""

    TRIP = "trip"
    """Too many faults; a single one of the probe is."""
    PROBE = "probe"
    SUCCEED = "succeed"


_S, _E = BreakerState, BreakerEvent
BREAKER: Final[Table[BreakerState, BreakerEvent]] = {
    _S.CLOSED: {_E.TRIP: _S.OPEN, _E.SUCCEED: _S.CLOSED},
    _S.OPEN: {_E.PROBE: _S.HALF_OPEN, _E.SUCCEED: _S.CLOSED},
    # A probe that is not heard of any more gives its place to another.
    _S.HALF_OPEN: {_E.TRIP: _S.OPEN, _E.PROBE: _S.HALF_OPEN, _E.SUCCEED: _S.CLOSED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens, and for how long."""

    faults: int = 5
    """More than one call's bad luck: a call tries two or three times by itself."""
    window_s: float = 30.0
    """A quota of Google's is per minute; faults farther apart have nothing to do with each other."""
    pause_s: float = 5.0
    """The least: as long as a slow set-up takes."""
    pause_max_s: float = 60.0
    """The most: a quota has been renewed by then."""
    probe_within_s: float = 20.0
    """A set-up has failed within its time limit (8 s) and a margin; after this long a probe was lost."""


class Breaker:
    """One model's."""

    def __init__(self, rules: BreakerRules) -> None:
        self.state = BreakerState.CLOSED
        self._rules = rules
        self._faults: deque[float] = deque(maxlen=rules.faults)
        self._openings = 0
        self._next_probe = 0.0

    def wait_s(self, now: float) -> float:
        """In how many seconds a session may be set up; 0 for now."""
        return 0.0 if self.state is BreakerState.CLOSED else max(0.0, self._next_probe - now)

    def ask(self, now: float) -> None:
        """A session is being set up; where a probe is due, this is it."""
        if self.state is not BreakerState.CLOSED and self.wait_s(now) == 0.0:
            self.state = step(BREAKER, self.state, BreakerEvent.PROBE)
            self._next_probe = now + self._rules.probe_within_s

    def succeeded(self) -> None:
        """A session was set up."""
        self.state = step(BREAKER, self.state, BreakerEvent.SUCCEED)
        self._faults.clear()
        self._openings = 0

    def failed(self, now: float, jitter: float) -> None:
        """The provider refused a session, or ended one."""
        self._faults.append(now)
        if self.state is BreakerState.HALF_OPEN or (self.state is BreakerState.CLOSED and self._too_many(now)):
            self.state = step(BREAKER, self.state, BreakerEvent.TRIP)
            self._next_probe = now + self._pause_s(jitter)
            self._openings += 1

    def _too_many(self, now: float) -> bool:
        full = len(self._faults) == self._rules.faults
        return full and now - self._faults[0] <= self._rules.window_s

    def _pause_s(self, jitter: float) -> float:
        """Twice as long each time; half of it by chance, lest every installation come back in the same second."""
        rules = self._rules
        return min(rules.pause_s * 2.0 ** min(self._openings, 30), rules.pause_max_s / 2) * (1 + jitter)
