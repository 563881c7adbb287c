"""The Serve application: `serve run serve_app:app`, `serve deploy`, or `ringmaster up`.

`Frontdoor` is the HTTP API and the dashboard, whose routes are in `cluster.dispatch.api` and `cluster.dashboard.pages`;
`Receptionist` has no route, it holds a connection to LiveKit. Both are light and own nothing, so two of each are enough
and any of them may go at any time.
Settings are read in the replica: this module may be imported where there are none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ray import serve

from actors import control_plane, names
from actors.exporter import Exporter
from cluster.dashboard.pages import add_dashboard
from cluster.dispatch.api import build_api
from cluster.dispatch.wiring import Office, open_front
from cluster.logs import configure_logging
from cluster.settings import Settings, load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

REPLICAS: Final = 2
REQUESTS: Final = 1000
"""Of one replica at once; most of them are people who watch a call, and cost next to nothing."""
LAST_WORDS_S: Final = 10.0
LIGHT: Final = {"num_cpus": 0, "label_selector": names.OFF_CALL_NODES}
"""A replica takes next to nothing, but on a call node it would keep the node from ever being given back."""


async def _ready() -> Settings:
    """The replica's settings, once the control actors are there."""
    settings = load_settings()
    configure_logging(settings)
    await asyncio.to_thread(names.ensure_control_plane, settings)
    return settings


async def _no_statistics() -> dict[str, Any]:
    """A replica counts nothing; that its loop is in time is all that there is to tell of it."""
    return {}


@serve.deployment(num_replicas=REPLICAS, ray_actor_options=LIGHT, graceful_shutdown_timeout_s=LAST_WORDS_S)
class Receptionist:
    """One worker of LiveKit's."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        """Registers in the background, for as long as it takes."""
        self._office = Office(await _ready(), control_plane.pool(), control_plane.history())

    def check_health(self) -> None:
        """Serve replaces a replica whose check raises."""
        self._office.check()

    def statistics(self) -> Any:
        """What this replica holds now."""
        return self._office.statistics()

    async def __del__(self) -> None:
        """Serve awaits this before it ends the replica."""
        await self._office.close()


@serve.deployment(num_replicas=REPLICAS, max_ongoing_requests=REQUESTS, ray_actor_options=LIGHT)
@serve.ingress()
class Frontdoor:
    """The HTTP API and the dashboard."""

    async def __init__(self, _receptionist: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        """The receptionists are bound here so that they are deployed; nobody needs to call them."""
        settings = await _ready()
        self._front = open_front(settings, control_plane.pool(), control_plane.history())
        self._settings = settings
        self._exporting = asyncio.create_task(Exporter("frontdoor", _no_statistics).run_for_ever(), name="metrics")

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve asks for the application after `__init__`."""
        api = build_api(self._front)
        secret = self._settings.livekit.api_secret.get_secret_value()
        add_dashboard(api, self._front, secret, self._actor_url)
        return api

    async def _actor_url(self, slot: str) -> str | None:
        """Where Ray's dashboard shows a call actor."""
        actor_id = await asyncio.to_thread(names.actor_id, slot)
        return actor_id and f"{self._settings.ray.dashboard_url}/#/actors/{actor_id}"


app = Frontdoor.bind(Receptionist.bind())  # type: ignore[attr-defined]  # the decorators make deployments of them
