"""How the parts of dispatch are put together from the settings: once for each kind of Serve replica."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from livekit import api

from cluster import __version__
from cluster.dispatch.access import Doorkeeper
from cluster.dispatch.api import Front
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import History, Pool
from cluster.dispatch.receptionist import Post, Receptionist
from cluster.dispatch.rooms import LivekitRooms, open_rooms
from cluster.dispatch.webhook import Webhooks
from cluster.metrics import render
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.tasks import TaskSet

if TYPE_CHECKING:
    from cluster.settings import Settings


def open_front(settings: Settings, pool: Pool, history: History) -> Front:
    """What the HTTP routes work with; its `close` ends what is under way. To be called where a loop runs."""
    livekit = settings.livekit
    rooms = open_rooms(livekit)
    errands = TaskSet()
    profiles = _profiles(settings)
    webhooks = Webhooks(
        api.TokenVerifier(livekit.api_key, livekit.api_secret.get_secret_value()),
        history,
        rooms,
        _inbound(settings, pool, history, rooms, frozenset(profiles)),
        errands,
        agent_name=settings.dispatch.agent_name,
    )

    async def close() -> None:
        await errands.close()
        await rooms.close()

    return Front(
        pool=pool,
        history=history,
        webhooks=webhooks,
        doorkeeper=Doorkeeper(pool),
        profiles=profiles,
        room_prefix=settings.dispatch.room_prefix,
        can_dial=settings.dispatch.outbound_trunk_id is not None,
        version=__version__,
        metrics=render,
        close=close,
    )


class Office:
    """A receptionist at work. To be made where a loop runs."""

    def __init__(self, settings: Settings, pool: Pool, history: History) -> None:
        self._rooms = open_rooms(settings.livekit)
        inbound = _inbound(settings, pool, history, self._rooms, frozenset(_profiles(settings)))
        self.receptionist = Receptionist(_post(settings), inbound, pool)
        self._running = asyncio.get_running_loop().create_task(self.receptionist.run(), name="receptionist")

    def check(self) -> None:
        """Raise `RuntimeError` if the receptionist no longer works, which only a bug can bring about."""
        if self._running.done():
            raise RuntimeError("the receptionist has stopped working; this replica has to be replaced")

    def statistics(self) -> Mapping[str, Any]:
        """What it holds now."""
        return self.receptionist.statistics()

    async def close(self) -> None:
        """Take no more offers, give those under way their answer, and stop."""
        await self.receptionist.close()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._rooms.close()


def _profiles(settings: Settings) -> dict[str, frozenset[str]]:
    """The installed profiles and their variables."""
    found = load_profiles(settings.profiles_dir, load_models())
    return {name: profile.variables for name, profile in found.items()}


def _inbound(
    settings: Settings, pool: Pool, history: History, rooms: LivekitRooms, profiles: frozenset[str]
) -> Inbound:
    return Inbound(pool, history, rooms, default_profile=settings.dispatch.default_profile, profiles=profiles)


def _post(settings: Settings) -> Post:
    livekit = settings.livekit

    def token() -> str:
        grants = api.VideoGrants(agent=True)
        return api.AccessToken(livekit.api_key, livekit.api_secret.get_secret_value()).with_grants(grants).to_jwt()

    return Post(
        url=livekit.url,
        token=token,
        agent_name=settings.dispatch.agent_name,
        version=__version__,
        capacity=settings.pool.max_calls,
    )
