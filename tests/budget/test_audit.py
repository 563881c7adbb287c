"""The ledger in a real database: written with the leases, and examined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, Table, delete, insert, update

from cluster.budget.audit import audit
from cluster.budget.calls import request_to_json
from cluster.budget.prices import load_prices
from cluster.budget.rows import load
from cluster.budget.tables import leases, ledger
from cluster.messages import Admitted
from cluster.outcome import BUSY
from cluster.storage import open_engine, upgrade
from tests.budget.fakes import call_request
from tests.budget.house import House, until


async def test_every_call_is_in_the_ledger_from_its_admission_to_its_end(house: House) -> None:
    """Renewed, settled, released and still running: the examination finds nothing, whenever it is made."""
    for number in (1, 2, 3):
        assert isinstance(await house.desk.admit(call_request(number)), Admitted)
    assert audit(house.engine, load_prices()).problems == []
    settled, busy, running = [await house.serving(f"call-{number}") for number in (1, 2, 3)]
    await house.renew(settled, 700_000, talk_s=300.0)
    await house.renew(settled, 800_000, talk_s=301.0)
    await house.renew(running, 12_345)
    settled.end(cost_usd_micros=850_001)
    busy.end(BUSY, cost_usd_micros=0)
    await until(lambda: house.desk.statistics()["live_calls"] == 1)
    found = audit(house.engine, load_prices())
    assert (found.leases, found.problems) == (3, [])
    assert found.entries > 5
    assert found.debits_usd_micros == found.credits_usd_micros > 850_001


async def test_what_somebody_changed_by_hand_is_found(house: House) -> None:
    """A cost, a line, a lease, and a line too many."""
    for number in (1, 2, 3):
        await house.desk.admit(call_request(number))
        (await house.serving(f"call-{number}")).end(cost_usd_micros=5_000)
    await until(lambda: house.desk.statistics()["live_calls"] == 0)
    first, second, third = sorted(row["lease_id"] for row in house.rows())
    with house.engine.begin() as connection:
        connection.execute(update(leases).where(leases.c.lease_id == first).values(cost_usd_micros=1))
        connection.execute(delete(ledger).where(ledger.c.lease_id == second, ledger.c.account == "spent:model"))
        connection.execute(delete(leases).where(leases.c.lease_id == third))
        stray = {"lease_id": "lease-", "number": 1, "account": "tenant:acme", "kind": "reserve", "usd_micros": 1}
        connection.execute(insert(ledger).values(at=0.0, **stray))
    problems = "\n".join(audit(house.engine, load_prices()).problems)
    assert f"{first}: tenant:acme has -5000 of it; expected -1" in problems
    assert f"{second}: entry 2 (settle) does not add up to nothing" in problems
    assert f"{third}: has entries, but there is no such lease" in problems
    assert "lease-: has entries, but there is no such lease" in problems


async def test_the_money_of_a_dead_process_is_what_its_last_heartbeat_said(house: House) -> None:
    """Also where the desk itself was started again in between."""
    await house.desk.admit(call_request())
    actor = await house.serving()
    await house.renew(actor, 4_321)
    await house.desk.close()
    await house.open(parked=None)
    house.nobody_is_left()
    actor.die()
    await until(lambda: house.desk.statistics()["live_calls"] == 0)
    assert [row["cost_usd_micros"] for row in house.rows()] == [4_321]
    assert audit(house.engine, load_prices()).problems == []


def test_calls_that_run_while_the_ledger_is_introduced_are_entered(tmp_path: Path) -> None:
    """With what is held for them; those that had ended keep their cost, and are not examined."""
    engine = open_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "cluster:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        before = Table("leases", MetaData(), autoload_with=connection)
        old: dict[str, Any] = {"tenant": "acme", "day": "2026-11-24", "slot": "s", "fencing_token": 1, "state": "held"}
        old |= {"max_cost_usd_micros": 900, "reserved_usd_micros": 500, "cost_usd_micros": 20, "granted_at": 1.0}
        request = request_to_json(call_request())
        connection.execute(insert(before).values(lease_id="open", call_id="call-1", request=request, **old))
        connection.execute(insert(before).values(lease_id="over", call_id="call-2", ended_at=2.0, **old))
    upgrade(engine)
    found = audit(engine, load_prices())
    assert (found.leases, found.entries, found.problems) == (1, 1, [])
    row = load(engine, 0.0).open[0].lease
    assert (row.cost_usd_micros, row.profile, row.entries) == (20, "receptionist", 1)
    engine.dispose()
