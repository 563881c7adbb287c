"""The dashboard served over real HTTP, with a scripted `BudgetPool` and a real history behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from cluster.dashboard.pages import add_dashboard
from cluster.dispatch.api import Front, build_api
from tests.dispatch.doubles import HistoryPort, PoolDouble
from tests.records.examples import START, a_request, an_event

SECRET = "the secret that all replicas share"


def build_site(front: Front) -> FastAPI:
    """The application as `serve_app` builds it."""
    app = build_api(front)
    add_dashboard(app, front, SECRET, actor_url)
    return app


async def actor_url(slot: str) -> str | None:
    """Every slot but one has an actor."""
    return None if slot == "call-slot-gone" else f"http://ray/#/actors/id-of-{slot}"


@dataclass(frozen=True)
class House:
    """What stands behind the pages, for a test to move."""

    pool: PoolDouble
    history: HistoryPort

    async def begin(self, call_id: str, **changes: Any) -> None:
        """A call is admitted and answered."""
        request = a_request(call_id, **changes)
        await self.pool.admit(request)
        self.pool.live[call_id]["started_at"] = START
        await self.history.history.begin(request, START)
        await self.tell(an_event("actor", 0.0, call_id, slot="call-slot-1", node="0123456789abcdef"))
        await self.tell(an_event("leg", 0.4, call_id, state="answered"))

    async def tell(self, *events: Any) -> None:
        """Something happens in calls."""
        await self.history.history.append(list(events))

    async def say(self, call_id: str, who: str, text: str, at_s: float = 2.0) -> None:
        """Somebody says a whole line."""
        await self.tell(an_event("line", at_s, call_id, who=who, text=text, heard=True))


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve the application on a port of its own; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
