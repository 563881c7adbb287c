"""Whether a call may start: one decision, with one reason. Pure.

Rules of this file:
1. The checks stand in `CHECKS`, and the first that objects gives the reason. What can never succeed is refused before
   what might succeed later is put off.
2. `Wait` says that calls in progress are in the way, so that the same request may succeed when they end;
   `Refused` with a `retry_after_s` says that something else has to pass first.
3. Nothing is decided twice: who gets `Admit` reserves that amount before anybody else is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Final

from cluster import outcome as o
from cluster.budget.budgets import Standing
from cluster.budget.pricing import Ahead
from cluster.messages import Refused, Wait
from cluster.outcome import WHY_NOT, Outcome

SLOT_RETRY_S: Final = 5.0
"""A call lasts minutes, but with several running one ends every few seconds."""
MONEY_RETRY_S: Final = 30.0
"""An ending call gives back what it did not use of its reservation."""
DRAIN_RETRY_S: Final = 30.0
"""A drain ends with a new process in this one's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one request would take."""

    estimate_usd_micros: int
    """For a call that is worth beginning."""
    ahead: Ahead
    """What a call has to hold as it begins."""
    max_cost_usd_micros: int
    """The lower one of the profile's and the request's limit."""
    important: bool = True
    """Admitted also when a budget is all but used up."""

    @property
    def reserve_usd_micros(self) -> int:
        """What is held for it."""
        return min(self.ahead.slice, self.max_cost_usd_micros)

    @property
    def worth_usd_micros(self) -> int:
        """What has to be left of every budget for it; less, and it would be told to end before it is worth it."""
        return min(max(self.estimate_usd_micros + self.ahead.soon, self.ahead.slice), self.max_cost_usd_micros)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One limit on calls at once, and how many there are."""

    outcome: Outcome
    """What passing it is called."""
    calls: int
    max_calls: int
    """0 is a limit that nobody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How things stand for one request, at the moment of deciding."""

    draining: bool
    ceilings: tuple[Ceiling, ...]
    """Those that the request falls under, the widest first."""
    budgets: tuple[Standing, ...]
    """Those that would pay for it."""
    at: float
    """UTC seconds."""
    priority_at: float
    """The share of a budget from which on only important calls are admitted."""
    blocked: bool = False
    opens_in_s: float | None = 0.0
    """Until the calling hours begin; 0 within them and where there are none, None where nobody knows."""
    trunk_wait_s: float = 0.0
    """Until the trunk takes the next call."""
    live_wait_s: float = 0.0
    """For so long nobody is dialled, since the model does not serve; 0 for a call that is to be taken all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Yes, with this much money held."""

    reserve_usd_micros: int


def decide(wish: Wish, load: Load) -> Admit | Wait | Refused:
    """Admit, put off or refuse one request."""
    for check in CHECKS:
        if (objection := check(wish, load)) is not None:
            return objection
    return Admit(reserve_usd_micros=wish.reserve_usd_micros)


def _draining(_wish: Wish, load: Load) -> Refused | None:
    return _refused(o.DRAINING, retry_after_s=DRAIN_RETRY_S) if load.draining else None


def _blocked(_wish: Wish, load: Load) -> Refused | None:
    return _refused(o.BLOCKED_NUMBER) if load.blocked else None


def _outside_hours(_wish: Wish, load: Load) -> Refused | None:
    if load.opens_in_s is None:
        return _refused(o.UNKNOWN_HOURS)
    return _refused(o.OUTSIDE_HOURS, retry_after_s=load.opens_in_s) if load.opens_in_s else None


def _too_cheap(wish: Wish, _load: Load) -> Refused | None:
    if wish.max_cost_usd_micros >= wish.ahead.soon:
        return None
    detail = (
        f"The call's cost limit of {_usd(wish.max_cost_usd_micros)} is too low to say anything: "
        f"to begin and to say goodbye costs {_usd(wish.ahead.soon)}; raise max_cost_usd."
    )
    return Refused(outcome=o.MAX_COST, detail=detail)


def _over_budget(wish: Wish, load: Load) -> Wait | Refused | None:
    refused = (_spent(wish, standing, load) for standing in load.budgets)
    held = (_held(wish, standing, load) for standing in load.budgets)
    return next((objection for objection in (*refused, *held) if objection is not None), None)


def _spent(wish: Wish, standing: Standing, load: Load) -> Refused | None:
    """What was spent does not come back before the budget's next window."""
    cap, worth = standing.cap_usd_micros, wish.worth_usd_micros
    which = f"the {standing.purse.budget.window} budget of {standing.purse.budget.scope} {standing.purse.name}"
    if worth > cap:
        detail = f"A minute of the call may cost {_usd(worth)}, which is more than {which}, {_usd(cap)}."
        return Refused(outcome=o.OVER_BUDGET, detail=detail)
    ends_in_s = standing.purse.ends_at - load.at
    retry_after_s = ends_in_s if isfinite(ends_in_s) else None
    if standing.spent_usd_micros + worth > cap:
        detail = f"Of {which}, {_usd(cap)}, {_usd(standing.spent_usd_micros)} are spent; that is too much for a call."
        return Refused(outcome=o.OVER_BUDGET, detail=detail, retry_after_s=retry_after_s)
    if not wish.important and standing.spent_usd_micros >= load.priority_at * cap:
        return _refused(o.PRIORITY_ONLY, retry_after_s=retry_after_s)
    return None


def _held(wish: Wish, standing: Standing, load: Load) -> Wait | None:
    """What is held for a call that runs may be free when it ends."""
    used, cap = standing.used_usd_micros, standing.cap_usd_micros
    if used + wish.worth_usd_micros > cap:
        return Wait(outcome=o.OVER_BUDGET, retry_after_s=MONEY_RETRY_S)
    if not wish.important and used >= load.priority_at * cap:
        return Wait(outcome=o.PRIORITY_ONLY, retry_after_s=MONEY_RETRY_S)
    return None


def _shut(_wish: Wish, load: Load) -> Refused | None:
    return next((_refused(ceiling.outcome) for ceiling in load.ceilings if ceiling.max_calls == 0), None)


def _over_capacity(_wish: Wish, load: Load) -> Wait | None:
    full = (ceiling.outcome for ceiling in load.ceilings if ceiling.calls >= ceiling.max_calls)
    return next((Wait(outcome=outcome, retry_after_s=SLOT_RETRY_S) for outcome in full), None)


def _over_rate(_wish: Wish, load: Load) -> Wait | None:
    return Wait(outcome=o.OVER_TRUNK_RATE, retry_after_s=load.trunk_wait_s) if load.trunk_wait_s else None


def _without_model(_wish: Wish, load: Load) -> Wait | None:
    return Wait(outcome=o.LIVE_UNAVAILABLE, retry_after_s=load.live_wait_s) if load.live_wait_s else None


CHECKS: Final[tuple[Callable[[Wish, Load], Wait | Refused | None], ...]] = (
    _draining,
    _blocked,
    _outside_hours,
    _too_cheap,
    _shut,
    _over_budget,
    _over_capacity,
    _over_rate,
    _without_model,
)


def _refused(outcome: Outcome, *, retry_after_s: float | None = None) -> Refused:
    return Refused(outcome=outcome, detail=WHY_NOT[outcome], retry_after_s=retry_after_s)


def _usd(micros: int) -> str:
    return f"{micros / 1_000_000:.4f} USD"
