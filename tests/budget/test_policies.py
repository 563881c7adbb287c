"""A policy that is applied while calls run, and which one holds after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from cluster import outcome as o
from cluster.budget.journal import JournalError
from cluster.budget.policies import applied, read_policy
from cluster.budget.policy import NO_POLICY, Policy
from cluster.errors import PolicyError
from cluster.messages import Admitted, Queued, Refused
from tests.budget.fakes import call_request
from tests.budget.house import House, until


def policy_of(**fields: Any) -> Policy:
    """A policy."""
    return Policy.model_validate(fields)


def budget(cap_usd: float, **more: Any) -> dict[str, Any]:
    """Of tenant acme, in total."""
    return {"tenant": "acme", "cap_usd": cap_usd, **more}


async def test_a_policy_holds_from_the_moment_it_is_applied(house: House) -> None:
    """New calls meet it, those that wait are looked at again, those that run go on."""
    await house.desk.adopt(policy_of(tenants={"acme": {"max_calls": 1}}))
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    assert isinstance(await house.desk.admit(call_request(2)), Queued)
    await house.desk.adopt(policy_of(tenants={"acme": {"max_calls": 2}}, blocked_prefixes=["+49"]))
    await house.serving("call-2")
    said = await house.desk.admit(call_request(3, to="+4930123456"))
    assert isinstance(said, Refused)
    assert said.outcome == o.BLOCKED_NUMBER
    assert house.desk.limits.policy.tenant("acme").max_calls == 2
    assert len(house.desk.live_calls()) == 2


async def test_a_new_budget_counts_what_was_spent_and_what_is_held(house: House) -> None:
    """Of calls that ended before it was there, and of those that run; what they hold is given back to it."""
    await house.desk.admit(call_request(1))
    actor = await house.serving("call-1")
    await house.renew(actor, 30_000)
    actor.end(cost_usd_micros=40_000)
    await until(lambda: not house.desk.live_calls())
    await house.desk.admit(call_request(2))
    running = await house.serving("call-2")
    [held] = [call["reserved_usd_micros"] for call in house.desk.live_calls()]
    await house.desk.adopt(policy_of(budgets=[budget(5)]))
    [total] = [one for one in house.desk.budgets() if one["window"] == "total"]
    spent = total["spent_usd_micros"]
    assert spent >= 40_000
    assert total["held_usd_micros"] == held
    running.end(cost_usd_micros=1_000)
    await until(lambda: not house.desk.live_calls())
    [total] = [one for one in house.desk.budgets() if one["window"] == "total"]
    assert total["held_usd_micros"] == 0
    assert spent < total["spent_usd_micros"] <= spent + held


async def test_a_lower_cap_holds_at_once(house: House) -> None:
    """The day's budget in the settings is replaced by the policy's, with what was spent of it."""
    await house.desk.admit(call_request(1))
    await house.serving("call-1")
    await house.desk.adopt(policy_of(budgets=[budget(0.000001, per="day")]))
    said = await house.desk.admit(call_request(2))
    assert isinstance(said, Refused)
    assert said.outcome == o.OVER_BUDGET


async def test_what_is_spent_is_read_when_no_end_is_being_written(house: House) -> None:
    """A call whose end is on its way into the database would be counted twice, or not at all."""
    await house.desk.admit(call_request(1))
    actor = await house.serving("call-1")
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE leases RENAME TO away"))
    actor.end(cost_usd_micros=40_000)
    await until(lambda: house.desk.live_calls()[0]["state"] == "ending")
    adopting = asyncio.create_task(house.desk.adopt(policy_of(budgets=[budget(5)])))
    await asyncio.sleep(0.05)
    assert not adopting.done()
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO leases"))
    await adopting
    [total] = [one for one in house.desk.budgets() if one["window"] == "total"]
    with house.engine.connect() as connection:
        assert total["spent_usd_micros"] == connection.execute(text("SELECT sum(cost_usd_micros) FROM leases")).scalar()


async def test_a_policy_that_can_not_be_kept_does_not_hold(house: House) -> None:
    """It would be gone with the next restart."""
    with house.engine.begin() as connection:
        connection.execute(text("ALTER TABLE policies RENAME TO away"))
    with pytest.raises(JournalError):
        await house.desk.adopt(policy_of(inbound_reserve=1))
    assert house.desk.limits.policy == NO_POLICY


def test_what_was_applied_holds_until_the_file_changes(engine: Engine, tmp_path: Path) -> None:
    """Over restarts; a file that becomes wrong changes nothing, and one that is gone is no policy."""
    file = tmp_path / "policy.yaml"
    file.write_text("inbound_reserve: 1")
    policy, digest = read_policy(engine, file, 1.0)
    assert policy.inbound_reserve == 1
    with engine.begin() as connection:
        connection.execute(*applied(policy_of(inbound_reserve=2), digest, 2.0))
    assert read_policy(engine, file, 3.0) == (policy_of(inbound_reserve=2), digest)
    file.write_text("inbound_reserve: many")
    assert read_policy(engine, file, 4.0)[0].inbound_reserve == 2
    file.write_text("inbound_reserve: 3")
    assert read_policy(engine, file, 5.0)[0].inbound_reserve == 3
    assert read_policy(engine, None, 6.0)[0] == NO_POLICY


def test_a_first_file_that_is_wrong_is_an_error(engine: Engine, tmp_path: Path) -> None:
    """There is nothing to go on with."""
    file = tmp_path / "policy.yaml"
    file.write_text("inbound_reserve: many")
    with pytest.raises(PolicyError, match="inbound_reserve"):
        read_policy(engine, file, 1.0)
    with pytest.raises(PolicyError, match="can't be read"):
        read_policy(engine, tmp_path / "away.yaml", 1.0)


async def test_a_restart_keeps_what_was_applied(house: House) -> None:
    """The policy is read from where it was written."""
    await house.desk.adopt(policy_of(queue={"size": 7}))
    await house.desk.close()
    house.policy, _ = read_policy(house.engine, None, house.clock.utc())
    await house.open(parked=None)
    assert house.desk.limits.policy.queue.size == 7
