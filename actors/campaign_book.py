"""The campaigns' contacts and attempts, with an address: `cluster.campaign.store` as an actor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.answering import ControlActor
from cluster.campaign.store import Begun, CampaignStore, Entry, Move
from cluster.storage import open_engine, upgrade

if TYPE_CHECKING:
    from cluster.campaign.contacts import Contact
    from cluster.campaign.pace import Tally


class CampaignBook(ControlActor[CampaignStore]):
    """What campaigns have to remember; see `CampaignStore` for what each method does."""

    async def open(self, name: str, tenant: str, driver: str, now: float) -> str:
        """Take a campaign over, or begin it."""
        return await asyncio.to_thread((await self._ready()).open, name, tenant, driver, now)

    async def close(self, name: str, driver: str, state: str, why: str) -> None:
        """The campaign is over."""
        await asyncio.to_thread((await self._ready()).close, name, driver, state, why)

    async def add(self, campaign: str, driver: str, found: Sequence[tuple[Contact, float]]) -> None:
        """Take in contacts."""
        await asyncio.to_thread((await self._ready()).add, campaign, driver, found)

    async def left_out(self, campaign: str, driver: str, limit: int) -> list[Entry]:
        """Who waits, and was not in the file."""
        return await asyncio.to_thread((await self._ready()).left_out, campaign, driver, limit)

    async def waiting(self, campaign: str, limit: int) -> list[Entry]:
        """Who waits, in the order in which they are due."""
        return await asyncio.to_thread((await self._ready()).waiting, campaign, limit)

    async def unfinished(self, campaign: str) -> list[Entry]:
        """Whose last call has no known end."""
        return await asyncio.to_thread((await self._ready()).unfinished, campaign)

    async def begin(self, driver: str, move: Move) -> Begun:
        """Write down an attempt."""
        return await asyncio.to_thread((await self._ready()).begin, driver, move)

    async def move(self, moves: Sequence[Move]) -> None:
        """Take steps."""
        await asyncio.to_thread((await self._ready()).move, moves)

    async def state(self, campaign: str) -> tuple[str, str] | None:
        """Its state and what stopped it."""
        return await asyncio.to_thread((await self._ready()).state, campaign)

    async def tally(self, campaign: str) -> Tally:
        """How far it is."""
        return await asyncio.to_thread((await self._ready()).tally, campaign)

    async def _open(self) -> CampaignStore:
        return await asyncio.to_thread(self._open_store)

    def _open_store(self) -> CampaignStore:
        engine = open_engine(self._settings.database_url, fsync=True)
        upgrade(engine)
        return CampaignStore(engine)
