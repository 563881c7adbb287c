"""Drives a campaign: asks for one call after another, and follows each to its end. Any process can take over.

Rules of this file:
1. An attempt is written down before its call is asked for, under ids that follow from campaign, contact and number of
   the attempt. `BudgetPool` gives the same request the same answer, so asking again never dials again.
2. Calls are not children of this process. It ends and they go on; the next one finds them by their ids.
3. What has no known end is asked of the history, of `BudgetPool` and of LiveKit, in this order. Where none of them
   knows what became of a call, its contact is parked and nobody calls again by himself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cluster.budget.doorway import KEY_REUSED
from cluster.campaign.contacts import Contact
from cluster.campaign.file import Campaign
from cluster.campaign.hours import is_open, next_open
from cluster.campaign.pace import Pace
from cluster.campaign.ports import Book, History, Pool, Rooms
from cluster.campaign.requests import call_request
from cluster.campaign.retries import UNCERTAIN, retry_after_s
from cluster.campaign.states import State, Step
from cluster.campaign.store import CANCELLED, Begun, Entry, Move, next_attempt
from cluster.dispatch.ports import ControlPlaneDown
from cluster.messages import Admission, CallRequest, Refused, Wait
from cluster.outcome import Outcome, Result

log = logging.getLogger(__name__)

SUPPRESSED: Final = Outcome(Result.POLICY, "suppressed")
NEVER_OPEN: Final = Outcome(Result.POLICY, "calling-hours")
LAST_DIAL_S: Final = 330.0
"""So long before the hours end nobody new is called: a call may wait in the queue for 300 s, and a phone rings for 30."""
IMPORT_BATCH: Final = 500
DUE_BATCH: Final = 50
TICK_S: Final = 0.5
RETRY_S: Final = 0.5
LOST_AFTER_S: Final = 60.0
"""A call that was admitted and that neither `BudgetPool` nor the history has is in neither's memory any more."""
UNENDED_AFTER_S: Final = 900.0
"""A call that has begun and does not run any more has its record within seconds, unless its database is gone."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Whom a driver asks."""

    book: Book
    pool: Pool
    history: History
    rooms: Rooms


@dataclass(slots=True)
class _Open:
    """A call that exists."""

    entry: Entry
    request: CallRequest
    missing_since: float | None = None
    """Since when it does not run and has no record."""


@dataclass(slots=True)
class Ending:
    """How a driver's work ended."""

    state: str
    """`done`, `stopped`, `paused`, `cancelled` or `replaced`."""
    why: str = ""
    """`time`, `money` or `calls`."""


@dataclass(slots=True, kw_only=True)
class Driver:
    """One process's work on a campaign."""

    campaign: Campaign
    others: Others
    driver: str
    """Names this process; like no other."""
    room_prefix: str
    on_progress: Callable[[dict[str, Any]], None] = lambda _: None
    utc: Callable[[], float] = time.time
    _pace: Pace = field(init=False)
    _suppressed: frozenset[str] = field(init=False, default=frozenset())
    _due: list[Entry] = field(init=False, default_factory=list)
    _open: dict[str, _Open] = field(init=False, default_factory=dict)
    _pausing: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _wait_until: float = field(init=False, default=0.0)

    def pause(self) -> None:
        """Begin no more calls; those in progress are followed as long as this process is let live."""
        self._pausing.set()

    async def run(self) -> Ending:
        """Call everybody, and return when there is nothing left to do. Raises `ContactsError`."""
        name, book = self.campaign.file.name, self.others.book
        state = await self._insist(lambda: book.open(name, self.campaign.file.tenant, self.driver, self.utc()))
        if state == CANCELLED:
            return Ending(CANCELLED)
        self._suppressed = self.campaign.suppressed()
        await self._import()
        await self._recover()
        tally = await self._insist(lambda: book.tally(name))
        self._pace = Pace(self.campaign.limits(), tally, self.utc())
        following = asyncio.create_task(self._follow_for_ever(), name="following")
        try:
            ending = await self._dial()
            if ending.state != "replaced":
                await self._settled()
        finally:
            following.cancel()
        if ending.state in {"done", "stopped"}:
            await self._insist(lambda: book.close(name, self.driver, ending.state, ending.why))
        self._report(ending.state, ending.why)
        return ending

    async def _import(self) -> None:
        """Take in the contacts of the file; those that are known stay as they are."""
        batch: list[tuple[Contact, float]] = []
        for found in self.campaign.contacts(self.utc()):
            if isinstance(found, Contact):
                stretch = next_open(self.campaign.hours, found.zones, self.utc())
                batch.append((found, stretch.opens_at if stretch else self.utc()))
            if len(batch) == IMPORT_BATCH:
                await self._add(batch)
                batch = []
        await self._add(batch)

    async def _add(self, batch: list[tuple[Contact, float]]) -> None:
        await self._insist(lambda: self.others.book.add(self.campaign.file.name, batch))

    async def _recover(self) -> None:
        """Find out what became of the calls of an earlier process."""
        unfinished = await self._insist(lambda: self.others.book.unfinished(self.campaign.file.name))
        for entry in unfinished:
            request = self._request(entry)
            call = await self._insist(lambda: self.others.history.call(request.call_id, request.tenant, False))  # noqa: B023, FBT003
            exists = call is not None or request.call_id in await self._live()
            if exists and entry.state is State.DIALLING:
                await self._move(self._step(entry, Step.CALL))
            elif not exists and entry.state is State.DIALLING:
                await self._resolve(entry, request)
            if entry.state is not State.DIALLING or exists:
                self._open[entry.contact] = _Open(entry, request)

    async def _resolve(self, entry: Entry, request: CallRequest) -> None:
        """Nobody has this call. If LiveKit has it, it is parked; if not, it was never begun."""
        while (present := await self.others.rooms.present(request.room)) is None:
            await asyncio.sleep(RETRY_S)
        step = Step.PARK if present else Step.PUT_OFF
        await self._move(self._step(entry, step))
