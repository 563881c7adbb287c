"""The waiting room: the queue with a database behind it, and answers for those who wait.

Rules of this file:
1. Whoever was told that a call is queued finds it started later, or recorded with the reason why it was not. Callers
   who ring are recorded by whoever asks for them, who also hangs up.
2. A row goes in the commit that admits its call, or when the history has the record of its end: what a process leaves
   behind, the next one takes up where it was.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, bindparam, delete, insert, select, update

from cluster import outcome as o
from cluster.budget.calls import request_from_json, request_to_json
from cluster.budget.delivery import deliver
from cluster.budget.journal import DURABLE_WITHIN_S, PATIENCE_S, Journal, JournalError, Write
from cluster.budget.queue import Queue, Ticket
from cluster.budget.tables import waiting
from cluster.messages import Admission, CallRequest, Direction, Queued, Refused, Wait
from cluster.outcome import WHY_NOT, Outcome
from cluster.records.refusal import refusal
from cluster.records.views import QUEUED
from cluster.tasks import TaskSet
from cluster.telephony.masking import mask

if TYPE_CHECKING:
    from cluster.budget.policy import QueuePolicy
    from cluster.budget.ports import History
    from cluster.budget.serving import Clock

log = logging.getLogger(__name__)

HOLD_S: Final = 3.0
"""How long an answer about a caller who rings is held back; then whoever asked looks whether the caller is there."""
BEGIN_WITHIN_S: Final = 1.0
GIVEN_UP: Final = 0.0
"""In place of a time: it does not wait any more, and the history has yet to hear why."""

_INSERT = insert(waiting)
_CHANGE = update(waiting).where(waiting.c.call_id == bindparam("of_call"))
_DELETE = delete(waiting).where(waiting.c.call_id == bindparam("of_call"))


class WaitingRoom:
    """Those who wait. All methods run in one event loop."""

    def __init__(
        self,
        queue: Queue,
        rules: Callable[[], QueuePolicy],
        journal: Journal,
        history: History,
        clock: Clock,
        *,
        closed: Callable[[CallRequest], Write],
    ) -> None:
        """`rules` gives those that hold now; `closed` has whoever asks for that call again find that it was it."""
        self._queue = queue
        self._rules = rules
        self._journal = journal
        self._history = history
        self._clock = clock
        self._closed = closed
        self._next_number = 1
        self._answers: dict[str, asyncio.Future[Admission]] = {}
        self._tasks = TaskSet()
        self.given_up: Counter[str] = Counter()
        """How many did not start, by the outcome's reason."""

    async def open(self, engine: Engine) -> None:
        """Take up what an earlier process left."""
        for ticket in await asyncio.to_thread(_load, engine):
            self._next_number = ticket.number + 1
            if ticket.expires_at == GIVEN_UP:
                why = WHY_NOT.get(ticket.waits_for, str(ticket.waits_for))
                self._tasks.spawn("the end of a queued call", self._record(ticket, ticket.waits_for, why))
            else:
                self._put(ticket)

    async def close(self) -> None:
        """Stop; those who wait go on with the next process."""
        await self._tasks.close()

    async def join(self, request: CallRequest, wait: Wait) -> Admission:
        """Let a request wait, and say how it stands with it. Raises `JournalError` where that can't be made durable."""
        rules, now, inbound = self._rules(), self._clock.utc(), request.direction is Direction.INBOUND
        if self._queue.count(request.direction, request.tenant) >= rules.size:
            return Refused(outcome=o.QUEUE_FULL, detail=WHY_NOT[o.QUEUE_FULL], retry_after_s=wait.retry_after_s)
        ticket = Ticket(
            request=request,
            asked_at=now,
            expires_at=min(
                now + (rules.inbound_ttl_s if inbound else rules.outbound_ttl_s),
                math.inf if request.dial_before is None else request.dial_before,
            ),
            number=self._next_number,
            waits_for=wait.outcome,
            retry_after_s=wait.retry_after_s,
        )
        self._next_number += 1
        answer = self._put(ticket)
        try:
            await self._journal.write(_joined(ticket), within_s=PATIENCE_S)
        except JournalError:
            if self._queue.of_call(request.call_id) is ticket:
                self._queue.take(ticket)
                del self._answers[request.call_id]
            raise
        if not inbound:
            with suppress(Exception):  # the ending writes what is missing
                async with asyncio.timeout(BEGIN_WITHIN_S):
                    await self._history.begin(request, now)
        return await self._hear(ticket, answer)

    async def hear(self, ticket: Ticket) -> Admission:
        """How it stands with one who waits."""
        return await self._hear(ticket, self._answers[ticket.request.call_id])

    def put_back(self, ticket: Ticket) -> None:
        """One that was taken from the queue to be started could not be: it waits on, where it was."""
        self._queue.put(ticket, self._rules().ageing_s)

    def answer(self, ticket: Ticket, said: Admission) -> None:
        """What came of it, for whoever waits to hear."""
        answer = self._answers.pop(ticket.request.call_id)
        if not answer.done():
            answer.set_result(said)

    def give_up(self, ticket: Ticket, outcome: Outcome, detail: str) -> asyncio.Future[None]:
        """It will not start, which is durable when what is returned is done. `detail` holds no personal data."""
        self._queue.take(ticket)
        self.given_up[outcome.reason] += 1
        self.answer(ticket, Refused(outcome=outcome, detail=detail))
        if ticket.request.direction is Direction.INBOUND:
            return self._journal.write(left(ticket.request.call_id))
        self._tasks.spawn("the end of a queued call", self._record(ticket, outcome, detail))
        return self._journal.write(_given_up(ticket, outcome), self._closed(ticket.request))

    async def leave(self, call_id: str, outcome: Outcome, detail: str) -> bool:
        """Somebody does not want the call any more. False if it does not wait."""
        ticket = self._queue.of_call(call_id)
        if ticket is None:
            return False
        await asyncio.wait([self.give_up(ticket, outcome, detail)], timeout=DURABLE_WITHIN_S)
        return True

    def expire(self) -> None:
        """Give up those whose time is over."""
        for ticket in self._queue.late(self._clock.utc()):
            why = WHY_NOT.get(ticket.waits_for, str(ticket.waits_for))
            detail = f"It waited {ticket.expires_at - ticket.asked_at:g} s in the queue, and could not start: {why}"
            self.give_up(ticket, o.WAITED_TOO_LONG, detail)

    def counts(self) -> dict[str, int]:
        """How many wait, by direction."""
        return {direction.value: self._queue.count(direction) for direction in Direction}

    def shown(self, tenant: str | None) -> list[dict[str, Any]]:
        """Those of a tenant, or all, in the order of their arrival. Numbers are masked."""
        return [self._shown(ticket) for ticket in self._queue if tenant in {None, ticket.request.tenant}]

    def rooms(self) -> Iterator[tuple[str, str]]:
        """The rooms of those that wait, each with the call's id."""
        return ((ticket.request.room, ticket.request.call_id) for ticket in self._queue)

    def _put(self, ticket: Ticket) -> asyncio.Future[Admission]:
        self._queue.put(ticket, self._rules().ageing_s)
        answer = self._answers[ticket.request.call_id] = asyncio.get_running_loop().create_future()
        return answer

    async def _hear(self, ticket: Ticket, answer: asyncio.Future[Admission]) -> Admission:
        if ticket.request.direction is Direction.INBOUND:
            await asyncio.wait({answer}, timeout=HOLD_S)
        return answer.result() if answer.done() else self._queued(ticket)

    def _queued(self, ticket: Ticket) -> Queued:
        # While it is being started it stands nowhere, and is as good as next.
        waits = self._queue.of_call(ticket.request.call_id) is ticket
        return Queued(
            call_id=ticket.request.call_id,
            position=self._queue.position(ticket) if waits else 1,
            estimated_wait_s=round(self._queue.estimated_wait_s(ticket), 1) if waits else 0.0,
            expires_in_s=round(max(0.0, ticket.expires_at - self._clock.utc()), 3),
            outcome=ticket.waits_for,
        )

    def _shown(self, ticket: Ticket) -> dict[str, Any]:
        request, queued = ticket.request, self._queued(ticket)
        return {
            "call_id": request.call_id,
            "tenant": request.tenant,
            "state": QUEUED,
            "direction": request.direction.value,
            "profile": request.profile,
            "campaign": request.campaign,
            "priority": request.priority,
            "number": mask(request.to if request.direction is Direction.OUTBOUND else request.from_),
            "waited_s": round(self._clock.utc() - ticket.asked_at, 3),
            "position": queued.position,
            "estimated_wait_s": queued.estimated_wait_s,
            "expires_in_s": queued.expires_in_s,
            "waits_for": str(ticket.waits_for),
        }

    async def _record(self, ticket: Ticket, outcome: Outcome, detail: str) -> None:
        request = ticket.request
        record = refusal(request, outcome, detail, asked_at=ticket.asked_at, ended_at=self._clock.utc())
        await deliver(self._history, record)
        self._journal.write(left(request.call_id))


def left(call_id: str) -> Write:
    """The call waits no more."""
    return _DELETE, {"of_call": call_id}


def _given_up(ticket: Ticket, outcome: Outcome) -> Write:
    return _CHANGE, {"of_call": ticket.request.call_id, "expires_at": GIVEN_UP, "waits_for": str(outcome)}


def _joined(ticket: Ticket) -> Write:
    return _INSERT, {
        "call_id": ticket.request.call_id,
        "number": ticket.number,
        "asked_at": ticket.asked_at,
        "expires_at": ticket.expires_at,
        "waits_for": str(ticket.waits_for),
        "request": request_to_json(ticket.request),
    }


def _load(engine: Engine) -> list[Ticket]:
    with engine.connect() as connection:
        return [
            Ticket(
                request=request_from_json(row.request),
                asked_at=row.asked_at,
                expires_at=row.expires_at,
                number=row.number,
                waits_for=Outcome.parse(row.waits_for),
            )
            for row in connection.execute(select(waiting).order_by(waiting.c.number))
        ]
