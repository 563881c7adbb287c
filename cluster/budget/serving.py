"""Sees every admitted call to its one end: start, wait, settle, record.

Rules of this file:
1. A call ends once. Whoever moves its lease to `ENDING` writes the end; everybody else finds it moved and does nothing.
2. The end is durable before its money and its actor are free again, and before the history is told; the history is told
   again and again until it has it, also by the next process.
3. A call outlives its actor: when that ended, or is silent and does not answer, another one goes on with the call under
   a newer fencing token. Should the old one live on, LiveKit puts it out of the room, and nothing that it says counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

from cluster import outcome as o
from cluster.budget import rows
from cluster.budget.calls import NOT_DIALLED, OpenCall, recollection
from cluster.budget.delivery import announce, deliver, hang_up
from cluster.budget.garage import ANSWER_WITHIN_S, Garage
from cluster.budget.journal import DURABLE_WITHIN_S, Journal, JournalError
from cluster.budget.leases import Lease, LeaseBook, LeaseState, may_move
from cluster.budget.pool import Loan
from cluster.budget.ports import ActorLost, CallActorPort, CloseRoom, Farewell, History
from cluster.budget.pricing import Bill, dearer
from cluster.budget.providers import Providers
from cluster.budget.vigil import Vigil
from cluster.messages import Assignment, CallRecord, CallRequest, Renewal
from cluster.metrics import Tally
from cluster.outcome import Outcome
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

START_WITHIN_S: Final = 15.0
"""Starting a call takes milliseconds, the first one of a process on a busy machine seconds."""
ASK_WITHIN_S: Final = 1.0
"""A process that lives answers within milliseconds, on a busy machine within a fraction of this."""
BORROW_WITHIN_S: Final = 10.0
RECALL_WITHIN_S: Final = 1.0
FAREWELL_WITHIN_S: Final = 15.0
"""A process is started for it, and the sentence takes 5 s."""
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 10.0


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
        farewell: Farewell,
        close_room: CloseRoom,
        clock: Clock,
        providers: Providers,
        objection: Callable[[CallRequest], Outcome | None],
        renew_every_s: float,
        lease_ttl_s: float,
    ) -> None:
        """`objection` says why somebody must not be dialled now; the last two are what a call is told of its lease."""
        self._book = book
        self._garage = garage
        self._journal = journal
        self._history = history
        self._farewell = farewell
        self._close_room = close_room
        self._clock = clock
        self._providers = providers
        self._objection = objection
        self._renew_every_s = renew_every_s
        self._lease_ttl_s = lease_ttl_s
        self._calls: dict[str, OpenCall] = {}
        self._tasks = TaskSet()
        self.ended: Counter[str] = Counter()
        """Calls that ended, by outcome."""
        self.tally = Tally()
        """What they measured."""
        self.takeovers: Counter[str] = Counter()
        """Calls that went on in another process, warm or cold."""
        self._vigil = Vigil(renew_every_s)
        self._waiting: dict[str, asyncio.Future[CallRecord]] = {}
        self._asked: set[str] = set()
        """Leases that were silent for too long, and whose holder is being asked."""
        self._suspects: set[tuple[str, int]] = set()
        """Leases with the fencing tokens of holders that are as good as dead."""

    def call(self, lease_id: str) -> OpenCall | None:
        """The open call of a lease."""
        return self._calls.get(lease_id)

    def begin(self, lease: Lease, call: OpenCall) -> asyncio.Task[None]:
        """Have the call started by the actor that its lease names; what is returned ends when the history knows."""
        self._calls[lease.lease_id] = call
        self._book.launch(lease.lease_id, self._clock.now())
        self._tasks.spawn("a call", self._serve(lease.lease_id))
        return self._announce(call)

    def resume(self, lease: Lease, call: OpenCall) -> None:
        """Take over a call that an earlier process began; one without an actor gets another."""
        self._calls[lease.lease_id] = call
        if lease.slot:
            self._book.started(lease.lease_id, self._clock.now())
        self._tasks.spawn("a call", self._serve(lease.lease_id, begun=True))
        self._announce(call)

    async def hang_up(self, call_id: str) -> bool:
        """End a call at the API's wish; False where there is none. One that has not begun ends when it has."""
        lease = self._book.of_call(call_id)
        call = self.call(lease.lease_id) if lease else None
        if lease is None or call is None or lease.state is LeaseState.ENDING:
            return False
        call.hangup_asked = True
        if lease.state is LeaseState.GRANTED:
            if call.nobody_was_called(lease):  # and nobody may be, by the next process of the pool either
                unwanted = rows.changed(self._book.wind_down(lease.lease_id))
                await self._journal.try_write(unwanted, wait_s=DURABLE_WITHIN_S)
            return True
        return await self._tell_to_hang_up(lease)

    def give_up(self, call_id: str) -> None:
        """End a call, and the process that has it, as if that had died."""
        if (lease := self._book.of_call(call_id)) is not None:
            self._end_lost(lease.lease_id)

    def deliver(self, lease_id: str, record: CallRecord) -> None:
        """Tell the history of an ending until it knows."""
        self._tasks.spawn("delivery of a record", self._deliver(lease_id, record))

    def renewed(self, renewal: Renewal) -> None:
        """A call was heard of by its holder."""
        call = self._calls[renewal.lease_id]
        call.renewal, call.renewed_at = renewal, self._clock.utc()
        self._vigil.heard(renewal.lease_id, self._clock.now())

    def tick(self) -> None:
        """Look after those who were silent for too long: ask, and end what nobody could take over in time."""
        for lease_id in self._vigil.silent(self._clock.now()):
            if (lease := self._book.get(lease_id)) is not None:
                self._tasks.spawn("a question", self._ask(lease))
        for lease in self._book.expire(self._clock.now()):
            log.warning("lease %s ran out without a sign of life from %s", lease.lease_id, lease.slot)
            self._bury(lease)

    async def close(self) -> None:
        """Stop watching; the calls go on."""
        await self._tasks.close()

    def _announce(self, call: OpenCall) -> asyncio.Task[None]:
        return self._tasks.spawn("news of a call", announce(self._history, call.request, call.started_at))

    async def _serve(self, lease_id: str, *, begun: bool = False) -> None:
        """From one actor to the next, until the call has ended; `begun`: the first one has it already."""
        while (lease := self._book.get(lease_id)) is not None and lease.state is not LeaseState.ENDING:
            actor = await (self._attach(lease) if begun else self._start(lease))
            begun = False
            if actor is not None:
                await self._watch(lease, actor)
            if self._is_current(lease):
                await self._recall(lease_id)
            if self._is_current(lease) and not await self._pass_on(lease):
                self._end_lost(lease_id)

    async def _attach(self, lease: Lease) -> CallActorPort | None:
        self._vigil.heard(lease.lease_id, self._clock.now())
        try:
            return await self._garage.actor(lease.slot)
        except ActorLost:
            return None

    async def _start(self, lease: Lease) -> CallActorPort | None:
        """Have the call begun, or gone on with; None where the actor is lost, or nobody is to be dialled any more."""
        try:
            actor = await self._garage.actor(lease.slot)
            if self._is_current(lease) and (outcome := self._not_any_more(lease.lease_id)) is not None:
                self._end_undialled(lease.lease_id, outcome)
                return None
            async with asyncio.timeout(START_WITHIN_S):
                await actor.start(self._assignment(lease))
        except (ActorLost, TimeoutError):
            return None
        if self._is_current(lease):
            self._book.started(lease.lease_id, self._clock.now())
            self._vigil.heard(lease.lease_id, self._clock.now())
            if self._calls[lease.lease_id].hangup_asked:
                await self._tell_to_hang_up(lease)
        return actor

    def _not_any_more(self, lease_id: str) -> Outcome | None:
        """Why a call should not begin though it was admitted: since then a process was started, or all were lost."""
        lease, call = self._book.get(lease_id), self._calls[lease_id]
        if lease is None or not call.nobody_was_called(lease):
            return None
        return call.too_late(lease, self._clock.utc()) or self._objection(call.request)

    def _end_undialled(self, lease_id: str, outcome: Outcome) -> None:
        call = self._calls[lease_id]
        record = call.lost_record(self._book.end(lease_id), outcome, self._clock.utc())
        self._tasks.spawn("the end of a call", self._finish(lease_id, replace(record, detail=NOT_DIALLED)))
        self._tasks.spawn("the end of its room", hang_up(self._close_room, call.request.room))

    async def _tell_to_hang_up(self, lease: Lease) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                actor = await self._garage.actor(lease.slot)
                return await actor.hangup(str(o.HUNG_UP_BY_API))
        except (ActorLost, TimeoutError):
            return False

    async def _watch(self, lease: Lease, actor: CallActorPort) -> None:
        """Return when the call has ended, or its process is lost."""
        holder = lease.lease_id, lease.fencing_token
        while self._is_current(lease) and holder not in self._suspects:
            waiting = self._waiting[lease.lease_id] = asyncio.ensure_future(actor.wait())
            try:
                await asyncio.wait([waiting])
            finally:
                waiting.cancel()
                del self._waiting[lease.lease_id]
            if waiting.cancelled():
                break
            if (lost := waiting.exception()) is None:
                await self._ended(lease, waiting.result())
                break
            if not isinstance(lost, ActorLost):
                raise lost
            if lost.gone:
                break
            if lease.lease_id in self._asked:  # neither heard nor to be reached
                self._suspects.add(holder)
                break
            self._vigil.doubt(lease.lease_id, self._clock.now())
            await asyncio.sleep(RETRY_S)
        self._vigil.forget(lease.lease_id)

    async def _ask(self, lease: Lease) -> None:
        """It was silent for too long; if it does not answer either, another actor gets its call."""
        self._asked.add(lease.lease_id)
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                status = await (await self._garage.actor(lease.slot)).status()
            if status.lease_id == lease.lease_id:
                return
        except (ActorLost, TimeoutError):
            pass
        finally:
            self._asked.discard(lease.lease_id)
        if self._is_current(lease):
            self._suspects.add((lease.lease_id, lease.fencing_token))
            if (waiting := self._waiting.get(lease.lease_id)) is not None:
                waiting.cancel()

    async def _pass_on(self, lease: Lease) -> bool:
        """Give the call to another actor; False where there is none, or its actors are lost too often."""
        holder = lease.lease_id, lease.fencing_token
        is_silent = holder in self._suspects
        self._suspects.discard(holder)
        loan = await self._borrow(lease, is_silent=is_silent)
        if loan is None:
            return False
        if not self._is_current(lease):
            self._garage.give_back(loan.slot)
            return False
        moved = self._book.reassign(lease.lease_id, loan.slot, self._clock.now())
        self.takeovers["warm" if loan.warm else "cold"] += 1
        log.warning("the actor %s of call %s is lost; %s goes on", lease.slot, lease.call_id, loan.slot)
        # The new token should be durable before its holder uses it, or a restart would not know the holder; but nobody
        # waits on the phone until a database is back.
        await self._journal.try_write(rows.changed(moved), wait_s=DURABLE_WITHIN_S)
        return True

    async def _recall(self, lease_id: str) -> None:
        """The heartbeats of a call went with an earlier process of the pool: what was said is in the history."""
        call = self._calls[lease_id]
        if call.renewal is not None:
            return
        try:
            async with asyncio.timeout(RECALL_WITHIN_S):
                shown = await self._history.call(call.request.call_id, call.request.tenant)
        except Exception as error:  # noqa: BLE001 - better a call that begins again than none
            log.warning("the history of a lost call could not be read: %s", type(error).__name__)
            return
        call.recalled = recollection(shown) if shown else None

    async def _borrow(self, lease: Lease, *, is_silent: bool) -> Loan | None:
        """Another actor, as soon as there is one. Who is on the phone does not wait for ever."""
        until = self._clock.now() + BORROW_WITHIN_S
        while self._is_current(lease) and may_move(lease, self._clock.now()):
            profile = self._calls[lease.lease_id].request.profile
            loan = await self._garage.relieve(lease.slot, profile, is_silent=is_silent)
            if loan is not None or self._clock.now() >= until:
                return loan
            await asyncio.sleep(RETRY_S)
        return None

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
        self._tasks.spawn("a farewell", self._dismiss(call))
        record = call.lost_record(lease, o.ACTOR_DIED, self._clock.utc())
        self._tasks.spawn("the end of a call", self._finish(lease.lease_id, record))

    async def _dismiss(self, call: OpenCall) -> None:
        """Nobody can go on with the call: whoever is on the phone is told so, and it is hung up."""
        if call.has_listener:
            try:
                async with asyncio.timeout(FAREWELL_WITHIN_S):
                    await self._farewell(call.request)
            except Exception as error:  # noqa: BLE001 - the phone is hung up whatever comes of it
                log.warning("a caller could not be told that the call is lost: %s", type(error).__name__)
        await hang_up(self._close_room, call.request.room)

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
        known_as = {"call_id": record.call_id, "room": record.room, "slot": record.slot}
        log.info("a call has ended", extra=known_as | {"outcome": str(record.outcome)})
        self.deliver(lease_id, record)

    async def _deliver(self, lease_id: str, record: CallRecord) -> None:
        await deliver(self._history, record)
        self._journal.note(rows.delivered(lease_id))

    def _is_current(self, lease: Lease) -> bool:
        """Whether the lease is open with the same holder, and nobody writes its end."""
        now = self._book.get(lease.lease_id)
        return now is not None and now.fencing_token == lease.fencing_token and now.state is not LeaseState.ENDING

    def _assignment(self, lease: Lease) -> Assignment:
        return self._calls[lease.lease_id].assignment(
            lease,
            renew_every_s=self._renew_every_s,
            lease_ttl_s=self._lease_ttl_s,
            concise=self._book.is_concise(lease),
            utc=self._clock.utc(),
        )
