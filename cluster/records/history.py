"""The history at work: events are shown at once and stored in batches, endings are stored at once.

Rules of this file:
1. The event loop never waits for the database; every access is in a thread.
2. What is shown live may be up to `BATCH_S` ahead of what is stored. An ending returns only when it is stored.
3. The backlog of unstored events is bounded: while the database is away, the oldest leave first. The transcript is in
   the call's record too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from cluster.messages import CallEvent, CallQuery, CallRecord, CallRequest
from cluster.metrics import EventTally
from cluster.records.board import Board
from cluster.records.feed import Entry, Feed
from cluster.records.store import RecordStore
from cluster.records.views import ENDED, Json, call_view, summary_view

log = logging.getLogger(__name__)

BATCH_S: Final = 0.2
BACKLOG: Final = 20_000
RETRY_S: Final = 2.0


class History:
    """Calls and what happens in them: written, read, and watched live."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._feed = Feed()
        self._board = Board(time.time_ns() // 1000)
        self._tally = EventTally()
        self._opening = asyncio.Lock()
        self._storing = asyncio.Lock()
        self._backlog: deque[tuple[int, CallEvent]] = deque(maxlen=BACKLOG)
        self._news: dict[str, asyncio.Event] = {}
        self._writer: asyncio.Task[None] | None = None

    async def begin(self, request: CallRequest, started_at: float) -> None:
        """A call was admitted. `started_at` is UTC seconds."""
        await asyncio.to_thread(self._store.begin, request, started_at)
        await self._open(request.call_id)

    async def append(self, events: list[CallEvent]) -> None:
        """Something happened in one or more calls. Shown at once, stored within `BATCH_S`."""
        for call_id in dict.fromkeys(event.call_id for event in events):
            await self._open(call_id)
            its_own = [event for event in events if event.call_id == call_id]
            self._publish(call_id, its_own)
            self._tally.add(its_own)
            if not self._feed.ended(call_id):
                self._board.note(call_id, its_own)

    async def finish(self, record: CallRecord) -> bool:
        """Store how a call ended and tell whoever watches it. False if it had ended already; the first ending stays."""
        if not await asyncio.to_thread(self._store.finish, record):
            return False
        await self._open(record.call_id)
        outcome = {"result": record.outcome.result.value, "reason": record.outcome.reason, "detail": record.detail}
        fields = outcome | {"cost_usd_micros": record.cost_usd_micros, "talk_s": record.talk_s}
        self._publish(
            record.call_id,
            [CallEvent(call_id=record.call_id, kind=ENDED, at_s=record.duration_s, fields=fields)],
        )
        self._feed.end(record.call_id)
        self._board.end(record.call_id)
        await self._store_backlog()
        return True

    async def call(self, call_id: str, tenant: str | None, *, full_numbers: bool) -> Json | None:
        """One call with its legs, transcript and timeline; None if this tenant has no such call."""
        row = await asyncio.to_thread(self._store.call, call_id, tenant)
        if row is None:
            return None
        await self._open(call_id)
        events = [event for _, event in await self._since(call_id, 0)]
        return call_view(row, events, full_numbers=full_numbers)

    async def calls(self, tenant: str | None, query: CallQuery, *, full_numbers: bool) -> list[Json] | None:
        """A tenant's calls, or (None) everybody's, newest first; None where `query.before` is none of them."""
        rows = await asyncio.to_thread(self._store.calls, tenant, query)
        return None if rows is None else [summary_view(row, full_numbers=full_numbers) for row in rows]

    async def events(self, call_id: str, after: int, timeout_s: float) -> list[Entry]:
        """Events numbered higher than `after`; waits up to `timeout_s` for the first, if the call is not over."""
        await self._open(call_id)
        entries = await self._since(call_id, after)
        if entries or self._feed.ended(call_id):
            return entries
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.setdefault(call_id, asyncio.Event()).wait()
        except TimeoutError:
            return []
        return await self._since(call_id, after)

    def standings(self, version: int) -> list[Json]:
        """How the live calls stand whose standing is newer than `version`; each names its own."""
        return self._board.since(version)

    async def webhook_seen(self, event_id: str) -> bool:
        """True the first time this webhook is seen."""
        return await asyncio.to_thread(self._store.webhook_seen, event_id, time.time())

    def statistics(self) -> dict[str, Any]:
        """How much is in memory, how much is not stored yet, and what has happened in calls."""
        return {**self._feed.statistics(), "unstored": len(self._backlog), "happened": self._tally.snapshot()}

    async def close(self) -> None:
        """Store what is left and stop."""
        if self._writer is not None:
            self._writer.cancel()
        await self._store_backlog()

    async def _open(self, call_id: str) -> None:
        # One at a time, so that two messages about a new call cannot number it twice.
        async with self._opening:
            if not self._feed.knows(call_id):
                last_seq, row = await asyncio.to_thread(self._look_up, call_id)
                self._feed.open(call_id, last_seq, ended=row is not None and row["ended_at"] is not None)

    def _look_up(self, call_id: str) -> tuple[int | None, Any]:
        return self._store.last_seq(call_id), self._store.call(call_id, None)

    def _publish(self, call_id: str, events: list[CallEvent]) -> None:
        """Of a call that was opened with no await since."""
        self._backlog.extend(self._feed.add(call_id, events))
        news = self._news.pop(call_id, None)
        if news is not None:
            news.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._store_soon(), name="records-writer")

    async def _since(self, call_id: str, after: int) -> list[Entry]:
        entries = self._feed.since(call_id, after)
        if entries is not None:
            return entries
        await self._store_backlog()
        stored = await asyncio.to_thread(self._store.events, call_id, after)
        newer = self._feed.since(call_id, stored[-1][0] if stored else after)
        return stored + (newer or [])

    async def _store_soon(self) -> None:
        await asyncio.sleep(BATCH_S)
        while self._backlog:
            try:
                await self._store_backlog()
            except SQLAlchemyError as error:
                what = {"error": type(error).__name__, "unstored": len(self._backlog)}
                log.warning("events cannot be stored: the database fails", extra=what)
                await asyncio.sleep(RETRY_S)

    async def _store_backlog(self) -> None:
        async with self._storing:
            batch, self._backlog = self._backlog, deque(maxlen=BACKLOG)
            if not batch:
                return
            try:
                await asyncio.to_thread(self._store.add_events, batch)
            except BaseException:
                self._backlog.extendleft(reversed(batch))
                raise
