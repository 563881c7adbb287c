"""The campaigns' contacts and attempts, with an address: `cluster.campaign.store` as an actor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.answering import control_actor
from cluster.campaign.store import Begun, CampaignStore, Entry, Move
from cluster.fingerprint import fingerprint
from cluster.storage import open_engine, upgrade

if TYPE_CHECKING:
    from cluster.campaign.contacts import Contact
    from cluster.campaign.pace import Tally
    from cluster.settings import Settings


@control_actor
class CampaignBook:
    """What campaigns have to remember; see `CampaignStore` for what each method does."""

    def __init__(self, settings: Settings) -> None:
        """The database is opened with the first message."""
        self._settings = settings
        self._opening = asyncio.Lock()
        self._opened: CampaignStore | None = None

    async def fingerprint(self) -> str:
        """Of the settings that it was made with."""
        return fingerprint(self._settings)

    async def open(self, name: str, tenant: str, driver: str, now: float) -> str:
        """Take a campaign over, or begin it."""
        return await asyncio.to_thread((await self._store()).open, name, tenant, driver, now)

    async def close(self, name: str, driver: str, state: str, why: str) -> None:
        """The campaign is over."""
        await asyncio.to_thread((await self._store()).close, name, driver, state, why)

    async def add(self, campaign: str, driver: str, found: Sequence[tuple[Contact, float]]) -> None:
        """Take in contacts."""
        await asyncio.to_thread((await self._store()).add, campaign, driver, found)

    async def left_out(self, campaign: str, driver: str, limit: int) -> list[Entry]:
        """Who waits, and was not in the file."""
        return await asyncio.to_thread((await self._store()).left_out, campaign, driver, limit)

    async def waiting(self, campaign: str, limit: int) -> list[Entry]:
        """Who waits, in the order in which they are due."""
        return await asyncio.to_thread((await self._store()).waiting, campaign, limit)

    async def unfinished(self, campaign: str) -> list[Entry]:
        """Whose last call has no known end."""
        return await asyncio.to_thread((await self._store()).unfinished, campaign)

    async def begin(self, driver: str, move: Move) -> Begun:
        """Write down an attempt."""
        return await asyncio.to_thread((await self._store()).begin, driver, move)

    async def move(self, moves: Sequence[Move]) -> None:
        """Take steps."""
        await asyncio.to_thread((await self._store()).move, moves)

    async def state(self, campaign: str) -> tuple[str, str] | None:
        """Its state and what stopped it."""
        return await asyncio.to_thread((await self._store()).state, campaign)

    async def tally(self, campaign: str) -> Tally:
        """How far it is."""
        return await asyncio.to_thread((await self._store()).tally, campaign)

    async def _store(self) -> CampaignStore:
        async with self._opening:
            if self._opened is None:
                self._opened = await asyncio.to_thread(self._open)
            return self._opened

    def _open(self) -> CampaignStore:
        engine = open_engine(self._settings.database_url, fsync=True)
        upgrade(engine)
        return CampaignStore(engine)
