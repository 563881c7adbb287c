"""The history of all calls, with an address: `cluster.records.history` as an actor.

Rule of this file: it imports nothing large. Whoever looks the actor up imports it, and that is each call's process too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from actors import names
from actors.answering import control_actor

if TYPE_CHECKING:
    from cluster.messages import CallEvent, CallQuery, CallRecord, CallRequest
    from cluster.records.history import History
    from cluster.settings import Settings


@control_actor
class Records:
    """Every call, every event, every ending; see `History` for what each method does."""

    def __init__(self, settings: Settings) -> None:
        """The database is opened with the first message. It sends itself one, so that no caller waits for that."""
        self._settings = settings
        self._opening = asyncio.Lock()
        self._opened: History | None = None
        names.speak_to_itself("statistics")

    async def fingerprint(self) -> str:
        """Of the settings that it was made with."""
        from cluster.fingerprint import fingerprint

        return fingerprint(self._settings)

    async def begin(self, request: CallRequest, started_at: float) -> None:
        """A call was admitted at `started_at`, UTC seconds."""
        await (await self._history()).begin(request, started_at)

    async def append(self, events: list[CallEvent]) -> None:
        """Something happened in one or more calls."""
        await (await self._history()).append(events)

    async def finish(self, record: CallRecord) -> bool:
        """A call is over. False if it was already; the first ending stays."""
        return await (await self._history()).finish(record)

    async def call(self, call_id: str, tenant: str | None, full_numbers: bool = False) -> dict[str, Any] | None:  # noqa: FBT001, FBT002 an actor's method
        """One call as JSON, or None if this tenant (None: all) has no such call."""
        return await (await self._history()).call(call_id, tenant, full_numbers=full_numbers)

    async def calls(
        self,
        tenant: str | None,
        query: CallQuery,
        full_numbers: bool = False,  # noqa: FBT001, FBT002 an actor's method
    ) -> list[dict[str, Any]] | None:
        """A tenant's calls as JSON, or (None) everybody's, newest first; None where `query.before` is none of them."""
        return await (await self._history()).calls(tenant, query, full_numbers=full_numbers)

    async def events(self, call_id: str, after: int, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """A call's events numbered higher than `after`; waits up to `timeout_s` for the first."""
        return await (await self._history()).events(call_id, after, timeout_s)

    async def standings(self, version: int) -> list[dict[str, Any]]:
        """How each live call stands that has changed after `version`: its leg, its newest words, its line."""
        return (await self._history()).standings(version)

    async def webhook_seen(self, event_id: str) -> bool:
        """True the first time this webhook is seen."""
        return await (await self._history()).webhook_seen(event_id)

    async def statistics(self) -> dict[str, int]:
        """How much is in memory and how much is not stored yet."""
        return (await self._history()).statistics()

    async def _history(self) -> History:
        async with self._opening:
            if self._opened is None:
                from actors.exporter import Exporter

                self._opened = await asyncio.to_thread(self._open)
                self._exporting = asyncio.create_task(Exporter("records", self.statistics).run_for_ever())
            return self._opened

    def _open(self) -> History:
        from cluster.records.history import History
        from cluster.records.store import RecordStore
        from cluster.storage import open_engine, upgrade

        engine = open_engine(self._settings.database_url)
        upgrade(engine)
        return History(RecordStore(engine))
