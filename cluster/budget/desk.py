"""The desk where calls are asked for: admission, renewals, and what is known of the live ones.

Rules of this file:
1. One message, one decision: between reading how things stand and reserving there is no await.
2. An admission is durable before its call starts; a repeated request gets the answer it got before.
3. Only an admission is remembered. A refusal began nothing, so the same request is looked at anew.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from cluster.budget import rows
from cluster.budget.admission import Admit, Load, decide
from cluster.budget.calls import OpenCall, fingerprint, terms_of
from cluster.budget.garage import START_WITHIN_S, Garage
from cluster.budget.journal import Journal, JournalError
from cluster.budget.leases import Lease, LeaseBook, LeaseState
from cluster.budget.pool import Pool, SlotState
from cluster.budget.providers import Providers
from cluster.budget.rows import Answer
from cluster.budget.serving import SYSTEM_CLOCK, Clock, Serving
from cluster.messages import Admission, Admitted, CallRequest, Direction, Refused, Renewal, Verdict, Wait
from cluster.outcome import OVER_CAPACITY, Outcome, Result
from cluster.telephony.masking import mask

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cluster.budget.ports import CallActors, CloseRoom, History
    from cluster.budget.rules import DeskRules
    from cluster.profiles import Profile

log = logging.getLogger(__name__)

UNKNOWN_PROFILE: Final = Outcome(Result.POLICY, "unknown-profile")
KEY_REUSED: Final = Outcome(Result.POLICY, "idempotency-key-reused")
DATABASE_UNAVAILABLE: Final = Outcome(Result.OURS, "database-unavailable")
DATABASE_RETRY_S: Final = 2.0
SLOT_FREES_WITHIN_S: Final = 1.0
"""A lost call's actor is being ended, and its place is free in a moment."""

ANSWERS_KEPT_S: Final = 86_400.0
TICK_S: Final = 0.25
SWEEP_EVERY_S: Final = 600.0
BEGIN_WITHIN_S: Final = 1.0
"""How long an admission waits for the history to have it, so that whoever asked for the call finds it there."""


