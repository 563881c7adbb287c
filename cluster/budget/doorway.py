"""Where calls come in: one decision for each request, made durable before the call starts.

Rules of this file:
1. One message, one decision: between reading how things stand and reserving there is no await.
2. An admission is durable before its call starts; a repeated request gets the answer it got before.
3. Only an admission is remembered. A refusal began nothing, so the same request is looked at anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.budget import rows
from cluster.budget.admission import Admit, decide
from cluster.budget.calls import OpenCall, fingerprint, terms_of
from cluster.budget.journal import JournalError
from cluster.budget.leases import Lease
from cluster.budget.rows import Answer
from cluster.messages import Admission, Admitted, CallRequest, Direction, Refused, Wait
from cluster.outcome import OVER_CAPACITY, Outcome, Result

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
DATABASE_UNAVAILABLE: Final = Outcome(Result.OURS, "database-unavailable")
DATABASE_RETRY_S: Final = 2.0
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
        self._limits = limits
        self._prices = prices
        self._profiles = profiles
        self._book = book
        self._garage = garage
        self._serving = serving
        self._journal = journal
        self._history = history
        self._providers = providers
        self._clock = clock
        self._lease_ids = lease_ids
        self._answers: dict[tuple[str, str], Answer] = {}
        self._confirming: dict[tuple[str, str], asyncio.Task[Answer | Wait]] = {}
        self.admitted = {"warm": 0, "cold": 0}
        """How many, by whether a parked actor was there."""
        self.turned_away: Counter[str] = Counter()
        """How many times, by the outcome's reason."""

    async def admit(self, request: CallRequest) -> Admission:
        """Decide on a request; the same one again gets the same admission, also while the first is being decided."""
        key = (request.tenant, request.request_id)
        if (answer := self._answers.get(key)) is not None:
            return _repeat(answer, request)
        confirming = self._confirming.get(key)
        if confirming is None:
            placed = self._place(request)
            if not isinstance(placed, _Placed):
                return self._turn_away(placed)
            confirming = self._confirming[key] = asyncio.create_task(self._confirm(placed), name="admission")
            confirming.add_done_callback(lambda _: self._confirming.pop(key))
        said = await asyncio.shield(confirming)
        return self._turn_away(said) if isinstance(said, Wait) else _repeat(said, request)

    def remember(self, answers: Mapping[tuple[str, str], Answer]) -> None:
        """Give these answers again; what an earlier process said, by tenant and request id."""
        self._answers.update(answers)

    def forget_before(self, too_old: float) -> None:
        """Answers older than that (UTC seconds) are not given again."""
        self._answers = {key: answer for key, answer in self._answers.items() if answer.at >= too_old}
        self._journal.write(rows.forgotten(too_old))

    def _place(self, request: CallRequest) -> _Placed | Wait | Refused:
        """Decide, reserve the money and take an actor, in one step."""
        profile = self._profiles.get(request.profile)
        if profile is None:
            known = ", ".join(sorted(self._profiles))
            return Refused(outcome=UNKNOWN_PROFILE, detail=f"There is no such profile; there are {known}.")
        request, today = self._limits.routed(request), self._clock.today()
        terms = terms_of(request, profile, self._prices, today)
        decision = decide(terms.wish(), self._limits.load(request, profile))
        if not isinstance(decision, Admit):
            return decision
        loan = self._garage.lend(profile.name)
        if loan is None:
            return Wait(outcome=OVER_CAPACITY, retry_after_s=SLOT_FREES_WITHIN_S)
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
        )
        self._limits.take(request)
        call = OpenCall(request=request, terms=terms, started_at=self._clock.utc())
        admitted = Admitted(call_id=request.call_id, lease_id=lease.lease_id, warm=loan.warm)
        return _Placed(self._book.grant(lease), call, admitted)

    async def _confirm(self, placed: _Placed) -> Answer | Wait:
        """Make an admission durable, then have the call started."""
        request, lease = placed.call.request, placed.lease
        answer = Answer(fingerprint(request), placed.admitted, placed.call.started_at)
        try:
            await self._journal.write(*rows.admitted(lease, request, answer))
        except JournalError:
            self._book.release(lease.lease_id)
            self._garage.give_back(lease.slot)
            return Wait(outcome=DATABASE_UNAVAILABLE, retry_after_s=DATABASE_RETRY_S)
        self._answers[request.tenant, request.request_id] = answer
        self.admitted["warm" if placed.admitted.warm else "cold"] += 1
        self._serving.begin(lease, placed.call)
        with suppress(Exception):  # the ending writes what is missing
            async with asyncio.timeout(BEGIN_WITHIN_S):
                await self._history.begin(request, placed.call.started_at)
        return answer

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
    if request.direction is Direction.OUTBOUND and answer.fingerprint != fingerprint(request):
        return Refused(outcome=KEY_REUSED, detail="The idempotency key was used for another call; use a new one.")
    return answer.admitted
