"""A process that serves one call at a time: what it keeps ready, and the Live session that waits in it.

A warm Live session is a socket of this process and can't be handed to another one, so the pool lends the process. A
session that has carried anything of a caller is closed after the call; one that has not (busy, no answer) waits on.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from livekit import rtc

from cluster import outcome as o
from cluster.call import engine
from cluster.call.call import PhoneCall
from cluster.call.equipment import Equipment, Upstream
from cluster.call.faults import diagnose
from cluster.call.live import LiveSession, LiveUnavailable, make_client, open_session, rehearse
from cluster.call.live_link import Opener
from cluster.call.memory import give_back, memory_mb
from cluster.call.voice import LINE_HZ
from cluster.dispatch.rooms import open_rooms
from cluster.fingerprint import fingerprint
from cluster.logs import call_scope
from cluster.messages import ActorStatus, Assignment, CallRecord, Prepared
from cluster.models import load_models
from cluster.outcome import Outcome
from cluster.profiles import Profile, load_profiles

if TYPE_CHECKING:
    from google import genai

    from cluster.settings import Settings


OPEN_WITHIN_S = 2.5
"""In a call, a setup that takes longer than this hangs: somebody is waiting."""


@dataclass(slots=True)
class _SetUp:
    """A Live session, and what it was set up for."""

    profile: Profile
    session: LiveSession
    target: int = 0
    """Only a session of the profile's first one waits for a call."""


