"""The parts, put together from settings as a replica does it."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from livekit import api

from cluster.dispatch import wiring as w
from cluster.dispatch.api import build_api
from cluster.local.livekit_server import LivekitServer
from cluster.settings import Settings, load_settings
from tests.dispatch.doubles import KEY, HistoryPort, PoolDouble


def settings_for(url: str, key: str = "APIkey", secret: str = "s" * 32, **more: str) -> Settings:
    """Settings for a LiveKit server."""
    livekit = {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret, "GEMINI_API_KEY": "x"}
    return load_settings(livekit | more)


@pytest.mark.parametrize(("trunk", "status"), [({}, 503), ({"RINGMASTER_OUTBOUND_TRUNK_ID": "ST_1"}, 202)])
async def test_the_http_api_from_settings(
    pool: PoolDouble, history: HistoryPort, trunk: dict[str, str], status: int
) -> None:
    """It knows the shipped profiles, its own version, whether it may dial; and closes with the application."""
    app = build_api(w.open_front(settings_for("ws://127.0.0.1:1", **trunk), pool, history))
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://ringmaster") as client,
    ):
        client.headers["Authorization"] = f"Bearer {KEY}"
        response = await client.post("/v1/calls", json={"to": "+15551230001", "profile": "receptionist"})
        assert response.status_code == status
        assert (await client.post("/livekit/webhook", content=b"{}")).status_code == 401
        assert "ringmaster_draining" in (await client.get("/metrics")).text


async def test_a_receptionist_from_settings(
    livekit: LivekitServer, admin: api.LiveKitAPI, pool: PoolDouble, history: HistoryPort
) -> None:
    """It takes calls for the agent that the settings name, with the default profile, until it is closed."""
    settings = settings_for(livekit.url, livekit.api_key, livekit.api_secret, RINGMASTER_AGENT_NAME="my-agent")
    office = w.Office(settings, pool, history)
    async with asyncio.timeout(10):
        await office.receptionist.registered.wait()
        office.check()
        await admin.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(agent_name="my-agent", room="room-1"))
        while not office.statistics()["admitted"]:  # noqa: ASYNC110 what is waited for is on the other side of a socket
            await asyncio.sleep(0.01)
    assert pool.asked[0].profile == "receptionist"
    await office.close()
    with pytest.raises(RuntimeError, match="has to be replaced"):
        office.check()
