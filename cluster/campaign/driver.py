"""Drives a campaign: asks for one call after another, and follows each to its end. Any process can take over.

Rules of this file:
1. An attempt is written down before its call is asked for, under ids that follow from campaign, contact and number of
   the attempt. `BudgetPool` gives the same request the same answer, so asking again never dials again.
2. Calls are not children of this process. It ends and they go on; the next one finds them by their ids.
3. A message that got no answer is sent again until it gets one, but a call is asked for only in its contact's hours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from cluster.campaign.contacts import Contact
from cluster.campaign.file import Campaign
from cluster.campaign.follower import Follower
from cluster.campaign.hours import next_open
from cluster.campaign.pace import Pace
from cluster.campaign.ports import Others
from cluster.campaign.requests import call_request
from cluster.campaign.retries import ABOUT_CONTACT
from cluster.campaign.states import Step
from cluster.campaign.store import CANCELLED, Begun, Entry, Move
from cluster.dispatch.ports import ControlPlaneDown
from cluster.messages import Admission, CallRequest, Refused, Wait
from cluster.outcome import OUTSIDE_HOURS, Outcome, Result

SUPPRESSED: Final = Outcome(Result.POLICY, "suppressed")
PAUSED: Final = "paused"
KEY_REUSED: Final = "idempotency-key-reused"
LAST_DIAL_S: Final = 330.0
"""So long before the hours end nobody new is called: a call may wait in the queue for 300 s, a phone rings for 30."""
IMPORT_BATCH: Final = 500
BATCH: Final = 50
LOOK_AGAIN_S: Final = 5.0
RETRY_S: Final = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a driver's work ended."""

    state: str
    """`done`, `stopped`, `paused`, `cancelled` or `replaced`."""
    why: str = ""
    """What stopped it: `time`, `money`, `calls`, or the reason of a refusal that has nothing to do with the contact."""