class CallSlot:
    """Parks, serves one call, parks again. Every method may be called at any time."""

    def __init__(self, slot: str, node: str, settings: Settings, upstream: Upstream) -> None:
        self._slot = slot
        self._node = node
        self._settings = settings
        self._fingerprint = fingerprint(settings)
        self._upstream = upstream
        self._models = load_models()
        self._profiles = load_profiles(settings.profiles_dir, self._models)
        self._clients: dict[str | None, genai.Client] = {None: make_client(settings.live)}
        """By place; None is the settings' own."""
        self._kit: Equipment | None = None
        self._parked: _SetUp | None = None
        self._parking = asyncio.Lock()
        self._given: list[_SetUp] = []
        self._call: PhoneCall | None = None
        self._assignment: Assignment | None = None
        self._running: asyncio.Task[CallRecord] | None = None
        self._born = time.monotonic()
        self._calls_served = 0

    async def prepare(self, profile_name: str) -> Prepared:
        """Have a fresh Live session of that profile set up; returns what became of it.

        The new session is there before the old one goes, and a young, living and untouched one simply stays.
        """
        async with self._parking:
            await self._equip()
            if self._running is not None and not self._running.done():
                return Prepared(error="a call is running")
            self._forget()
            profile = self._profiles.get(profile_name)
            if profile is None:
                return Prepared(error=f"there is no profile {profile_name!r}")
            if self._is_fresh(profile):
                return Prepared()
            try:
                parked = await self._open(profile)
            except LiveUnavailable as error:
                await self._unpark()
                return _not_prepared(profile, error)
            await self._unpark()
            self._parked = parked
            give_back()
            return Prepared(model=profile.model)

    async def start(self, assignment: Assignment) -> None:
        """Begin the call and return; `wait()` returns its record."""
        await self._equip()
        self._assignment = assignment
        self._running = asyncio.create_task(self._serve(assignment), name="call")

    async def wait(self) -> CallRecord:
        """Return when the call has ended; the same record again until the slot is prepared anew."""
        if self._running is None:
            message = f"{self._slot} has no call to wait for; start() one first"
            raise RuntimeError(message)
        return await asyncio.shield(self._running)

    def hang_up(self, outcome: Outcome) -> bool:
        """End the running call; False where there is none."""
        if self._call is None:
            return False
        self._call.hang_up(outcome)
        return True

    def status(self) -> ActorStatus:
        """This slot's account of itself."""
        parked, held = self._parked, self._assignment
        return ActorStatus(
            slot=self._slot,
            state=self._state(),
            profile=parked.profile.name if parked else "",
            parked_s=time.monotonic() - parked.session.opened_at if parked else 0.0,
            calls_served=self._calls_served,
            age_s=time.monotonic() - self._born,
            memory_mb=memory_mb(),
            node=self._node,
            pid=os.getpid(),
            fingerprint=self._fingerprint,
            call_id=held.request.call_id if held else "",
            lease_id=held.lease_id if held else "",
            fencing_token=held.fencing_token if held else 0,
        )

    async def release(self) -> None:
        """Close everything; the process can be ended afterwards."""
        if self._call is not None:
            self._call.hang_up(o.DRAINING)
        if self._running is not None:
            await asyncio.wait([self._running])
        await self._unpark()
        await engine.settle()
        if self._kit is not None:
            await self._kit.rooms.close()
            await self._kit.http.close()
        for client in self._clients.values():
            await client.aio.aclose()

    def _state(self) -> str:
        if self._running is not None:
            return "ended" if self._running.done() else "busy"
        return "parked" if self._parked is not None and not self._parked.session.closed else "cold"

    async def _equip(self) -> None:
        """Once per process: the clients, and what is slow at its first use, which is LiveKit's engine and the SDK."""
        if self._kit is not None:
            return
        settings = self._settings
        self._kit = Equipment(
            settings=settings,
            rooms=open_rooms(settings.livekit),
            http=aiohttp.ClientSession(),
            upstream=self._upstream,
            slot=self._slot,
            node=self._node,
        )
        rehearse()
        engine.prepare()
        await rtc.AudioSource(LINE_HZ, 1).aclose()

    async def _serve(self, assignment: Assignment) -> CallRecord:
        assert self._kit is not None  # noqa: S101 - start() equips first
        profile = self._profiles[assignment.request.profile]
        self._call = PhoneCall(assignment, profile, self._models, self._kit, self._opener(profile))
        try:
            with call_scope(assignment.request.call_id):
                return await self._call.run()
        finally:
            self._call = None
            self._calls_served += 1
            await self._take_back()

    def _opener(self, profile: Profile) -> Opener:
        """What gives a call its connections: the parked session where it fits, else a new one."""

        async def give(target: int, handle: str) -> LiveSession:
            parked, self._parked = self._parked, None
            if parked is not None:
                self._given.append(parked)
                if not (parked.session.closed or parked.profile != profile or target or handle):
                    return parked.session
            within_s = min(OPEN_WITHIN_S, self._settings.live.setup_timeout_s)
            wanted = profile.targets()[target]
            client = await self._client_at(wanted.location)
            session = await open_session(client, profile.on(wanted.model), within_s, handle=handle)
            self._given.append(_SetUp(profile, session, target))
            return session

        return give

    async def _client_at(self, location: str | None) -> genai.Client:
        """The client of a place: the settings' own, or a profile's fallback."""
        if location not in self._clients:
            there = self._settings.live.model_copy(update={"location": location})
            self._clients[location] = await asyncio.to_thread(make_client, there)
        return self._clients[location]

    async def _take_back(self) -> None:
        """After the call: an untouched session waits for another one, of its own profile; every other one is closed."""
        given, self._given = self._given, []
        for each in given:
            if self._parked is None and not (each.target or each.session.touched or each.session.closed):
                each.session.detach()
                self._parked = each
            else:
                await each.session.aclose()

    async def _open(self, profile: Profile) -> _SetUp:
        return _SetUp(profile, await open_session(self._clients[None], profile, self._settings.live.setup_timeout_s))

    def _is_fresh(self, profile: Profile) -> bool:
        parked = self._parked
        return (
            parked is not None
            and parked.profile == profile
            and not parked.session.closed
            and not parked.session.touched
            and time.monotonic() - parked.session.opened_at < self._settings.pool.parked_max_age_s
        )

    async def _unpark(self) -> None:
        if self._parked is not None:
            parked, self._parked = self._parked, None
            await parked.session.aclose()

    def _forget(self) -> None:
        """Nothing of the last caller stays in this process."""
        self._running = None
        self._assignment = None


def _not_prepared(profile: Profile, error: LiveUnavailable) -> Prepared:
    diagnosis = diagnose(error.fault)
    return Prepared(
        model=profile.model,
        error=str(error),
        fault=diagnosis.name,
        blames_provider=diagnosis.blames_provider,
    )
