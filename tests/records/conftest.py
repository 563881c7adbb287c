"""A database as it is after its migrations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cluster.records.store import RecordStore
from cluster.storage import open_engine, upgrade


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite database of this test's own."""
    engine = open_engine(f"sqlite:///{tmp_path}/ringmaster.db")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> RecordStore:
    """The history in it."""
    return RecordStore(engine)
