"""The dashboard with a house behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from cluster.dispatch.inbound import Inbound
from tests.dashboard.site import House, build_site
from tests.dispatch.conftest import history, inbound, pool, rooms
from tests.dispatch.doubles import KEY, HistoryPort, PoolDouble, RoomsDouble
from tests.dispatch.test_api import make_front

__all__ = ["history", "inbound", "pool", "rooms"]
ORIGIN = "http://ringmaster"


@pytest.fixture
def house(pool: PoolDouble, history: HistoryPort) -> House:
    """What stands behind the pages."""
    return House(pool, history)


@pytest.fixture
def site(house: House, rooms: RoomsDouble, inbound: Inbound) -> FastAPI:
    """The application."""
    return build_site(make_front(house.pool, house.history, rooms, inbound))


@pytest.fixture
async def stranger(site: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser, as far as headers and cookies go, that is not logged in."""
    transport = httpx2.ASGITransport(site, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN}) as client:
        yield client


@pytest.fixture
async def browser(stranger: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The same, logged in with a key that may make calls."""
    answer = await stranger.post("/login", content=f"key={KEY}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return stranger
