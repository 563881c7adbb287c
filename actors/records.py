"""The history of all calls, with an address: `cluster.records.history` as an actor.

Rule of this file: it imports nothing large. Whoever looks the actor up imports it, and that is each call's process too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from actors.answering import ControlActor

if TYPE_CHECKING:
    from cluster.messages import CallEvent, CallQuery, CallRecord, CallRequest
    from cluster.records.history import History


class Records(ControlActor["History"]):
    """Every call, every event, every ending; see `History` for what each method does."""

    async def begin(self, request: CallRequest, started_at: float) -> None:
        """A call was admitted at `started_at`, UTC seconds."""
        await (await self._ready()).begin(request, started_at)

    async def append(self, events: list[CallEvent]) -> None:
        """Something happened in one or more calls."""
        await (await self._ready()).append(events)

    async def finish(self, record: CallRecord) -> bool:
        """A call is over. False if it was already; the first ending stays."""
        return await (await self._ready()).finish(record)

    async def call(self, call_id: str, tenant: str | None, full_numbers: bool = False) -> dict[str, Any] | None:  # noqa: FBT001, FBT002 an actor's method
        """One call as JSON, or None if this tenant (None: all) has no such call."""
        return await (await self._ready()).call(call_id, tenant, full_numbers=full_numbers)

    async def calls(
        self,
        tenant: str | None,
        query: CallQuery,
        full_numbers: bool = False,  # noqa: FBT001, FBT002 an actor's method
    ) -> list[dict[str, Any]] | None:
        """A tenant's calls as JSON, or (None) everybody's, newest first; None where `query.before` is none of them."""
        return await (await self._ready()).calls(tenant, query, full_numbers=full_numbers)

    async def events(self, call_id: str, after: int, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """A call's events numbered higher than `after`; waits up to `timeout_s` for the first."""
        return await (await self._ready()).events(call_id, after, timeout_s)

    async def standings(self, version: int) -> list[dict[str, Any]]:
        """How each live call stands that has changed after `version`: its leg, its newest words, its line."""
        return (await self._ready()).standings(version)

    async def webhook_seen(self, event_id: str) -> bool:
        """True the first time this webhook is seen."""
        return await (await self._ready()).webhook_seen(event_id)

    async def statistics(self) -> dict[str, int]:
        """How much is in memory and how much is not stored yet."""
        return (await self._ready()).statistics()

    async def _open(self) -> History:
        from actors.exporter import Exporter

        history = await asyncio.to_thread(self._open_history)
        self._exporting = asyncio.create_task(Exporter("records", self.statistics).run_for_ever())
        return history

    def _open_history(self) -> History:
        from cluster.records.history import History
        from cluster.records.store import RecordStore
        from cluster.storage import open_engine, upgrade

        engine = open_engine(self._settings.database_url)
        upgrade(engine)
        return History(RecordStore(engine))
