"""The history in a database."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from cluster.records.store import RecordStore


@pytest.fixture
def store(engine: Engine) -> RecordStore:
    """The history in it."""
    return RecordStore(engine)
