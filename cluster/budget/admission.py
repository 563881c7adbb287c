"""Whether a call may start: one decision, with one reason. Pure.

Rules of this file:
1. What can never succeed is refused before what might succeed later is put off.
2. `Wait` says that calls in progress are in the way, so that the same request may succeed when they end;
   `Refused` with a `retry_after_s` says that something else has to pass first.
3. Nothing is decided twice: who gets `Admit` reserves that amount before anybody else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster import outcome as o
from cluster.messages import Refused, Wait

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How things stand at the moment of deciding."""

    draining: bool
    leases: int
    max_calls: int
    spent_usd_micros: int
    """Of the tenant's calls that started today and have ended."""
    reserved_usd_micros: int
    """For the tenant's calls that started today and run."""
    daily_budget_usd_micros: int
    until_tomorrow_s: float
    live_wait_s: float = 0.0
    """For so long nobody is dialled, since the model does not serve; 0 for a call that is to be taken all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Yes, with this much money held."""

    reserve_usd_micros: int


def decide(wish: Wish, load: Load) -> Admit | Wait | Refused:
    """Admit, put off or refuse one request."""
    if load.draining:
        detail = "The service takes no new calls at the moment, because it is being replaced."
        return Refused(outcome=o.DRAINING, detail=detail, retry_after_s=DRAIN_RETRY_S)
    if wish.max_cost_usd_micros < wish.wind_down_usd_micros:
        detail = (
            f"The call's cost limit of {_usd(wish.max_cost_usd_micros)} is too low to say anything: "
            f"two turns cost {_usd(wish.wind_down_usd_micros)}; raise max_cost_usd."
        )
        return Refused(outcome=o.MAX_COST, detail=detail)
    reserve = min(max(wish.estimate_usd_micros, wish.wind_down_usd_micros), wish.max_cost_usd_micros)
    put_off = _over_budget(reserve, load) or _over_capacity(load) or _without_model(load)
    return put_off or Admit(reserve_usd_micros=reserve)


def _over_budget(reserve: int, load: Load) -> Wait | Refused | None:
    daily = load.daily_budget_usd_micros
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


def _over_capacity(load: Load) -> Wait | None:
    return Wait(outcome=o.OVER_CAPACITY, retry_after_s=SLOT_RETRY_S) if load.leases >= load.max_calls else None


def _without_model(load: Load) -> Wait | None:
    return Wait(outcome=o.LIVE_UNAVAILABLE, retry_after_s=load.live_wait_s) if load.live_wait_s else None


def _usd(micros: int) -> str:
    return f"{micros / 1_000_000:.4f} USD"
