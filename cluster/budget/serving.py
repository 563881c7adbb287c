"""Sees every admitted call to its one end: start, wait, settle, record.

Rules of this file:
1. A call ends once. Whoever moves its lease to `ENDING` writes the end; everybody else finds it moved and does nothing.
2. The end is durable before its money and its actor are free again, and before the history is told; the history is told
   again and again until it has it, also by the next process.
3. A process that certainly ended ends its call at once. Silence alone does not: the lease decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

from cluster import outcome as o
from cluster.budget import rows
from cluster.budget.calls import OpenCall
from cluster.budget.garage import ANSWER_WITHIN_S, Garage
from cluster.budget.journal import Journal, JournalError
from cluster.budget.leases import Lease, LeaseBook, LeaseState
from cluster.budget.ports import ActorLost, CallActorPort, CloseRoom, History
from cluster.budget.pricing import Bill, dearer
from cluster.budget.providers import Providers
from cluster.messages import Assignment, CallRecord
from cluster.metrics import Tally
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

START_TRIES: Final = 3
"""A parked actor may have died unnoticed; two in a row are no accident."""
START_WITHIN_S: Final = 15.0
"""Starting a call takes milliseconds, the first one of a process on a busy machine seconds."""
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
ROOM_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The two clocks. Both give seconds."""

    now: Callable[[], float] = time.monotonic
    """Monotonic, for how long something takes."""
    utc: Callable[[], float] = time.time
    """For when something happened."""

    def today(self) -> date:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.utc(), UTC).date()


SYSTEM_CLOCK: Final = Clock()


