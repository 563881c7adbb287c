"""Admission, money and the pool of call actors, with an address: `cluster.budget.desk` as an actor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from actors import control_plane
from actors.ports import RayCallActors, RayHistory
from cluster.budget.desk import Desk
from cluster.budget.policy import NO_POLICY, Policy, load_policy
from cluster.budget.rules import desk_rules
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.reconciler import Reconciler
from cluster.dispatch.rooms import LivekitRooms
from cluster.keys import KeyRing, Principal
from cluster.logs import configure_logging
from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.storage import open_engine, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cluster.messages import Admission, CallRequest, Renewal, Verdict
    from cluster.settings import Settings


class BudgetPool:
    """The one that admits calls, holds their money and lends them actors; see `Desk` for what each method does."""

    def __init__(self, settings: Settings) -> None:
        """Everything is opened with the first message, since that takes longer than an actor should to be made."""
        configure_logging(settings)
        self._settings = settings
        self._opening = asyncio.Lock()
        self._opened: tuple[Desk, KeyRing] | None = None
        self._close = AsyncExitStack()

    async def admit(self, request: CallRequest) -> Admission:
        """Decide on a request; the same one again gets the same admission."""
        return await (await self._desk()).admit(request)

    async def renew(self, renewal: Renewal) -> Verdict:
        """A call's heartbeat."""
        return await (await self._desk()).renew(renewal)

    async def hangup(self, call_id: str) -> bool:
        """End a live call, or take one from the queue; False where there is none."""
        return await (await self._desk()).hangup(call_id)

    async def live_calls(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The live calls of a tenant, or of all, with masked numbers."""
        return (await self._desk()).live_calls(tenant)

    async def queue(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The calls of a tenant, or of all, that wait to start, with masked numbers."""
        return (await self._desk()).queue(tenant)

    async def statistics(self) -> dict[str, Any]:
        """How things stand, as plain numbers."""
        return (await self._desk()).statistics()

    async def capacity(self) -> int:
        """How many more calls could start now."""
        return (await self._desk()).capacity()

    async def drain(self, on: bool) -> None:  # noqa: FBT001 - an actor's method
        """Take no new calls from now on, or take them again."""
        (await self._desk()).drain(on=on)

    async def authenticate(self, key_sha256_hex: str) -> Principal | None:
        """Whose API key this is."""
        _, keys = await self._open()
        return await asyncio.to_thread(keys.authenticate, key_sha256_hex, time.monotonic())

    async def _desk(self) -> Desk:
        return (await self._open())[0]

    async def _open(self) -> tuple[Desk, KeyRing]:
        async with self._opening:
            if self._opened is None:
                engine, profiles, policy = await asyncio.to_thread(self._read)
                async with AsyncExitStack() as opened:
                    livekit = self._settings.livekit
                    rooms = LivekitRooms(livekit.url, livekit.api_key, livekit.api_secret.get_secret_value())
                    opened.push_async_callback(rooms.close)
                    desk = Desk(
                        rules=desk_rules(self._settings, profiles),
                        profiles=profiles,
                        engine=engine,
                        actors=RayCallActors(self._settings),
                        history=RayHistory(),
                        close_room=rooms.delete,
                        policy=policy,
                    )
                    opened.push_async_callback(desk.close)
                    await desk.open()
                    reconciler = self._reconciler(desk, rooms, frozenset(profiles))
                    opened.push_async_callback(reconciler.close)
                    reconciler.start()
                    self._close = opened.pop_all()
                self._opened = desk, KeyRing(engine)
            return self._opened

    def _reconciler(self, desk: Desk, rooms: LivekitRooms, profiles: frozenset[str]) -> Reconciler:
        dispatch = self._settings.dispatch
        inbound = Inbound(
            self, control_plane.history(), rooms, default_profile=dispatch.default_profile, profiles=profiles
        )
        return Reconciler(desk, rooms, inbound, room_prefix=dispatch.room_prefix, agent_name=dispatch.agent_name)

    def _read(self) -> tuple[Engine, Mapping[str, Profile], Policy]:
        engine = open_engine(self._settings.database_url, fsync=True)
        upgrade(engine)
        file = self._settings.policy_file
        policy = NO_POLICY if file is None else load_policy(file)
        return engine, load_profiles(self._settings.profiles_dir, load_models()), policy
