"""Whether one more call may be placed now: pace, calls at once, and what ends a campaign. Pure.

Rules of this file:
1. Calls are spread evenly: after a pause there is no burst.
2. Money counts before it is spent: every call that runs, or that nobody knows the end of, counts with its limit.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a campaign keeps to."""

    calls_per_second: float
    concurrency: int
    max_cost_usd_micros: int
    """Of one call."""
    stop_at: float = math.inf
    """UTC seconds."""
    max_usd_micros: int | None = None
    max_calls: int | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far a campaign is."""

    waiting: int = 0
    """Contacts, as the three below."""
    open: int = 0
    """Dialling or calling."""
    done: int = 0
    unknown: int = 0
    calls: int = 0
    """Attempts, whatever came of them."""
    spent_usd_micros: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of the calls that ended, as text."""

    def as_json(self) -> dict[str, Any]:
        """For programs; money in US dollars."""
        return {
            "waiting": self.waiting,
            "calling": self.open,
            "done": self.done,
            "unknown": self.unknown,
            "calls": self.calls,
            "spent_usd": self.spent_usd_micros / 1_000_000,
            "outcomes": dict(sorted(self.outcomes.items())),
        }


class Pace:
    """When the next call may be placed. Times are UTC seconds."""

    def __init__(self, limits: Limits, tally: Tally, now: float) -> None:
        """After a restart the first call waits its turn, as if one had just been placed."""
        self._limits = limits
        self.tally = tally
        self._next_at = now + 1 / limits.calls_per_second

    def stop(self, now: float) -> str | None:
        """Why no call will ever be placed again, None while some may."""
        limits, tally = self._limits, self.tally
        if now >= limits.stop_at:
            return "time"
        if limits.max_calls is not None and tally.calls >= limits.max_calls:
            return "calls"
        if not tally.open and not self._affordable():
            return "money"
        return None

    def wait_s(self, now: float) -> float | None:
        """Seconds until one more call may be placed; None while another one has to end first."""
        if self.tally.open >= self._limits.concurrency or not self._affordable():
            return None
        return max(0.0, self._next_at - now)

    def begun(self) -> None:
        """A call is being placed."""
        self.tally.waiting -= 1
        self.tally.open += 1
        self.tally.calls += 1

    def placed(self, now: float) -> None:
        """It was; from now on the next one has to wait, however long this one took."""
        self._next_at = now + 1 / self._limits.calls_per_second

    def put_off(self) -> None:
        """It was not placed after all."""
        self.tally.waiting += 1
        self.tally.open -= 1
        self.tally.calls -= 1

    def ended(self, outcome: str, cost_usd_micros: int, *, again: bool) -> None:
        """A call has ended, and there will be another one or not."""
        self.tally.open -= 1
        self.tally.spent_usd_micros += cost_usd_micros
        self.tally.outcomes[outcome] += 1
        if again:
            self.tally.waiting += 1
        else:
            self.tally.done += 1

    def left_out(self) -> None:
        """Somebody who waits will not be called."""
        self.tally.waiting -= 1
        self.tally.done += 1

    def parked(self) -> None:
        """Nobody knows what became of a call."""
        self.tally.open -= 1
        self.tally.unknown += 1

    def found(self) -> None:
        """A call that nobody knew the end of counts as one that runs, since it has ended now."""
        self.tally.open += 1
        self.tally.unknown -= 1

    def _affordable(self) -> bool:
        limits, tally = self._limits, self.tally
        if limits.max_usd_micros is None:
            return True
        held = (tally.open + tally.unknown) * limits.max_cost_usd_micros
        return tally.spent_usd_micros + held + limits.max_cost_usd_micros <= limits.max_usd_micros