class Serving:
    """The open calls."""

    def __init__(
        self,
        *,
        book: LeaseBook,
        garage: Garage,
        journal: Journal,
        history: History,
        close_room: CloseRoom,
        clock: Clock,
        providers: Providers,
        renew_every_s: float,
        lease_ttl_s: float,
    ) -> None:
        """The last two are what each call is told about its lease."""
        self._book = book
        self._garage = garage
        self._journal = journal
        self._history = history
        self._close_room = close_room
        self._clock = clock
        self._providers = providers
        self._renew_every_s = renew_every_s
        self._lease_ttl_s = lease_ttl_s
        self._calls: dict[str, OpenCall] = {}
        self._tasks = TaskSet()
        self.ended: Counter[str] = Counter()
        """Calls that ended, by outcome."""
        self.tally = Tally()
        """What they measured."""

    def call(self, lease_id: str) -> OpenCall | None:
        """The open call of a lease."""
        return self._calls.get(lease_id)

    def begin(self, lease: Lease, call: OpenCall) -> None:
        """Have the call started by the actor that its lease names."""
        self._calls[lease.lease_id] = call
        self._book.launch(lease.lease_id, self._clock.now())
        self._tasks.spawn("a call", self._serve(lease.lease_id))

    def resume(self, lease: Lease, call: OpenCall) -> None:
        """Take over a call that an earlier process began; one without an actor runs out with its lease."""
        self._calls[lease.lease_id] = call
        if lease.slot:
            self._book.started(lease.lease_id, self._clock.now())
            self._tasks.spawn("a call", self._reattach(lease))

    async def hang_up(self, call_id: str) -> bool:
        """End a call at the API's wish; False where there is none. One that has not begun ends when it has."""
        lease = self._book.of_call(call_id)
        call = self.call(lease.lease_id) if lease else None
        if lease is None or call is None or lease.state is LeaseState.ENDING:
            return False
        call.hangup_asked = True
        if lease.state is LeaseState.GRANTED:
            return True
        return await self._tell_to_hang_up(lease)

    def give_up(self, call_id: str) -> None:
        """End a call, and the process that has it, as if that had died."""
        if (lease := self._book.of_call(call_id)) is not None:
            self._end_lost(lease.lease_id)

    def deliver(self, lease_id: str, record: CallRecord) -> None:
        """Tell the history of an ending until it knows."""
        self._tasks.spawn("delivery of a record", self._deliver(lease_id, record))

    def expire(self) -> None:
        """End the calls whose holders were silent for too long; should one live on, its process is ended."""
        for lease in self._book.expire(self._clock.now()):
            log.warning("lease %s ran out without a sign of life from %s", lease.lease_id, lease.slot)
            self._bury(lease)

    async def close(self) -> None:
        """Stop watching; the calls go on."""
        await self._tasks.close()

    async def _serve(self, lease_id: str) -> None:
        """Start the call. As long as nobody has, another actor can be tried."""
        for tries_left in reversed(range(START_TRIES)):
            lease = self._book.get(lease_id)
            if lease is None or lease.state is LeaseState.ENDING:
                return
            try:
                actor = await self._garage.actor(lease.slot)
                async with asyncio.timeout(START_WITHIN_S):
                    await actor.start(self._assignment(lease))
            except (ActorLost, TimeoutError):
                if not tries_left or not await self._pass_on(lease):
                    break
            else:
                if self._is_current(lease):
                    self._book.started(lease_id, self._clock.now())
                    if self._calls[lease_id].hangup_asked:
                        await self._tell_to_hang_up(lease)
                await self._wait_for(lease, actor)
                return
        self._end_lost(lease_id)

    async def _tell_to_hang_up(self, lease: Lease) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                actor = await self._garage.actor(lease.slot)
                return await actor.hangup(str(o.HUNG_UP_BY_API))
        except (ActorLost, TimeoutError):
            return False

    async def _pass_on(self, lease: Lease) -> bool:
        """Give a call that was not begun to another actor. Here a takeover of a running one will be decided."""
        self._garage.drop(lease.slot)
        now = self._book.get(lease.lease_id)
        if now is None or now.state is not LeaseState.GRANTED:
            return False
        loan = self._garage.lend(self._calls[lease.lease_id].request.profile)
        if loan is None:
            return False
        moved = self._book.reassign(lease.lease_id, loan.slot, self._clock.now())
        # The new token has to be durable before its holder uses it, or a restart would not know the holder.
        with suppress(JournalError):
            await self._journal.write(rows.changed(moved))
        return True

    async def _reattach(self, lease: Lease) -> None:
        await self._wait_for(lease, await self._garage.actor(lease.slot))

    async def _wait_for(self, lease: Lease, actor: CallActorPort) -> None:
        while self._is_current(lease):
            try:
                record = await actor.wait()
            except ActorLost as lost:
                if lost.gone:
                    self._end_lost(lease.lease_id)
                    return
                await asyncio.sleep(RETRY_S)
            else:
                await self._ended(lease, record)
                return

    async def _ended(self, lease: Lease, record: CallRecord) -> None:
        if not self._is_current(lease) or record.call_id != lease.call_id:
            return  # an actor that never got this call has an earlier one's record
        self._book.end(lease.lease_id)
        self._providers.failed(record.live_faults)
        try:
            await self._garage.weigh(lease.slot)
        except ActorLost:
            self._garage.drop(lease.slot)
        await self._finish(lease.lease_id, record)

    def _end_lost(self, lease_id: str) -> None:
        """The call's process is gone: what it last reported is what is known."""
        lease = self._book.get(lease_id)
        if lease is not None and lease.state is not LeaseState.ENDING:
            log.warning("the process of call %s in %s ended", lease.call_id, lease.slot)
            self._bury(self._book.end(lease_id))

    def _bury(self, lease: Lease) -> None:
        """The end of a lease that is `ENDING` and has no actor to write a record; nobody is left in silence."""
        call = self._calls[lease.lease_id]
        self._garage.drop(lease.slot)
        self._tasks.spawn("closing of a room", self._hang_up(call.request.room))
        record = call.lost_record(lease, o.ACTOR_DIED, self._clock.utc())
        self._tasks.spawn("the end of a call", self._finish(lease.lease_id, record))

    async def _hang_up(self, room: str) -> None:
        for attempt in range(ROOM_TRIES):
            if await self._close_room(room):
                return
            await asyncio.sleep(RETRY_S * 2**attempt)
        log.error("a room whose agent died could not be closed: LiveKit did not answer %d times", ROOM_TRIES)

    async def _finish(self, lease_id: str, record: CallRecord) -> None:
        """Write the end of a lease that is `ENDING`, then free its money and its actor in one step."""
        lease = self._book.get(lease_id)
        assert lease is not None  # noqa: S101 - only this closes an ending lease
        bill = dearer(lease.bill, Bill(record.metered, record.charges_usd_micros))
        record = replace(record, metered=bill.metered, charges_usd_micros=bill.charges, cost_usd_micros=bill.usd_micros)
        pause_s = RETRY_S
        while True:
            try:
                await self._journal.write(*rows.ended(lease, bill, record, self._clock.utc()))
                break
            except JournalError:
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
        self._book.settle(lease_id, bill)
        del self._calls[lease_id]
        self._garage.give_back(lease.slot)
        self.ended[str(record.outcome)] += 1
        self.tally.add(record)
        self.deliver(lease_id, record)

    async def _deliver(self, lease_id: str, record: CallRecord) -> None:
        pause_s = RETRY_S
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await self._history.finish(record)
                break
            except Exception as error:  # noqa: BLE001 - whatever ails the history, the record has to get there
                log.warning("the history did not take a record: %s", type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
        self._journal.note(rows.delivered(lease_id))

    def _is_current(self, lease: Lease) -> bool:
        """Whether the lease is open with the same holder, and nobody writes its end."""
        now = self._book.get(lease.lease_id)
        return now is not None and now.fencing_token == lease.fencing_token and now.state is not LeaseState.ENDING

    def _assignment(self, lease: Lease) -> Assignment:
        return self._calls[lease.lease_id].assignment(
            lease, renew_every_s=self._renew_every_s, lease_ttl_s=self._lease_ttl_s
        )
