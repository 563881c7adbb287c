"""Budgets at the desk: held slice by slice, kept over a restart, and never passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from cluster import outcome as o
from cluster.budget.audit import audit
from cluster.budget.policy import NO_POLICY, load_policy
from cluster.budget.prices import load_prices
from cluster.messages import Admitted, Refused, Verdict, Wait
from cluster.profiles import Profile
from tests.budget.fakes import call_request
from tests.budget.house import House, desk_rules, until

POLICY = """
budgets:
  - {tenant: acme, per: month, cap_usd: 1.5, time_zone: Europe/Berlin}
  - {campaign: "*", per: total, cap_usd: 0.2}
"""


@pytest.fixture
def rich(tmp_path: Path, engine: Engine, profiles: dict[str, Profile]) -> House:
    """A house with a policy, not open yet."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return House(engine, profiles, desk_rules(), policy=load_policy(path))


def shown(house: House, scope: str) -> dict[str, tuple[int, int, str]]:
    """What each budget of that kind has spent and holds, and its mode."""
    return {
        f"{budget['name']} {budget['window']}": (budget["spent_usd_micros"], budget["held_usd_micros"], budget["mode"])
        for budget in house.desk.budgets()
        if budget["scope"] == scope
    }


async def test_every_budget_of_a_call_pays_for_it_and_remembers(rich: House) -> None:
    """Held while it runs, spent when it has ended, and the same after a restart."""
    await rich.open()
    await rich.desk.admit(call_request(1, campaign="spring"))
    (held,) = {held for _, held, _ in shown(rich, "campaign").values()}
    assert 0 < held < 50_000
    assert shown(rich, "tenant") == {"acme day": (0, held, "open"), "acme month": (0, held, "open")}
    (await rich.serving()).end(cost_usd_micros=150_000)
    await until(lambda: rich.desk.statistics()["live_calls"] == 0)
    before = shown(rich, "campaign"), shown(rich, "tenant")
    assert before[0] == {"spring total": (150_000, 0, "concise")}
    await rich.desk.close()
    await rich.open(parked=None)
    assert (shown(rich, "campaign"), shown(rich, "tenant")) == before
    said = await rich.desk.admit(call_request(2, campaign="spring"))
    assert isinstance(said, Admitted)
    assert (await rich.serving("call-2")).assignment.concise
    assert not isinstance(await rich.desk.admit(call_request(3, campaign="autumn")), Refused)
    await rich.desk.close()


async def test_a_running_call_holds_a_slice_at_a_time_and_winds_down_when_the_next_does_not_fit(rich: House) -> None:
    """It may spend what is held and no more; the cap of its campaign is not passed by one micro-dollar."""
    await rich.open()
    await rich.desk.admit(call_request(1, campaign="spring", max_cost_usd_micros=1_000_000))
    actor = await rich.serving()
    cost, verdicts = 0, list[Verdict]()
    while Verdict.WIND_DOWN not in verdicts:
        cost += 9_000
        verdicts.append(await rich.renew(actor, cost, talk_s=10.0 * len(verdicts)))
        ((_, held, _),) = shown(rich, "campaign").values()
        assert cost < held <= 200_000
    assert set(verdicts) == {Verdict.CONTINUE, Verdict.CONCISE, Verdict.WIND_DOWN}
    assert cost > 100_000
    goodbye = held - cost
    actor.end(cost_usd_micros=cost + goodbye)
    await until(lambda: rich.desk.statistics()["live_calls"] == 0)
    ((spent, held, _),) = shown(rich, "campaign").values()
    assert (spent, held) == (cost + goodbye, 0)
    assert audit(rich.engine, load_prices()).problems == []
    said = await rich.desk.admit(call_request(2, campaign="spring"))
    assert isinstance(said, Refused)
    assert (said.outcome, said.retry_after_s) == (o.OVER_BUDGET, None)
    await rich.desk.close()


async def test_the_rest_of_a_budget_is_for_important_calls(engine: Engine, profiles: dict[str, Profile]) -> None:
    """From nine tenths on; the others learn when the next day begins."""
    house = House(engine, profiles, desk_rules(daily_budget_usd_micros=1_000_000), policy=NO_POLICY)
    await house.open()
    await house.desk.admit(call_request(1))
    (await house.serving()).end(cost_usd_micros=905_000)
    await until(lambda: house.desk.statistics()["live_calls"] == 0)
    said = await house.desk.admit(call_request(2, priority=4))
    assert isinstance(said, Refused)
    assert (said.outcome, said.retry_after_s) == (o.PRIORITY_ONLY, 43_200.0)
    assert isinstance(await house.desk.admit(call_request(3, priority=5)), Admitted)
    assert not isinstance(await house.desk.admit(call_request(4, tenant="zeta")), Wait | Refused)
    await house.desk.close()
