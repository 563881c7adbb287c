"""A real database for the tests of admission."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine

from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.settings import EXAMPLES
from tests.budget.house import House


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
