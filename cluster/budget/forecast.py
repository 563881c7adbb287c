"""How many actors should wait for each profile's calls, from how they came in the last minutes. Pure.

As many calls as came while one new actor would have been made ready, at the worst of the last minutes, are to find one
parked: the arrival rate times the start time, with the unevenness that was seen on top. Of calls that come at random,
five in a start time on average are eleven once in a few minutes. A burst counts at once, and is forgotten slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

FORGET_S = 180.0
"""After so long the worst counts for 1/e of itself: a wave of calls that comes back in minutes finds the pool ready."""
RATE_OVER_S = 60.0
START_S = 5.0
"""What a process and its Live session take, until the first ones have been timed."""
START_MAX_S = 15.0
"""A machine that is too busy to start processes is not given more of them to start."""
TIMING_WEIGHT = 0.2
"""Of the newest of the timed starts in their average."""


@dataclass(slots=True)
class _Demand:
    """A profile's calls."""

    recent: deque[float] = field(default_factory=deque)
    """When those of the last start time came."""
    worst: float = 0.0
    worst_at: float = 0.0
    rate_per_s: float = 0.0
    rate_at: float = 0.0

    def worst_now(self, now: float) -> float:
        return self.worst * exp((self.worst_at - now) / FORGET_S)

    def rate_now(self, now: float) -> float:
        return self.rate_per_s * exp((self.rate_at - now) / RATE_OVER_S)


class Forecast:
    """Learns from every call that takes an actor. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._demands: dict[str, _Demand] = {}
        self.start_s = START_S
        """What it takes until a new actor is parked: its process and its Live session."""

    def arrived(self, profile: str, now: float) -> None:
        """A call took an actor, warm or cold."""
        demand = self._demands.setdefault(profile, _Demand())
        demand.recent.append(now)
        while demand.recent[0] < now - self.start_s:
            demand.recent.popleft()
        if len(demand.recent) > demand.worst_now(now):
            demand.worst, demand.worst_at = len(demand.recent), now
        demand.rate_per_s, demand.rate_at = demand.rate_now(now) + 1 / RATE_OVER_S, now

    def timed(self, seconds: float) -> None:
        """An actor was made ready from nothing in so many seconds."""
        self.start_s += TIMING_WEIGHT * (min(seconds, START_MAX_S) - self.start_s)

    def wanted(self, baseline: Mapping[str, int], now: float) -> dict[str, int]:
        """How many are to be parked, by profile: never fewer than its baseline."""
        worst = {profile: int(demand.worst_now(now) + 0.5) for profile, demand in self._demands.items()}
        return {profile: max(baseline.get(profile, 0), worst.get(profile, 0)) for profile in {**baseline, **worst}}

    def rate_per_s(self, profile: str, now: float) -> float:
        """Calls per second, averaged over about a minute."""
        demand = self._demands.get(profile)
        return demand.rate_now(now) if demand else 0.0


def share(baseline: Mapping[str, int], wanted: Mapping[str, int], room: int) -> dict[str, int]:
    """How many each profile may have parked of what it wants, where there is room for `room`.

    First come the baselines, in their order, then one after the other whoever lacks most.
    """
    shares = dict.fromkeys(wanted, 0)
    for profile, number in baseline.items():
        shares[profile] = min(number, room)
        room -= shares[profile]
    for _ in range(room):
        profile = max(shares, key=lambda name: wanted[name] - shares[name], default="")
        if not profile or shares[profile] >= wanted[profile]:
            break
        shares[profile] += 1
    return shares
