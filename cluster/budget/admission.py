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
from typing import Final

from cluster import outcome as o
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
    """For its whole allowed duration."""
    wind_down_usd_micros: int
    """The least that a call has to hold: one turn, and one to say goodbye."""
    max_cost_usd_micros: int
    """The lower one of the profile's and the request's limit."""

    @property
    def reserve_usd_micros(self) -> int:
        """What is held for it."""
        return min(max(self.estimate_usd_micros, self.wind_down_usd_micros), self.max_cost_usd_micros)


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
    spent_usd_micros: int
    """Of the tenant's calls that started today and have ended."""
    reserved_usd_micros: int
    """For the tenant's calls that started today and run."""
    daily_budget_usd_micros: int
    until_tomorrow_s: float
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
    if wish.max_cost_usd_micros >= wish.wind_down_usd_micros:
        return None
    detail = (
        f"The call's cost limit of {_usd(wish.max_cost_usd_micros)} is too low to say anything: "
        f"two turns cost {_usd(wish.wind_down_usd_micros)}; raise max_cost_usd."
    )
    return Refused(outcome=o.MAX_COST, detail=detail)


def _over_budget(wish: Wish, load: Load) -> Wait | Refused | None:
    daily, reserve = load.daily_budget_usd_micros, wish.reserve_usd_micros
    if reserve > daily:
        detail = f"The call may cost {_usd(reserve)}, which is more than the tenant's daily budget of {_usd(daily)}."
        return Refused(outcome=o.OVER_BUDGET, detail=detail)
    if load.spent_usd_micros + reserve > daily:
        detail = (
            f"The call may cost {_usd(reserve)}, and {_usd(load.spent_usd_micros)} of the tenant's daily budget "
            f"of {_usd(daily)} are spent; the next day begins at midnight UTC."
        )
        return Refused(outcome=o.OVER_BUDGET, detail=detail, retry_after_s=load.until_tomorrow_s)
    if load.spent_usd_micros + load.reserved_usd_micros + reserve > daily:
        return Wait(outcome=o.OVER_BUDGET, retry_after_s=MONEY_RETRY_S)
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
