"""The parts of dispatch, put together around a real history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit import api

from cluster.dispatch.inbound import Inbound
from cluster.local.livekit_server import LivekitServer, ensure_binary
from cluster.records.history import History
from cluster.records.store import RecordStore
from cluster.storage import open_engine, upgrade
from tests.dispatch.doubles import HistoryPort, PoolDouble, RoomsDouble

PROFILES = frozenset({"receptionist", "reminder"})


@pytest.fixture
def pool() -> PoolDouble:
    """A pool that admits everything."""
    return PoolDouble()


@pytest.fixture
def rooms() -> RoomsDouble:
    """No rooms yet."""
    return RoomsDouble()


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[HistoryPort]:
    """A real history in a database of this test's own."""
    engine = open_engine(f"sqlite:///{tmp_path}/ringmaster.db")
    upgrade(engine)
    history = History(RecordStore(engine))
    yield HistoryPort(history)
    await history.close()
    engine.dispose()


@pytest.fixture
def inbound(pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble) -> Inbound:
    """Whoever takes inbound calls."""
    return Inbound(pool, history, rooms, default_profile="receptionist", profiles=PROFILES)


@pytest.fixture(scope="session")
def livekit_binary() -> Path:
    """The livekit-server binary."""
    return ensure_binary(print)


@pytest.fixture
async def livekit(livekit_binary: Path) -> AsyncIterator[LivekitServer]:
    """A real livekit-server of this test's own."""
    async with LivekitServer(livekit_binary) as server:
        yield server


@pytest.fixture
async def admin(livekit: LivekitServer) -> AsyncIterator[api.LiveKitAPI]:
    """A client for its server APIs."""
    async with api.LiveKitAPI(livekit.url, livekit.api_key, livekit.api_secret) as admin:
        yield admin
