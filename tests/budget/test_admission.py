"""One decision with one reason."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from cluster import outcome as o
from cluster.budget.admission import CHECKS, Admit, Ceiling, Load, Wish, decide
from cluster.budget.budgets import Budget, Purse, Scope, Standing, Window
from cluster.budget.pricing import Ahead
from cluster.messages import Refused, Wait
from cluster.outcome import Outcome

WISH = Wish(
    estimate_usd_micros=600_000,
    ahead=Ahead(goodbye=10_000, soon=500_000, slice=700_000),
    max_cost_usd_micros=2_000_000,
)
CHEAP = replace(WISH, ahead=Ahead(goodbye=1, soon=2, slice=3))
DAY_ENDS_AT = 3_600.0


def budgets(cap: int = 5_000_000, spent: int = 0, held: int = 0, ends_at: float = DAY_ENDS_AT) -> tuple[Standing, ...]:
    """A budget with room for everything, and one like this."""
    of: dict[str, Any] = {"scope": Scope.TENANT, "name": "acme", "window": Window.DAY}
    rich, poor = (Budget(cap_usd_micros=usd_micros, **of) for usd_micros in (10**12, cap))
    return (
        Standing(Purse(rich, "acme", 0.0, DAY_ENDS_AT), 0, 0),
        Standing(Purse(poor, "acme", 0.0, ends_at), spent, held),
    )


LOAD = Load(
    draining=False,
    ceilings=(Ceiling(o.OVER_CAPACITY, 0, 8),),
    budgets=budgets(),
    at=0.0,
    priority_at=0.9,
)


def calls(number: int) -> tuple[Ceiling, ...]:
    """So many of eight slots are taken."""
    return (Ceiling(o.OVER_CAPACITY, number, 8),)


@pytest.mark.parametrize(
    ("wish", "load", "reserve"),
    [
        pytest.param(WISH, LOAD, 700_000, id="a slice and a goodbye"),
        pytest.param(
            replace(WISH, max_cost_usd_micros=500_000), LOAD, 500_000, id="the call's limit where it is lower"
        ),
        pytest.param(WISH, replace(LOAD, ceilings=calls(7)), 700_000, id="the last slot"),
        pytest.param(
            WISH, replace(LOAD, budgets=budgets(spent=3_600_000, held=300_000)), 700_000, id="the last dollar"
        ),
        pytest.param(CHEAP, replace(LOAD, budgets=budgets(spent=4_399_998)), 3, id="enough for what is worth it"),
    ],
)
def test_an_admission_reserves_the_first_slice(wish: Wish, load: Load, reserve: int) -> None:
    """The first slice is held, within the call's own limit."""
    assert decide(wish, load) == Admit(reserve_usd_micros=reserve)


@pytest.mark.parametrize(
    ("wish", "load", "kind", "outcome", "retry_after_s"),
    [
        pytest.param(WISH, replace(LOAD, draining=True), Refused, o.DRAINING, 30.0, id="draining"),
        pytest.param(WISH, replace(LOAD, ceilings=calls(8)), Wait, o.OVER_CAPACITY, 5.0, id="every slot taken"),
        pytest.param(
            replace(WISH, max_cost_usd_micros=499_999), LOAD, Refused, o.MAX_COST, None, id="a limit too low to speak"
        ),
        pytest.param(
            WISH, replace(LOAD, budgets=budgets(1_099_999)), Refused, o.OVER_BUDGET, None, id="never affordable"
        ),
        pytest.param(
            WISH, replace(LOAD, budgets=budgets(spent=3_900_001)), Refused, o.OVER_BUDGET, 3_600.0, id="a spent day"
        ),
        pytest.param(
            WISH,
            replace(LOAD, budgets=budgets(spent=3_900_001, ends_at=math.inf)),
            Refused,
            o.OVER_BUDGET,
            None,
            id="spent for ever",
        ),
        pytest.param(
            CHEAP, replace(LOAD, budgets=budgets(spent=4_399_999)), Refused, o.OVER_BUDGET, 3_600.0, id="not worth it"
        ),
        pytest.param(
            WISH, replace(LOAD, budgets=budgets(held=3_900_001)), Wait, o.OVER_BUDGET, 30.0, id="others hold the money"
        ),
        pytest.param(
            replace(WISH, max_cost_usd_micros=1),
            replace(LOAD, ceilings=calls(8)),
            Refused,
            o.MAX_COST,
            None,
            id="what can never be comes before what can't be now",
        ),
    ],
)
def test_whoever_is_turned_away_learns_why_and_when_to_come_back(
    wish: Wish, load: Load, kind: type[Wait | Refused], outcome: Outcome, retry_after_s: float | None
) -> None:
    """There is exactly one reason, and a time only where waiting helps."""
    said = decide(wish, load)
    assert isinstance(said, kind)
    assert said.outcome == outcome
    assert said.retry_after_s == retry_after_s
    if isinstance(said, Refused):
        assert said.detail.endswith(".")


