"""The desk where calls are asked for: its parts put together, renewals, and what is known of the live ones."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from cluster import outcome as o
from cluster.budget import policies, rows
from cluster.budget.budgets import Standing, Thresholds, Treasury
from cluster.budget.calls import OpenCall, Terms, terms_of
from cluster.budget.doorway import Doorway
from cluster.budget.garage import START_WITHIN_S, Garage
from cluster.budget.journal import DURABLE_WITHIN_S, Journal
from cluster.budget.leases import Lease, LeaseBook, LeaseState
from cluster.budget.limits import Limits
from cluster.budget.nodes import NodeKeeper
from cluster.budget.occupancy import Occupancy
from cluster.budget.policy import NO_POLICY, Policy
from cluster.budget.pool import Pool
from cluster.budget.pricing import Bill
from cluster.budget.providers import Providers
from cluster.budget.serving import SYSTEM_CLOCK, Clock, Serving
from cluster.errors import PriceError
from cluster.messages import Admission, CallRequest, Direction, Renewal, Verdict
from cluster.outcome import WHY_NOT
from cluster.telephony.masking import mask

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cluster.budget.ports import CallActors, CloseRoom, Farewell, History, Nodes
    from cluster.budget.rules import DeskRules
    from cluster.profiles import Profile

log = logging.getLogger(__name__)

ANSWERS_KEPT_S: Final = 86_400.0
TICK_S: Final = 0.25
ADOPT_PAUSE_S: Final = 0.02
"""Until the end of a call that is being written is, mostly."""
SWEEP_EVERY_S: Final = 600.0


class Desk:
    """The one place that admits calls. All methods run in one event loop."""

    def __init__(
        self,
        *,
        rules: DeskRules,
        profiles: Mapping[str, Profile],
        engine: Engine,
        actors: CallActors,
        nodes: Nodes,
        history: History,
        farewell: Farewell,
        close_room: CloseRoom,
        clock: Clock = SYSTEM_CLOCK,
        policy: Policy = NO_POLICY,
        policy_file_sha256: str = "",
    ) -> None:
        """Must be made in the event loop that it is used in. `engine`'s database is at the newest migration."""
        self._rules = rules
        self._profiles = profiles
        self._engine = engine
        self._clock = clock
        self._book = LeaseBook(self._treasury(policy), ttl_s=rules.lease_ttl_s, start_within_s=START_WITHIN_S)
        self._journal = Journal(engine)
        self._providers = Providers(rules.breaker, clock.now)
        self._garage = self._new_garage(actors)
        self._nodes = NodeKeeper(self._garage, nodes, rules.pool, clock.now)
        self._serving = self._new_serving(history, farewell, close_room)
        self.limits = Limits(
            rules=rules,
            policy=policy,
            book=self._book,
            garage=self._garage,
            providers=self._providers,
            clock=clock,
        )
        self._doorway = Doorway(
            limits=self.limits,
            prices=rules.prices,
            profiles=profiles,
            book=self._book,
            garage=self._garage,
            serving=self._serving,
            journal=self._journal,
            history=history,
            providers=self._providers,
            clock=clock,
            lease_ids=_names("lease"),
        )
        self.occupancy = Occupancy(self._book, self._serving, self._doorway.waiting_room)
        self._policy_file_sha256 = policy_file_sha256
        self._adopting = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None
        self._next_sweep = 0.0

    def _new_garage(self, actors: CallActors) -> Garage:
        return Garage(
            Pool(self._rules.pool, _names("call-slot")),
            actors,
            self._clock.now,
            providers=self._providers,
            models={name: profile.model for name, profile in self._profiles.items()},
            setup_timeout_s=self._rules.setup_timeout_s,
        )

    def _new_serving(self, history: History, farewell: Farewell, close_room: CloseRoom) -> Serving:
        return Serving(
            book=self._book,
            garage=self._garage,
            journal=self._journal,
            history=history,
            farewell=farewell,
            close_room=close_room,
            clock=self._clock,
            providers=self._providers,
            objection=lambda request: self.limits.objection(request),  # noqa: PLW0108 - they come later
            renew_every_s=self._rules.renew_every_s,
            lease_ttl_s=self._rules.lease_ttl_s,
        )

    async def open(self) -> None:
        """Read what an earlier process left, attach to the calls that live, and begin to keep the pool.

        Raises `PriceError` if a profile's model has no price.
        """
        for profile in self._profiles.values():
            for target in profile.targets():
                self._rules.prices.rates(target.model, self._clock.today())
        utc = self._clock.utc()
        # With the first write, whoever wrote before is superseded: what is read then changes no more.
        await self._journal.write(rows.forgotten(utc - ANSWERS_KEPT_S))
        stored = await asyncio.to_thread(rows.load, self._engine, utc - ANSWERS_KEPT_S)
        await self._load_spent(self._book.treasury, {utc, *(row.granted_at for row in stored.open)})
        self._doorway.remember(stored.answers)
        live = await self._garage.adopt({row.lease.slot: row.lease.lease_id for row in stored.open})
        for row in stored.open:
            # A profile that is gone meanwhile runs on in its actor; only the margin for its goodbye is a guess.
            profile = self._profiles.get(row.request.profile) or next(iter(self._profiles.values()))
            terms = self._terms(row, profile)
            # An actor that has not got the call serves others: with the lease it has no more to do.
            slot = row.lease.slot if row.lease.slot in live else ""
            # Whoever holds it has a whole time to live to be heard of: a restart takes nothing from anybody.
            expires_at = self._clock.now() + self._rules.lease_ttl_s
            lease = self._book.grant(replace(row.lease, slot=slot, expires_at=expires_at))
            self._serving.resume(lease, OpenCall(request=row.request, terms=terms, started_at=row.granted_at))
        for lease_id, record in stored.undelivered.items():
            self._serving.deliver(lease_id, record)
        await self._doorway.waiting_room.open(self._engine)
        self._ticking = asyncio.create_task(self._tick_for_ever(), name="desk")

    async def close(self) -> None:
        """Stop, with everything written. Calls and actors live on for the next process."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self._nodes.close()
        await self._doorway.close()
        await self._serving.close()
        await self._garage.close()
        await self._journal.close()

    async def admit(self, request: CallRequest) -> Admission:
        """Decide on a request; the same one again gets the same admission, also while the first is being decided."""
        return await self._doorway.admit(request)

    async def renew(self, renewal: Renewal) -> Verdict:
        """A call's heartbeat."""
        call = self._serving.call(renewal.lease_id)
        if call is None:
            return Verdict.VOID
        renewed = self._book.renew(
            renewal.lease_id,
            renewal.fencing_token,
            bill=Bill(renewal.metered, renewal.charges_usd_micros),
            ahead=call.terms.ahead(renewal.talk_s, self._rules.lease_ttl_s, renewal.running_usd_micros),
            now=self._clock.now(),
            dialled=renewal.checkpoint.has_leg,
        )
        if renewed.lease is None:
            return renewed.verdict
        self._serving.renewed(renewal)
        self._providers.failed(renewal.live_faults)
        if renewal.live_ok:
            self._providers.succeeded(renewal.live_model or call.terms.model)
        writes = rows.renewed(renewed.lease, renewed.more_usd_micros, call.renewed_at)
        if renewed.binding:
            call.raising = self._journal.write(*writes)
        elif not self._journal.away:  # the next heartbeat says the same and more
            self._journal.note(*writes)
        if call.raising is not None:
            # Should the database be away, the reservation holds in memory: no live call is ended for that.
            await asyncio.wait([call.raising], timeout=DURABLE_WITHIN_S)
        return renewed.verdict

    async def hangup(self, call_id: str) -> bool:
        """End a live call, or take one from the queue; False where there is none."""
        return await self._serving.hang_up(call_id) or await self._doorway.hang_up(call_id)

    async def leave_queue(self, call_id: str) -> bool:
        """Take a call from the queue; False where it is not there. One that is live goes on."""
        return await self._doorway.waiting_room.leave(call_id, o.WITHDRAWN, WHY_NOT[o.WITHDRAWN])

    def queue(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """Those of a tenant's calls, or of all, that can't start yet, in the order of their arrival."""
        return self._doorway.waiting_room.shown(tenant)

    async def adopt(self, policy: Policy) -> None:
        """From now on this policy holds, also for what is spent already and for calls that run; it is durable.

        Raises `JournalError` where it can't be made durable, and then nothing has changed.
        """
        async with self._adopting:
            await self._journal.write(policies.applied(policy, self._policy_file_sha256, self._clock.utc()))
            treasury = self._treasury(policy)
            while not await self._load_settled(treasury):
                await asyncio.sleep(ADOPT_PAUSE_S)
                treasury = self._treasury(policy)
            self._book.refinance(treasury)
            self.limits.adopt(policy)
            self._doorway.serve()

    async def drain_node(self, node: str) -> bool:
        """Have a node end with its last call; False where there is no such node, or the cluster does not answer."""
        return await self._nodes.drain(node)

    def pool(self) -> dict[str, Any]:
        """How the pool of call actors stands, by profile and by node, as JSON."""
        return self._garage.standing(self._nodes.fleet)

    def capacity(self) -> int:
        """How many more calls could start now."""
        return self.limits.free()

    def live_calls(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The open calls of a tenant, or of all, oldest first. Numbers are masked."""
        found = ((lease, self._serving.call(lease.lease_id)) for lease in self._book)
        utc = self._clock.utc()
        return [_shown(lease, call, utc) for lease, call in found if call and tenant in {None, lease.tenant}]

    def budgets(self) -> list[dict[str, Any]]:
        """How every budget stands, in micro-dollars; times are UTC seconds, None for a budget without a window."""
        standings = self._book.treasury.now(self._clock.utc())
        return [_budget_shown(standing, self._rules.thresholds) for standing in standings]

    def statistics(self) -> dict[str, Any]:
        """How things stand, as plain numbers. Money is of the tenants' days, in micro-dollars."""
        money = self._book.treasury.tenants_days(self._clock.utc())
        return {
            "max_calls": self._rules.max_calls,
            "live_calls": len(self._book),
            "free": self.capacity(),
            "draining": self.limits.draining,
            "leaving_nodes": sorted(self._nodes.leaving),
            **self._garage.statistics(),
            "daily_budget_usd_micros": self._rules.daily_budget_usd_micros,
            "spent_usd_micros": {tenant: standing.spent_usd_micros for tenant, standing in money.items()},
            "reserved_usd_micros": {tenant: standing.held_usd_micros for tenant, standing in money.items()},
            "admitted": dict(self._doorway.admitted),
            "queued": self._doorway.waiting_room.counts(),
            "turned_away": dict(self._doorway.turned_away + self._doorway.waiting_room.given_up),
            "ended": dict(self._serving.ended),
            "takeovers": dict(self._serving.takeovers),
            "breakers": self._providers.states(),
            "live_faults": dict(self._providers.faults),
            "measured": self._serving.tally.snapshot(),
        }

    def tick(self) -> None:
        """Do what is due; an open desk does so by itself every quarter of a second."""
        self._serving.tick()
        self._nodes.tick()
        self._doorway.tick()
        self._garage.tick()
        self._sweep()

    def _terms(self, row: rows.OpenRow, profile: Profile) -> Terms:
        """Of a call that an earlier process admitted: with what its models cost then, else now."""
        used, prices = row.lease.bill.metered.usage_by_model, self._rules.prices
        try:
            return terms_of(row.request, profile, prices, date.fromisoformat(row.lease.day), used)
        except PriceError:  # the profile, or the table of prices, is another one since
            return terms_of(row.request, profile, prices, self._clock.today())

    def _treasury(self, policy: Policy) -> Treasury:
        return Treasury(policy.caps(self._rules.daily_budget_usd_micros), self._rules.thresholds)

    async def _load_spent(self, treasury: Treasury, times: set[float]) -> None:
        spent = await asyncio.to_thread(rows.spent, self._engine, treasury.windows(times))
        for purse, usd_micros in spent.items():
            treasury.load(purse, usd_micros)

    async def _load_settled(self, treasury: Treasury) -> bool:
        """Whether what was read is what has been spent now: no call's end was written meanwhile, nor is any being."""
        settled = self._serving.ended.total()
        if self._ends_are_being_written():
            return False
        await self._load_spent(treasury, {self._clock.utc(), *(lease.owner.at for lease in self._book)})
        return settled == self._serving.ended.total() and not self._ends_are_being_written()

    def _ends_are_being_written(self) -> bool:
        return any(lease.state is LeaseState.ENDING for lease in self._book)

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
        self._doorway.forget_before(too_old)
        self._book.treasury.forget(self._clock.utc())


def _budget_shown(standing: Standing, thresholds: Thresholds) -> dict[str, Any]:
    purse = standing.purse
    return {
        "scope": purse.budget.scope.value,
        "name": purse.name,
        "window": purse.budget.window.value,
        "time_zone": purse.budget.time_zone,
        "begins_at": purse.begins_at if math.isfinite(purse.begins_at) else None,
        "ends_at": purse.ends_at if math.isfinite(purse.ends_at) else None,
        "cap_usd_micros": standing.cap_usd_micros,
        "spent_usd_micros": standing.spent_usd_micros,
        "held_usd_micros": standing.held_usd_micros,
        "free_usd_micros": max(0, standing.cap_usd_micros - standing.used_usd_micros),
        "mode": standing.mode(thresholds).value,
    }


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
        "charges_usd_micros": dict(lease.bill.charges),
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
