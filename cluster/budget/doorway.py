"""Where calls come in: one decision for each request, made durable before the call starts.

Rules of this file:
1. One message, one decision: between reading how things stand and reserving there is no await.
2. An admission is durable before its call starts; a repeated request gets the answer it got before.
3. Only admissions and those who wait are remembered. A refusal began nothing, so the same request is looked at anew.
4. Nobody overtakes who waits for the same.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster import outcome as o
from cluster.budget import rows
from cluster.budget.admission import Admit, decide
from cluster.budget.calls import OpenCall, fingerprint, terms_of
from cluster.budget.journal import PATIENCE_S, JournalError, Write
from cluster.budget.leases import Lease
from cluster.budget.queue import Lane, Queue, Ticket
from cluster.budget.rows import Answer
from cluster.budget.waiting import WaitingRoom, left
from cluster.messages import Admission, Admitted, CallRequest, Direction, Refused, Wait
from cluster.outcome import Outcome, Result

if TYPE_CHECKING:
    from cluster.budget.garage import Garage
    from cluster.budget.journal import Journal
    from cluster.budget.leases import LeaseBook
    from cluster.budget.limits import Limits
    from cluster.budget.ports import History
    from cluster.budget.prices import Prices
    from cluster.budget.providers import Providers
    from cluster.budget.serving import Clock, Serving
    from cluster.profiles import Profile

UNKNOWN_PROFILE: Final = Outcome(Result.POLICY, "unknown-profile")
KEY_REUSED: Final = Outcome(Result.POLICY, "idempotency-key-reused")
REUSED: Final = Refused(outcome=KEY_REUSED, detail="The idempotency key was used for another call; use a new one.")
DATABASE_UNAVAILABLE: Final = Outcome(Result.OURS, "database-unavailable")
DATABASE_RETRY_S: Final = 2.0
HUNG_UP: Final = "It was hung up while it waited in the queue."
SLOT_FREES_WITHIN_S: Final = 1.0
"""A lost call's actor is being ended, and its place is free in a moment."""
BEGIN_WITHIN_S: Final = 1.0
"""How long an admission waits for the history to have it, so that whoever asked for the call finds it there."""