@pytest.mark.parametrize(
    ("standings", "unimportant"),
    [
        (budgets(20_000_000, spent=17_999_999), Admit(reserve_usd_micros=700_000)),
        (
            budgets(20_000_000, spent=18_000_000),
            Refused(outcome=o.PRIORITY_ONLY, detail=o.WHY_NOT[o.PRIORITY_ONLY], retry_after_s=3_600.0),
        ),
        (budgets(20_000_000, spent=16_000_000, held=2_000_000), Wait(outcome=o.PRIORITY_ONLY, retry_after_s=30.0)),
    ],
)
def test_what_is_left_of_a_budget_is_for_important_calls(
    standings: tuple[Standing, ...], unimportant: Admit | Refused | Wait
) -> None:
    """From nine tenths on; what is only held may be free again soon."""
    load = replace(LOAD, budgets=standings)
    assert decide(WISH, load) == Admit(reserve_usd_micros=700_000)
    assert decide(replace(WISH, important=False), load) == unimportant


def test_nobody_is_dialled_while_the_model_does_not_serve() -> None:
    """Once everything else would allow it: what can never succeed, and what is full, is said first."""
    down = replace(LOAD, live_wait_s=7.5)
    assert decide(WISH, down) == Wait(outcome=o.LIVE_UNAVAILABLE, retry_after_s=7.5)
    full = decide(WISH, replace(down, ceilings=calls(8)))
    assert isinstance(full, Wait)
    assert full.outcome == o.OVER_CAPACITY
    assert isinstance(decide(WISH, replace(down, draining=True)), Refused)


@pytest.mark.parametrize(
    ("changes", "outcome", "retry_after_s"),
    [
        ({"blocked": True}, o.BLOCKED_NUMBER, None),
        ({"opens_in_s": 90.0}, o.OUTSIDE_HOURS, 90.0),
        ({"opens_in_s": None}, o.UNKNOWN_HOURS, None),
        ({"ceilings": (*calls(8), Ceiling(o.OVER_TENANT_CALLS, 0, 0))}, o.OVER_TENANT_CALLS, None),
    ],
)
def test_what_the_policy_forbids_is_refused(
    changes: dict[str, object], outcome: Outcome, retry_after_s: float | None
) -> None:
    """Whoever asks learns why, and when to come back where that helps. A limit of none is waited for by nobody."""
    said = decide(WISH, replace(LOAD, **changes))  # type: ignore[arg-type]
    assert said == Refused(outcome=outcome, detail=o.WHY_NOT[outcome], retry_after_s=retry_after_s)


def test_the_widest_limit_that_is_reached_is_the_reason() -> None:
    """Then the narrower ones, then the trunk's pace."""
    limits = (Ceiling(o.OVER_CAPACITY, 7, 8), Ceiling(o.OVER_CAMPAIGN_CALLS, 2, 2), Ceiling(o.OVER_TRUNK_CALLS, 5, 3))
    said = decide(WISH, replace(LOAD, ceilings=limits, trunk_wait_s=0.25))
    assert said == Wait(outcome=o.OVER_CAMPAIGN_CALLS, retry_after_s=5.0)
    said = decide(WISH, replace(LOAD, trunk_wait_s=0.25, live_wait_s=9.0))
    assert said == Wait(outcome=o.OVER_TRUNK_RATE, retry_after_s=0.25)


def test_what_can_never_be_is_looked_at_before_what_can_not_be_now() -> None:
    """Every check that only refuses stands before every check that only puts off."""
    kinds = [str(check.__annotations__["return"]) for check in CHECKS]
    last_refusal = max(place for place, kind in enumerate(kinds) if "Refused" in kind)
    assert all("Refused" in kind for kind in kinds[:last_refusal])
