"""`BudgetPool` put together. Apart from its class, which Ray imports in every process that holds the actor's handle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from actors import control_plane
from actors.ports import RayCallActors, RayNodes, farewell
from cluster.budget.desk import Desk
from cluster.budget.policies import read_policy
from cluster.budget.policy import Policy
from cluster.budget.rules import desk_rules
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.reconciler import Reconciler
from cluster.dispatch.rooms import LivekitRooms, open_rooms
from cluster.keys import KeyRing
from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.storage import open_engine, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cluster.settings import Settings


async def open_desk(settings: Settings, scope: AsyncExitStack) -> tuple[Desk, KeyRing]:
    """The open desk and the API keys, on the database at its newest migration; `scope` closes them.

    Raises `SettingsError`, `ProfileError` or `PriceError` for what is configured wrong.
    """
    engine, profiles, (policy, policy_file_sha256) = await asyncio.to_thread(_read, settings)
    rooms = open_rooms(settings.livekit)
    scope.push_async_callback(rooms.close)
    desk = Desk(
        rules=desk_rules(settings, profiles),
        profiles=profiles,
        engine=engine,
        actors=RayCallActors(settings),
        nodes=RayNodes(),
        history=control_plane.history(),
        farewell=partial(farewell, settings),
        close_room=rooms.delete,
        policy=policy,
        policy_file_sha256=policy_file_sha256,
    )
    scope.push_async_callback(desk.close)
    await desk.open()
    reconciler = _reconciler(settings, desk, rooms, frozenset(profiles))
    scope.push_async_callback(reconciler.close)
    reconciler.start()
    return desk, KeyRing(engine)


def _reconciler(settings: Settings, desk: Desk, rooms: LivekitRooms, profiles: frozenset[str]) -> Reconciler:
    dispatch = settings.dispatch
    # It asks as anybody does, since an admission may take as long as a caller is willing to wait.
    inbound = Inbound(
        control_plane.pool(),
        control_plane.history(),
        rooms,
        default_profile=dispatch.default_profile,
        profiles=profiles,
    )
    return Reconciler(desk.occupancy, rooms, inbound, room_prefix=dispatch.room_prefix, agent_name=dispatch.agent_name)


def _read(settings: Settings) -> tuple[Engine, Mapping[str, Profile], tuple[Policy, str]]:
    engine = open_engine(settings.database_url, fsync=True)
    upgrade(engine)
    policy = read_policy(engine, settings.policy_file, time.time())
    return engine, load_profiles(settings.profiles_dir, load_models()), policy