class Desk:
    """The one place that admits calls. All methods run in one event loop."""

    def __init__(
        self,
        *,
        rules: DeskRules,
        profiles: Mapping[str, Profile],
        engine: Engine,
        actors: CallActors,
        history: History,
        close_room: CloseRoom,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Must be made in the event loop that it is used in. `engine`'s database is at the newest migration."""
        self._rules = rules
        self._profiles = profiles
        self._engine = engine
        self._clock = clock
        self._book = LeaseBook(ttl_s=rules.lease_ttl_s, start_within_s=START_WITHIN_S)
        self._journal = Journal(engine)
        self._providers = Providers(rules.breaker, clock.now)
        self._garage = Garage(
            Pool(rules.pool, _names("call-slot")),
            actors,
            clock.now,
            providers=self._providers,
            models={name: profile.model for name, profile in profiles.items()},
            setup_timeout_s=rules.setup_timeout_s,
        )
        self._serving = Serving(
            book=self._book,
            garage=self._garage,
            journal=self._journal,
            history=history,
            close_room=close_room,
            clock=clock,
            providers=self._providers,
            renew_every_s=rules.renew_every_s,
            lease_ttl_s=rules.lease_ttl_s,
        )
        self._history = history
        self._lease_ids = _names("lease")
        self._answers: dict[tuple[str, str], Answer] = {}
        self._confirming: dict[tuple[str, str], asyncio.Task[Answer | Wait]] = {}
        self._draining = False
        self._admitted = {"warm": 0, "cold": 0}
        self._turned_away: Counter[str] = Counter()
        self._ticking: asyncio.Task[None] | None = None
        self._next_sweep = 0.0

    async def open(self) -> None:
        """Read what an earlier process left, attach to the calls that live, and begin to keep the pool.

        Raises `PriceError` if a profile's model has no price.
        """
        for profile in self._profiles.values():
            for target in profile.targets():
                self._rules.prices.rates(target.model, self._today())
        utc = self._clock.utc()
        self._journal.write(rows.forgotten(utc - ANSWERS_KEPT_S))
        stored = await asyncio.to_thread(rows.load, self._engine, str(self._today()), utc - ANSWERS_KEPT_S)
        self._answers.update(stored.answers)
        for (tenant, day), spent in stored.spent_usd_micros.items():
            self._book.load_spent(tenant, day, spent)
        live = await self._garage.adopt({row.lease.slot: row.lease.lease_id for row in stored.open})
        for row in stored.open:
            # A profile that is gone meanwhile runs on in its actor; only the margin for its goodbye is a guess.
            profile = self._profiles.get(row.request.profile) or next(iter(self._profiles.values()))
            terms = terms_of(row.request, profile, self._rules.prices, date.fromisoformat(row.lease.day))
            # An actor that has not got the call serves others: with the lease it has no more to do.
            slot = row.lease.slot if row.lease.slot in live else ""
            # Whoever holds it has a whole time to live to be heard of: a restart takes nothing from anybody.
            expires_at = self._clock.now() + self._rules.lease_ttl_s
            lease = self._book.grant(replace(row.lease, slot=slot, expires_at=expires_at))
            self._serving.resume(lease, OpenCall(request=row.request, terms=terms, started_at=row.granted_at))
        for lease_id, record in stored.undelivered.items():
            self._serving.deliver(lease_id, record)
        self._ticking = asyncio.create_task(self._tick_for_ever(), name="desk")

    async def close(self) -> None:
        """Stop, with everything written. Calls and actors live on for the next process."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._serving.close()
        await self._garage.close()
        await self._journal.close()

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

    async def renew(self, renewal: Renewal) -> Verdict:
        """A call's heartbeat."""
        call = self._serving.call(renewal.lease_id)
        if call is None:
            return Verdict.VOID
        renewed = self._book.renew(
            renewal.lease_id,
            renewal.fencing_token,
            cost_usd_micros=renewal.cost_usd_micros,
            wind_down_usd_micros=call.terms.wind_down_usd_micros(renewal.talk_s),
            daily_budget_usd_micros=self._rules.daily_budget_usd_micros,
            now=self._clock.now(),
        )
        if renewed.lease is None:
            return renewed.verdict
        call.renewal, call.renewed_at = renewal, self._clock.utc()
        self._providers.failed(renewal.live_faults)
        if renewal.live_ok:
            self._providers.succeeded(renewal.live_model or call.terms.model)
        written = self._journal.write(rows.changed(renewed.lease))
        if renewed.extended:
            # Should the database be away, the reservation holds in memory: no live call is ended for that.
            with suppress(JournalError):
                await written
        return renewed.verdict

    async def hangup(self, call_id: str) -> bool:
        """End a live call; False where there is none."""
        return await self._serving.hang_up(call_id)

    def drain(self, *, on: bool) -> None:
        """Take no new calls from now on, or take them again. Live calls go on."""
        self._draining = on

    def capacity(self) -> int:
        """How many more calls could start now."""
        return 0 if self._draining else max(0, self._rules.max_calls - len(self._book))

    def live_calls(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The open calls of a tenant, or of all, oldest first. Numbers are masked."""
        found = ((lease, self._serving.call(lease.lease_id)) for lease in self._book)
        utc = self._clock.utc()
        return [_shown(lease, call, utc) for lease, call in found if call and tenant in {None, lease.tenant}]

    def statistics(self) -> dict[str, Any]:
        """How things stand, as plain numbers. Money is of today (UTC), in micro-dollars."""
        states = self._garage.states()
        money = self._book.tenants(str(self._today()))
        return {
            "max_calls": self._rules.max_calls,
            "live_calls": len(self._book),
            "free": self.capacity(),
            "draining": self._draining,
            "actors": states.total(),
            "parked": states[SlotState.PARKED],
            "busy": states[SlotState.LENT],
            "starting": states[SlotState.STARTING],
            "preparing": states[SlotState.PREPARING],
            "idle": states[SlotState.IDLE],
            "parked_by_profile": dict(self._garage.parked()),
            "daily_budget_usd_micros": self._rules.daily_budget_usd_micros,
            "spent_usd_micros": {tenant: spent for tenant, (spent, _) in money.items()},
            "reserved_usd_micros": {tenant: reserved for tenant, (_, reserved) in money.items()},
            "admitted": dict(self._admitted),
            "turned_away": dict(self._turned_away),
            "ended": dict(self._serving.ended),
            "failed_setups": self._garage.failed_setups,
            "lost_actors": self._garage.lost_actors,
            "breakers": self._providers.states(),
            "live_faults": dict(self._providers.faults),
            "measured": self._serving.tally.snapshot(),
        }

    def _place(self, request: CallRequest) -> _Placed | Wait | Refused:
        """Decide, reserve the money and take an actor, in one step."""
        profile = self._profiles.get(request.profile)
        if profile is None:
            known = ", ".join(sorted(self._profiles))
            return Refused(outcome=UNKNOWN_PROFILE, detail=f"There is no such profile; there are {known}.")
        terms = terms_of(request, profile, self._rules.prices, self._today())
        # A caller who is there is not sent away: a fallback may serve, and a recorded sentence is better than a tone.
        outbound = request.direction is Direction.OUTBOUND
        live_wait_s = self._providers.wait_s(profile.model) if outbound else 0.0
        decision = decide(terms.wish(), self._load(request.tenant, live_wait_s))
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
            day=str(self._today()),
            slot=loan.slot,
            max_cost_usd_micros=terms.max_cost_usd_micros,
            reserved_usd_micros=decision.reserve_usd_micros,
        )
        call = OpenCall(request=request, terms=terms, started_at=self._clock.utc())
        admitted = Admitted(call_id=request.call_id, lease_id=lease.lease_id, warm=loan.warm)
        return _Placed(self._book.grant(lease), call, admitted)

    def _load(self, tenant: str, live_wait_s: float) -> Load:
        today = datetime.fromtimestamp(self._clock.utc(), UTC)
        spent, reserved = self._book.money(tenant, str(today.date()))
        midnight = datetime.combine(today.date() + timedelta(days=1), datetime.min.time(), UTC)
        return Load(
            draining=self._draining,
            leases=len(self._book),
            max_calls=self._rules.max_calls,
            spent_usd_micros=spent,
            reserved_usd_micros=reserved,
            daily_budget_usd_micros=self._rules.daily_budget_usd_micros,
            until_tomorrow_s=(midnight - today).total_seconds(),
            live_wait_s=live_wait_s,
        )

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
        self._admitted["warm" if placed.admitted.warm else "cold"] += 1
        self._serving.begin(lease, placed.call)
        with suppress(Exception):  # the ending writes what is missing
            async with asyncio.timeout(BEGIN_WITHIN_S):
                await self._history.begin(request, placed.call.started_at)
        return answer

    def _turn_away(self, answer: Wait | Refused) -> Wait | Refused:
        self._turned_away[answer.outcome.reason] += 1
        return answer

    def tick(self) -> None:
        """Do what is due; an open desk does so by itself every quarter of a second."""
        self._serving.expire()
        self._garage.tick()
        self._sweep()

    async def _tick_for_ever(self) -> None:
        while True:
            try:
                self.tick()
            except Exception:  # leases have to run out whatever else is wrong
                log.exception("the desk's clock stumbled")
            await asyncio.sleep(TICK_S)

    def _sweep(self) -> None:
        """Forget what is too old to matter."""
        now, too_old = self._clock.now(), self._clock.utc() - ANSWERS_KEPT_S
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_EVERY_S
        self._answers = {key: answer for key, answer in self._answers.items() if answer.at >= too_old}
        self._journal.write(rows.forgotten(too_old))
        self._book.forget_before(str(self._today()))

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.utc(), UTC).date()


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


def _shown(lease: Lease, call: OpenCall, utc: float) -> dict[str, Any]:
    request, talk_s = call.request, call.renewal.talk_s if call.renewal else 0.0
    outbound = request.direction is Direction.OUTBOUND
    return {
        "call_id": lease.call_id,
        "tenant": lease.tenant,
        "state": _STATES.get(lease.state, "answered" if talk_s else "dialling" if outbound else "ringing"),
        "direction": request.direction.value,
        "profile": request.profile,
        "number": mask(request.to if outbound else request.from_),
        "started_at": call.started_at,
        "duration_s": round(utc - call.started_at, 3),
        "talk_s": talk_s,
        "cost_usd_micros": lease.cost_usd_micros,
        "charges_usd_micros": dict(call.renewal.charges_usd_micros) if call.renewal else {},
        "reserved_usd_micros": lease.reserved_usd_micros,
        "slot": lease.slot,
    }


_STATES: Final[Mapping[LeaseState, str]] = {
    LeaseState.GRANTED: "starting",
    LeaseState.WINDING_DOWN: "winding-down",
    LeaseState.ENDING: "ending",
}
"""What a lease says of its call; a held one's state follows from the talk."""


def _names(kind: str) -> Iterator[str]:
    """Names never used before, also by an earlier process."""
    series = secrets.token_hex(4)
    return (f"{kind}-{series}-{number}" for number in count(1))
