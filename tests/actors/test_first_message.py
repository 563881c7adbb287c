"""Control actors that nobody speaks to, on a real Ray: what they look after does not wait until somebody asks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from actors import names
from actors.budget_pool import BudgetPool
from actors.records import Records
from cluster.budget.tables import journals
from cluster.settings import Settings, load_settings
from cluster.storage import open_engine
from tests.e2e.conftest import budget_pool_process, is_down, until
from tests.test_settings import REQUIRED


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Of a cluster of its own, with no call actor parked."""
    database = {"DATABASE_URL": f"sqlite:///{tmp_path / 'own.db'}", "RINGMASTER_PARKED": "receptionist=0"}
    found = load_settings(
        REQUIRED | database | {"RINGMASTER_RAY_DASHBOARD": "false", "LIVEKIT_URL": "ws://127.0.0.1:9"}
    )
    names.connect(found)
    try:
        yield found
    finally:
        names.kill_all()
        ray.shutdown()


def writers(engine: Engine) -> list[str]:
    """The processes that have the journals now; none before there is a table."""
    with engine.connect() as connection:
        try:
            return list(connection.scalars(select(journals.c.writer)))
        except OperationalError:
            return []


def test_budget_pool_takes_its_calls_over_by_itself_also_after_its_death(settings: Settings) -> None:
    """Those whose process died with it have nobody who would speak to it."""
    names._control(BudgetPool, names.BUDGET_POOL, settings)
    engine = open_engine(settings.database_url)
    (first,) = until(lambda: writers(engine))
    os.kill(budget_pool_process(), signal.SIGKILL)
    until(lambda: writers(engine) != [first])


def test_budget_pool_goes_on_by_itself_when_its_database_is_back(settings: Settings, tmp_path: Path) -> None:
    """It came up without, and whoever asked then may not ask again."""
    (tmp_path / "own.db.lock").mkdir()
    names._control(BudgetPool, names.BUDGET_POOL, settings)
    until(lambda: is_down(names.budget_pool().capacity))
    (tmp_path / "own.db.lock").rmdir()
    until(lambda: (tmp_path / "own.db").exists() and writers(open_engine(settings.database_url)))


def test_records_opens_its_database_by_itself(settings: Settings, tmp_path: Path) -> None:
    """It takes longer than the first caller should have to wait."""
    names._control(Records, names.RECORDS, settings)
    until((tmp_path / "own.db").exists)
