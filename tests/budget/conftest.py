"""A real database for the tests of admission."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.budget.house import House


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite file at the newest migration."""
    engine = open_engine(f"sqlite:///{tmp_path}/test.db")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def profiles() -> dict[str, Profile]:
    """The shipped ones."""
    return load_profiles(EXAMPLES, load_models())


@pytest.fixture
async def house(engine: Engine, profiles: dict[str, Profile]) -> AsyncIterator[House]:
    """An open desk with two parked actors."""
    house = House(engine, profiles)
    await house.open()
    yield house
    await house.desk.close()