class Doorway:
    """Admits calls or turns them away."""

    def __init__(
        self,
        *,
        limits: Limits,
        prices: Prices,
        profiles: Mapping[str, Profile],
        book: LeaseBook,
        garage: Garage,
        serving: Serving,
        journal: Journal,
        history: History,
        providers: Providers,
        clock: Clock,
        lease_ids: Iterator[str],
    ) -> None:
        """`lease_ids` gives names that were never used before."""
        self._queue = Queue(
            weight=lambda tenant: limits.policy.tenant(tenant).weight,
            held=lambda tenant: book.counts[Direction.OUTBOUND, tenant],
        )
        self.waiting_room = WaitingRoom(
            self._queue, lambda: limits.policy.queue, journal, history, clock, closed=self._close_for_good
        )
        self._limits = limits
        self._prices = prices
        self._profiles = profiles
        self._book = book
        self._garage = garage
        self._serving = serving
        self._journal = journal
        self._providers = providers
        self._clock = clock
        self._lease_ids = lease_ids
        self._answers: dict[tuple[str, str], Answer] = {}
        self._confirming: dict[tuple[str, str], asyncio.Task[Answer | Wait]] = {}
        self._placed: dict[str, _Placed] = {}
        """By call, those whose admission is being made durable."""
        self._served_at = 0
        """So many calls were open when somebody was last served: with fewer, those who wait come first."""
        self._alarm: asyncio.TimerHandle | None = None
        self.admitted = {"warm": 0, "cold": 0}
        """How many, by whether a parked actor was there."""
        self.turned_away: Counter[str] = Counter()
        """How many times, by the outcome's reason."""

    async def admit(self, request: CallRequest) -> Admission:
        """Decide on a request; the same one again gets the same admission, also while the first is being decided.

        Who has to wait is told the place in the queue: at once where somebody is to be dialled, after a few seconds
        where somebody rings, since then there may be a better answer.
        """
        if len(self._book) < self._served_at:
            self.serve()
        key = (request.tenant, request.request_id)
        if (answer := self._answers.get(key)) is not None:
            return _repeat(answer, request)
        if (confirming := self._confirming.get(key)) is not None:
            return await self._confirmed(confirming, request)
        if (ticket := self._queue.of_request(*key)) is not None:
            return await self.waiting_room.hear(ticket) if _same(ticket.request, request) else REUSED
        said = self._try(self._limits.routed(request))
        if isinstance(said, _Placed):
            return await self._confirmed(self._begin_to_confirm(said), request)
        return self._turn_away(said) if isinstance(said, Refused) else await self._let_wait(request, said)

    def serve(self) -> None:
        """Start those who wait, as far as they can be, in their order."""
        passed_over: set[Lane] = set()
        soon_s = math.inf
        self._queue.pass_time(self._clock.utc())
        while not self._limits.draining and (ticket := self._queue.next(passed_over)) is not None:
            said = self._place(ticket.request)
            if isinstance(said, _Placed):
                self._queue.take(ticket)
                self._begin_to_confirm(said, ticket)
            elif isinstance(said, Refused):
                self.waiting_room.give_up(ticket, said.outcome, said.detail)
            else:
                ticket.waits_for, ticket.retry_after_s = said.outcome, said.retry_after_s
                passed_over.add(ticket.lane)
                if said.outcome == o.OVER_CAPACITY:
                    break  # which everybody behind would meet too
                if said.outcome == o.OVER_TRUNK_RATE:
                    soon_s = min(soon_s, said.retry_after_s)
        self._served_at = len(self._book)
        self._serve_again_in(soon_s)

    async def hang_up(self, call_id: str) -> bool:
        """Somebody does not want a call that is queued, or just being admitted. False where it is neither."""
        if (placed := self._placed.get(call_id)) is not None:
            placed.call.hangup_asked = True
            return True
        return await self.waiting_room.leave(call_id, o.HUNG_UP_BY_API, HUNG_UP)

    def tick(self) -> None:
        """Do what is due."""
        self.waiting_room.expire()
        self.serve()

    async def close(self) -> None:
        """Stop. Those who wait, and those who are being admitted, find their answer with the next process."""
        self._serve_again_in(math.inf)
        await self.waiting_room.close()

    def remember(self, answers: Mapping[tuple[str, str], Answer]) -> None:
        """Give these answers again; what an earlier process said, by tenant and request id."""
        self._answers.update(answers)

    def forget_before(self, too_old: float) -> None:
        """Answers older than that (UTC seconds) are not given again."""
        self._answers = {key: answer for key, answer in self._answers.items() if answer.at >= too_old}
        self._journal.note(rows.forgotten(too_old))

    def _try(self, request: CallRequest) -> _Placed | Wait | Refused:
        first = self._queue.head(Lane(request.direction, request.tenant, request.campaign, request.trunk))
        if first is not None:
            return Wait(outcome=first.waits_for, retry_after_s=first.retry_after_s)
        return self._place(request)

    async def _let_wait(self, request: CallRequest, wait: Wait) -> Admission:
        try:
            said = await self.waiting_room.join(self._limits.routed(request), wait)
        except JournalError:
            said = Wait(outcome=DATABASE_UNAVAILABLE, retry_after_s=DATABASE_RETRY_S)
        return self._turn_away(said) if isinstance(said, Wait | Refused) else said

    def _serve_again_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        soon = seconds < math.inf
        self._alarm = asyncio.get_running_loop().call_later(seconds, self.serve) if soon else None

    def _place(self, request: CallRequest) -> _Placed | Wait | Refused:
        """Decide, reserve the money and take an actor, in one step."""
        profile = self._profiles.get(request.profile)
        if profile is None:
            known = ", ".join(sorted(self._profiles))
            return Refused(outcome=UNKNOWN_PROFILE, detail=f"There is no such profile; there are {known}.")
        today = self._clock.today()
        terms = terms_of(request, profile, self._prices, today)
        decision = decide(terms.wish(self._book.ttl_s), self._limits.load(request, profile))
        if not isinstance(decision, Admit):
            return decision
        loan = self._garage.lend(profile.name)
        if loan is None:
            return Wait(outcome=o.OVER_CAPACITY, retry_after_s=SLOT_FREES_WITHIN_S)
        if not loan.warm:
            self._providers.ask(profile.model)
        lease = Lease(
            lease_id=next(self._lease_ids),
            call_id=request.call_id,
            tenant=request.tenant,
            day=str(today),
            slot=loan.slot,
            max_cost_usd_micros=terms.max_cost_usd_micros,
            reserved_usd_micros=decision.reserve_usd_micros,
            direction=request.direction,
            campaign=request.campaign,
            trunk=request.trunk,
            profile=profile.name,
            destination=terms.tariff.destination,
            granted_at=self._clock.utc(),
        )
        self._limits.take(request)
        self._queue.started(request, self._clock.utc())
        self._served_at = len(self._book) + 1
        call = OpenCall(request=request, terms=terms, started_at=lease.granted_at)
        admitted = Admitted(call_id=request.call_id, lease_id=lease.lease_id, warm=loan.warm)
        return _Placed(self._book.grant(lease), call, admitted)

    def _begin_to_confirm(self, placed: _Placed, ticket: Ticket | None = None) -> asyncio.Task[Answer | Wait]:
        key = (placed.call.request.tenant, placed.call.request.request_id)
        self._placed[placed.lease.call_id] = placed
        confirming = self._confirming[key] = asyncio.create_task(self._confirm(placed, ticket), name="admission")
        confirming.add_done_callback(lambda _: self._confirming.pop(key))
        return confirming

    async def _confirmed(self, confirming: asyncio.Task[Answer | Wait], request: CallRequest) -> Admission:
        said = await asyncio.shield(confirming)
        return self._turn_away(said) if isinstance(said, Wait) else _repeat(said, request)

    async def _confirm(self, placed: _Placed, ticket: Ticket | None) -> Answer | Wait:
        """Make an admission durable, then have the call started. One from the queue waits on if that fails."""
        request, lease = placed.call.request, placed.lease
        answer = Answer(fingerprint(request), placed.admitted, placed.call.started_at)
        writes = (*rows.admitted(lease, request, answer), *([left(request.call_id)] if ticket else []))
        try:
            await self._journal.write(*writes, within_s=PATIENCE_S)
        except JournalError:
            self._book.release(lease.lease_id)
            self._garage.give_back(lease.slot)
            if ticket is not None:
                self.waiting_room.put_back(ticket)
                if placed.call.hangup_asked:
                    self.waiting_room.give_up(ticket, o.HUNG_UP_BY_API, HUNG_UP)
            return Wait(outcome=DATABASE_UNAVAILABLE, retry_after_s=DATABASE_RETRY_S)
        finally:
            del self._placed[request.call_id]
        self._answers[request.tenant, request.request_id] = answer
        self.admitted["warm" if placed.admitted.warm else "cold"] += 1
        announced = self._serving.begin(lease, placed.call)
        if ticket is not None:
            self.waiting_room.answer(ticket, placed.admitted)
        # Who asks for the call as soon as it is admitted should find it.
        await asyncio.wait([announced], timeout=BEGIN_WITHIN_S)
        return answer

    def _close_for_good(self, request: CallRequest) -> Write:
        """A queued call will not start: the same request is still that call, and never another one."""
        said = Admitted(call_id=request.call_id, lease_id="", warm=False)
        answer = Answer(fingerprint(request), said, self._clock.utc())
        self._answers[request.tenant, request.request_id] = answer
        return rows.answered(request, answer)

    def _turn_away(self, answer: Wait | Refused) -> Wait | Refused:
        self.turned_away[answer.outcome.reason] += 1
        return answer


@dataclass(frozen=True, slots=True)
class _Placed:
    """A decision that holds money and an actor, and is not durable yet."""

    lease: Lease
    call: OpenCall
    admitted: Admitted


def _repeat(answer: Answer, request: CallRequest) -> Admission:
    """What was said before. The room of an inbound call is request enough: its hints may differ in details."""
    reused = request.direction is Direction.OUTBOUND and answer.fingerprint != fingerprint(request)
    return REUSED if reused else answer.admitted


def _same(waiting: CallRequest, request: CallRequest) -> bool:
    return request.direction is Direction.INBOUND or fingerprint(waiting) == fingerprint(request)
