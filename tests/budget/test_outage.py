"""A database that is away for a while: nothing is promised that is not stored, and no call suffers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine

from cluster.budget.audit import audit
from cluster.budget.doorway import DATABASE_UNAVAILABLE
from cluster.budget.prices import load_prices
from cluster.messages import Admitted, Verdict, Wait
from cluster.profiles import Profile
from tests.budget.fakes import call_request
from tests.budget.house import House, until
from tests.fixtures.databases import Postgres


@pytest.fixture
async def house(outage_engine: Engine, profiles: dict[str, Profile]) -> AsyncIterator[House]:
    """An open desk on a PostgreSQL that a test may stop."""
    house = House(outage_engine, profiles)
    await house.open()
    yield house
    await house.desk.close()


async def test_calls_outlive_an_outage_of_the_database(house: House, own_postgres: Postgres) -> None:
    """They renew and end as ever; the ends are written, and the records told, when the database is back."""
    await house.desk.admit(call_request(1))
    await house.desk.admit(call_request(2))
    talks, ends = await house.serving("call-1"), await house.serving("call-2")
    await asyncio.to_thread(own_postgres.stop)
    assert await house.renew(talks, 200_000) is Verdict.CONTINUE
    assert await house.renew(ends, 3_000) is Verdict.CONTINUE
    ends.end(cost_usd_micros=4_000)
    said = await house.desk.admit(call_request(3))
    assert isinstance(said, Wait)
    assert said.outcome == DATABASE_UNAVAILABLE
    assert "call-2" not in house.history.finished
    await asyncio.to_thread(own_postgres.start)
    await until(lambda: "call-2" in house.history.finished)
    assert await house.renew(talks, 300_000) is Verdict.CONTINUE
    talks.end(cost_usd_micros=350_000)
    await until(lambda: "call-1" in house.history.finished)
    assert house.desk.statistics()["spent_usd_micros"] == {"acme": 354_000}
    assert isinstance(await house.desk.admit(call_request(3)), Admitted)
    assert audit(house.engine, load_prices()).problems == []


async def test_who_is_refused_in_an_outage_left_nothing(house: House, own_postgres: Postgres) -> None:
    """Neither in memory nor, when it is back, in the database: the same request is a new one."""
    await asyncio.to_thread(own_postgres.stop)
    assert isinstance(await house.desk.admit(call_request(1)), Wait)
    assert house.desk.capacity() == 4
    await asyncio.to_thread(own_postgres.start)
    assert isinstance(await house.desk.admit(call_request(1)), Admitted)
    assert len(house.rows()) == 1


async def test_what_is_asked_while_the_database_goes_is_admitted_once(house: House, own_postgres: Postgres) -> None:
    """Whether it was stored before, waits for the database, or is asked again: each has one lease."""
    asked = [asyncio.create_task(house.desk.admit(call_request(number))) for number in range(1, 4)]
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start)
    for number, said in enumerate(await asyncio.gather(*asked), 1):
        again = said if isinstance(said, Admitted) else await house.desk.admit(call_request(number))
        assert isinstance(again, Admitted)
    assert len(house.rows()) == 3