class Driver:
    """One process's work on a campaign."""

    def __init__(
        self,
        campaign: Campaign,
        others: Others,
        *,
        driver: str,
        room_prefix: str,
        on_progress: Callable[[dict[str, Any]], None],
        utc: Callable[[], float] = time.time,
        tick_s: float = 0.5,
    ) -> None:
        """`driver` names this process and no other. Must be made in the event loop that runs it."""
        self._campaign = campaign
        self._name = campaign.file.name
        self._others = others
        self._driver = driver
        self._room_prefix = room_prefix
        self._on_progress = on_progress
        self._utc = utc
        self._tick_s = tick_s
        self._suppressed: frozenset[str] = frozenset()
        self._batch: list[Entry] = []
        self._pausing = asyncio.Event()
        self._full_until = 0.0
        self._reported: dict[str, Any] = {}

    def pause(self) -> None:
        """Begin no more calls, and take back those that are queued.

        Those in progress are followed for as long as this process is let live.
        """
        self._pausing.set()

    async def run(self) -> Ending:
        """Call everybody; returns when there is nothing left to do. Raises `ContactsError`."""
        book, name = self._others.book, self._name
        state = await self._insist(lambda: book.open(name, self._campaign.file.tenant, self._driver, self._utc()))
        if state == CANCELLED:
            return Ending(CANCELLED)
        self._suppressed = self._campaign.suppressed()
        await self._import()
        unfinished = await self._insist(lambda: book.unfinished(name))
        tally = await self._insist(lambda: book.tally(name))
        self._pace = Pace(self._campaign.limits(), tally, self._utc())
        self._follower = Follower(self._campaign, self._others, self._pace, self._move, self._utc)
        for entry in unfinished:
            self._follower.take(entry, self._request(entry))
        ending = await self._dial_and_follow()
        if ending.state in {"done", "stopped"}:
            await self._insist(lambda: book.close(name, self._driver, ending.state, ending.why))
        self._report(ending)
        return ending

    async def _import(self) -> None:
        """Take in the contacts of the file; whoever waits, but is not in it any more, is called no more."""
        batch: list[tuple[Contact, float]] = []
        for found in self._campaign.contacts(self._utc()):
            if isinstance(found, Contact):
                stretch = next_open(self._campaign.hours, found.zones, self._utc())
                batch.append((found, stretch.opens_at if stretch else self._utc()))
            if len(batch) == IMPORT_BATCH:
                await self._add(batch)
                batch = []
        await self._add(batch)
        book, name, driver = self._others.book, self._name, self._driver
        while entries := await self._insist(lambda: book.left_out(name, driver, IMPORT_BATCH)):
            await self._move(*(self._leave_out(entry) for entry in entries))

    async def _add(self, batch: list[tuple[Contact, float]]) -> None:
        await self._insist(lambda: self._others.book.add(self._name, self._driver, batch))

    def _leave_out(self, entry: Entry) -> Move:
        if entry.number in self._suppressed:
            return self._never(entry, SUPPRESSED)
        # Whoever drives the campaign now may have found it in a newer file.
        return self._step(entry, Step.DROP, due_at=entry.due_at, driver=self._driver)

    async def _dial_and_follow(self) -> Ending:
        """Should either fail, so does this process, for all to see: what it leaves the next one takes up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._follow_for_ever(), name="following")
                ending = await self._take_back(await self._dial())
                await self._let_end(ending)
                following.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return ending

    async def _take_back(self, ending: Ending) -> Ending:
        """Whoever cancels a campaign ends its process as one that pauses it does. Either takes back what is queued."""
        if ending.state == PAUSED:
            state = await self._insist(lambda: self._others.book.state(self._name))
            ending = Ending(CANCELLED) if state and state[0] == CANCELLED else ending
        if ending.state in {PAUSED, CANCELLED}:
            self._follower.withdraw(cancelled=ending.state == CANCELLED)
        return ending

    async def _dial(self) -> Ending:
        while not self._pausing.is_set():
            now, tally = self._utc(), self._pace.tally
            if not tally.waiting and not tally.open:
                return Ending("done")
            if why := self._pace.stop(now):
                return Ending("stopped", why)
            wait_s = self._pace.wait_s(now)
            if wait_s is None or not tally.waiting:
                await self._nap(self._tick_s)
                continue
            await self._nap(max(wait_s, self._full_until - now))
            entry = await self._next()
            if entry is None:
                continue
            if (ending := await self._place(entry)) is not None:
                return ending
        return Ending(PAUSED)

    async def _next(self) -> Entry | None:
        """Who is to be called now; None where nobody is, after a while."""
        if not self._batch:
            self._batch = await self._insist(lambda: self._others.book.waiting(self._name, BATCH))
            self._batch.reverse()
        now = self._utc()
        while self._batch and not self._pausing.is_set():
            entry = self._batch.pop()
            if entry.due_at > now:
                # Calls that end may bring others that are due before; without any there is only the clock.
                self._batch.clear()
                await self._nap(min(entry.due_at - now, LOOK_AGAIN_S if self._pace.tally.open else entry.due_at - now))
            elif entry.number in self._suppressed:
                await self._move(self._never(entry, SUPPRESSED))
                self._pace.left_out()
            elif self._may_ring(entry, now):
                return entry
            elif (later := next_open(self._campaign.hours, entry.zones, now + LAST_DIAL_S)) is None:
                await self._move(self._never(entry, OUTSIDE_HOURS))
                self._pace.left_out()
            else:
                await self._move(self._step(entry, Step.PUT_OFF, due_at=max(later.opens_at, now + self._tick_s)))
        return None

    def _may_ring(self, entry: Entry, now: float) -> bool:
        stretch = next_open(self._campaign.hours, entry.zones, now)
        return stretch is not None and stretch.opens_at <= now and now + LAST_DIAL_S < stretch.closes_at

    def _never(self, entry: Entry, outcome: Outcome) -> Move:
        return self._step(entry, Step.CLOSE, outcomes=(*entry.outcomes, str(outcome)))

    async def _place(self, entry: Entry) -> Ending | None:
        """Ask for the contact's call; returns what ends the campaign's dialling, if anything does."""
        stretch = next_open(self._campaign.hours, entry.zones, self._utc())
        request = replace(self._request(entry), dial_before=stretch.closes_at if stretch else None)
        ids = {"attempt": request.request_id, "call_id": request.call_id}
        begin = self._step(entry, Step.BEGIN, due_at=entry.due_at, **ids)
        begun = await self._insist(lambda: self._others.book.begin(self._driver, begin))
        if begun is Begun.LEFT_OUT:
            self._pace.left_out()
            return None
        if begun is not Begun.YES:
            return Ending(begun.value)
        self._pace.begun()
        answer = await self._ask(entry, request)
        self._pace.placed(self._utc())
        return await self._heed(entry, request, answer)

    async def _ask(self, entry: Entry, request: CallRequest) -> Admission | None:
        """What `BudgetPool` says; None where it did not answer for as long as the call may be asked for."""
        while self._may_ring(entry, self._utc()) and not self._pausing.is_set():
            with suppress(ControlPlaneDown):
                return await self._others.pool.admit(request)
            await self._nap(RETRY_S)
        return None

    async def _heed(self, entry: Entry, request: CallRequest, answer: Admission | None) -> Ending | None:
        match answer:
            case None:
                self._follower.take(entry, request)
            case Wait() | Refused(retry_after_s=float() | int()):
                due_at = self._utc() + max(self._tick_s, answer.retry_after_s or 0.0)
                await self._put_off(entry, request, due_at)
                if isinstance(answer, Wait):  # the next one would hear the same
                    self._full_until = due_at
            case Refused() if answer.outcome in ABOUT_CONTACT:
                outcomes = (*entry.outcomes, str(answer.outcome))
                await self._move(self._step(entry, Step.CLOSE, attempt=request.request_id, outcomes=outcomes))
                self._pace.ended(str(answer.outcome), 0, again=False)
            case Refused() if answer.outcome.reason != KEY_REUSED:  # everybody would hear the same, until it is mended
                await self._put_off(entry, request, self._utc())
                return Ending("stopped", answer.outcome.reason)
            case _:  # it has a call, even if it was asked for in other words before
                await self._move(self._step(entry, Step.CALL, attempt=request.request_id))
                self._follower.follow(entry, request)
        return None

    async def _put_off(self, entry: Entry, request: CallRequest, due_at: float) -> None:
        await self._move(self._step(entry, Step.PUT_OFF, attempt=request.request_id, due_at=due_at))
        self._pace.put_off()

    async def _follow_for_ever(self) -> None:
        while True:
            await self._follower.busy.wait()
            with suppress(ControlPlaneDown):
                await self._follower.look()
            self._report(Ending("pausing" if self._pausing.is_set() else "running"))
            await asyncio.sleep(self._tick_s)

    async def _let_end(self, ending: Ending) -> None:
        """Follow the calls in progress to their ends; who was replaced leaves them to the other."""
        while self._pace.tally.open and ending.state != Begun.REPLACED:  # noqa: ASYNC110 other processes end them
            await asyncio.sleep(self._tick_s)

    def _report(self, ending: Ending) -> None:
        progress = {"campaign": self._name, "state": ending.state, "why": ending.why, **self._pace.tally.as_json()}
        if progress != self._reported:
            self._reported = progress
            self._on_progress(progress)

    def _request(self, entry: Entry) -> CallRequest:
        return call_request(self._campaign, entry, self._room_prefix)

    def _step(self, entry: Entry, step: Step, **fields: Any) -> Move:
        return Move(campaign=self._name, contact=entry.contact, step=step, at=self._utc(), **fields)

    async def _move(self, *moves: Move) -> None:
        await self._insist(lambda: self._others.book.move(moves))

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Send a message until it is answered."""
        while True:
            with suppress(ControlPlaneDown):
                return await ask()
            await asyncio.sleep(RETRY_S)

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not through a wish to pause."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._pausing.wait()
