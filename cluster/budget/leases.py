"""The leases: who may run a call, how long without a sign of life, and how much money is held for it. Pure.

Rules of this file:
1. A lease's states and what moves it stand in `LEASE`; an event that is not there raises and changes nothing.
2. A lease holds what its call has used, its next slice and a goodbye. The slice is held before it is spent; if it does
   not fit, the call winds down, and what is held lasts to its end.
3. Only the holder with the newest fencing token is listened to. `now` is monotonic seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from cluster.budget.budgets import Owner, Purse, Treasury
from cluster.budget.pricing import Ahead, Bill, dearer
from cluster.machine import Table, step
from cluster.messages import Direction, Verdict


class LeaseState(StrEnum):
    """Where a lease stands."""

    GRANTED = "granted"
    """Money is held, and the call's actor is on its way."""
    HELD = "held"
    WINDING_DOWN = "winding-down"
    """Its holder was told to say goodbye."""
    ENDING = "ending"
    """The call is over, and its end is being written."""
    SETTLED = "settled"
    RELEASED = "released"
    """Nothing came of it."""


class LeaseEvent(StrEnum):
    """What moves a lease."""

    LAUNCH = "launch"
    START = "start"
    RENEW = "renew"
    WIND_DOWN = "wind-down"
    REASSIGN = "reassign"
    END = "end"
    SETTLE = "settle"
    RELEASE = "release"


_S, _E = LeaseState, LeaseEvent
LEASE: Table[LeaseState, LeaseEvent] = {
    _S.GRANTED: {
        _E.LAUNCH: _S.GRANTED,
        _E.START: _S.HELD,
        _E.RENEW: _S.HELD,
        _E.WIND_DOWN: _S.WINDING_DOWN,
        _E.REASSIGN: _S.GRANTED,
        _E.END: _S.ENDING,
        _E.RELEASE: _S.RELEASED,
    },
    _S.HELD: {
        _E.START: _S.HELD,
        _E.RENEW: _S.HELD,
        _E.WIND_DOWN: _S.WINDING_DOWN,
        _E.REASSIGN: _S.HELD,
        _E.END: _S.ENDING,
    },
    _S.WINDING_DOWN: {
        _E.START: _S.WINDING_DOWN,
        _E.RENEW: _S.WINDING_DOWN,
        _E.WIND_DOWN: _S.WINDING_DOWN,
        _E.REASSIGN: _S.WINDING_DOWN,
        _E.END: _S.ENDING,
    },
    _S.ENDING: {_E.SETTLE: _S.SETTLED},
    _S.SETTLED: {},
    _S.RELEASED: {},
}
ANSWERABLE = frozenset(state for state, events in LEASE.items() if _E.RENEW in events)
"""States in which a renewal is listened to."""


MAX_MOVES: Final = 4
MOVES_WITHIN_S: Final = 60.0
"""A call whose actors die so often kills them itself."""
TAKEN_OVER_WITHIN_S: Final = 15.0
"""A running call's next process has begun by then, or the caller is told that the call is lost."""


class TooManyMoves(Exception):
    """The lease was given to `MAX_MOVES` other actors within `MOVES_WITHIN_S`."""


class UnknownLease(KeyError):
    """No open lease has this id: it has ended, or never was."""


Group = tuple[str, str]
"""Calls that are counted together: what they have in common, and its name. `inbound` and `outbound` are a tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One open lease, as it stands."""

    lease_id: str
    call_id: str
    tenant: str
    day: str
    """UTC, as 2026-11-24."""
    slot: str
    max_cost_usd_micros: int
    reserved_usd_micros: int
    bill: Bill = field(default_factory=Bill)
    """What its holder has used so far, as last heard."""
    entries: int = 1
    """The number of its last one in the ledger; the first is the reservation."""
    expires_at: float = math.inf
    """When it runs out unless its holder renews, in monotonic seconds. Not before its admission is durable."""
    fencing_token: int = 1
    state: LeaseState = LeaseState.GRANTED
    dialled: bool = False
    """A phone may have rung: whoever takes the call over does not dial."""
    moved_at: tuple[float, ...] = ()
    """When it was given to other actors of late."""
    direction: Direction = Direction.OUTBOUND
    campaign: str = ""
    trunk: str = ""
    profile: str = ""
    granted_at: float = 0.0
    """UTC seconds."""
    purses: tuple[Purse, ...] = field(default=(), repr=False)
    """Those that pay for it."""
    destination: str = ""
    """The prefix that the price of its phone leg goes by."""

    @property
    def owner(self) -> Owner:
        """Whose budgets pay for it."""
        return Owner(tenant=self.tenant, campaign=self.campaign, profile=self.profile, at=self.granted_at)

    @property
    def cost_usd_micros(self) -> int:
        """The bill's sum."""
        return self.bill.usd_micros

    def groups(self) -> tuple[Group, ...]:
        """Those that its call counts for while it is open."""
        return (
            ("direction", self.direction),
            ("tenant", self.tenant),
            (self.direction, self.tenant),
            ("campaign", self.campaign),
            ("trunk", self.trunk),
        )


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to a renewal."""

    verdict: Verdict
    lease: Lease | None = None
    """As it stands now; None where the verdict is void."""
    more_usd_micros: int = 0
    """How much more was reserved, which has to be durable before the holder learns of it."""
    binding: bool = False
    """More money is held, or a phone will ring: that has to be durable before the holder learns of it."""


class LeaseBook:
    """Every open lease, and the money that is held for it."""

    def __init__(self, treasury: Treasury, *, ttl_s: float, start_within_s: float) -> None:
        """`start_within_s` is how long an actor may take to begin the call; `ttl_s` how long it may then be silent."""
        self.treasury = treasury
        self.ttl_s = ttl_s
        self._start_within_s = start_within_s
        self._open: dict[str, Lease] = {}
        self._by_call: dict[str, str] = {}
        self.counts: Counter[Group] = Counter()
        """How many open leases each group has."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Lease]:
        """The open leases, oldest first."""
        return iter(tuple(self._open.values()))

    def get(self, lease_id: str) -> Lease | None:
        """The open lease of that id."""
        return self._open.get(lease_id)

    def of_call(self, call_id: str) -> Lease | None:
        """The open lease of a call."""
        return self._open.get(self._by_call.get(call_id, ""))

    def grant(self, lease: Lease) -> Lease:
        """Open a lease that admission said yes to, or take over one of an earlier book."""
        return self._put(replace(lease, purses=self.treasury.purses(lease.owner)))

    def refinance(self, treasury: Treasury) -> None:
        """From now on these budgets pay, also for the calls that run."""
        self.treasury = treasury
        for lease in self:
            moved = self._open[lease.lease_id] = replace(lease, purses=treasury.purses(lease.owner))
            treasury.hold(moved.purses, moved.reserved_usd_micros)

    def launch(self, lease_id: str, now: float) -> Lease:
        """From here on the actor has `start_within_s` to begin the call."""
        lease = self._moved(lease_id, LeaseEvent.LAUNCH)
        return self._put(replace(lease, expires_at=now + self._start_within_s))

    def started(self, lease_id: str, now: float) -> Lease:
        """The actor has begun the call: from here on silence ends the lease."""
        lease = self._moved(lease_id, LeaseEvent.START)
        return self._put(replace(lease, expires_at=now + self.ttl_s))

    def reassign(self, lease_id: str, slot: str, now: float) -> Lease:
        """Give the lease, with its money, to another actor; whatever the earlier one still says is void from now on.

        A caller waits for whoever takes over a running call, and does not wait long.
        Raises `TooManyMoves`.
        """
        lease = self._moved(lease_id, LeaseEvent.REASSIGN)
        if not may_move(lease, now):
            raise TooManyMoves(lease_id)
        within_s = self._start_within_s if lease.state is LeaseState.GRANTED else min(self.ttl_s, TAKEN_OVER_WITHIN_S)
        token = lease.fencing_token + 1
        return self._put(
            replace(
                lease, slot=slot, fencing_token=token, expires_at=now + within_s, moved_at=(*_moves(lease, now), now)
            )
        )

    def renew(
        self,
        lease_id: str,
        fencing_token: int,
        *,
        bill: Bill,
        ahead: Ahead,
        now: float,
        dialled: bool = False,
    ) -> Renewed:
        """Note the bill so far, and go on if what is held lasts until the next renewal and a goodbye, or can be raised.

        `dialled` says that the holder dials as soon as it has the answer, or has done so.
        Void for a stale token, and for a lease that has ended.
        """
        lease = self._open.get(lease_id)
        if lease is None or lease.fencing_token != fencing_token or lease.state not in ANSWERABLE:
            return Renewed(Verdict.VOID)
        bill = dearer(lease.bill, bill)
        cost = bill.usd_micros
        ending = lease.state is LeaseState.WINDING_DOWN
        need, wanted = (ahead.goodbye, ahead.goodbye) if ending else (ahead.soon, ahead.slice)
        reserved = max(lease.reserved_usd_micros, cost)
        if cost + need > reserved:
            more = min(cost + wanted - reserved, self._room(lease, reserved))
            reserved += more if cost + need <= reserved + more else 0
        going_on = cost + need <= reserved and not ending
        moved = self._moved(lease_id, LeaseEvent.RENEW if going_on else LeaseEvent.WIND_DOWN)
        more = reserved - lease.reserved_usd_micros
        changed = replace(
            moved,
            bill=bill,
            reserved_usd_micros=reserved,
            entries=lease.entries + (more > 0),
            expires_at=now + self.ttl_s,
            dialled=lease.dialled or dialled,
        )
        self._put(changed)
        verdict = self._verdict(changed) if going_on else Verdict.WIND_DOWN
        return Renewed(verdict, changed, more, binding=more > 0 or changed.dialled > lease.dialled)

    def wind_down(self, lease_id: str) -> Lease:
        """The call is not wanted any more: nobody begins it, and whoever has it says goodbye."""
        return self._put(self._moved(lease_id, LeaseEvent.WIND_DOWN))

    def end(self, lease_id: str) -> Lease:
        """The call is over: nothing renews the lease or lets it run out while its end is written."""
        return self._put(self._moved(lease_id, LeaseEvent.END))

    def settle(self, lease_id: str, bill: Bill) -> Lease:
        """Book the final bill, or the last one that was heard where that is dearer; give back the rest."""
        lease = self._moved(lease_id, LeaseEvent.SETTLE)
        bill = dearer(lease.bill, bill)
        self._close(lease_id)
        self.treasury.spend(lease.purses, bill.usd_micros)
        return replace(lease, bill=bill, reserved_usd_micros=0)

    def release(self, lease_id: str) -> Lease:
        """Close a lease of which nothing came, before any actor was told."""
        lease = self._moved(lease_id, LeaseEvent.RELEASE)
        self._close(lease_id)
        return replace(lease, reserved_usd_micros=0)

    def expire(self, now: float) -> list[Lease]:
        """Move every lease whose holder was silent for too long to `ENDING`, and return them."""
        late = [x for x in self._open.values() if x.expires_at <= now and x.state is not LeaseState.ENDING]
        return [self.end(lease.lease_id) for lease in late]

    def is_concise(self, lease: Lease) -> bool:
        """Whether a budget that pays for it runs low."""
        return self.treasury.is_concise(lease.purses)

    def _verdict(self, lease: Lease) -> Verdict:
        return Verdict.CONCISE if self.is_concise(lease) else Verdict.CONTINUE

    def _room(self, lease: Lease, reserved: int) -> int:
        """How much the call's own limit and its budgets allow beyond `reserved`; may be below nothing."""
        left = self.treasury.room_usd_micros(lease.purses) - (reserved - lease.reserved_usd_micros)
        return min(lease.max_cost_usd_micros - reserved, left)

    def _moved(self, lease_id: str, event: LeaseEvent) -> Lease:
        lease = self._open.get(lease_id)
        if lease is None:
            raise UnknownLease(lease_id)
        return replace(lease, state=step(LEASE, lease.state, event))

    def _put(self, lease: Lease) -> Lease:
        before = self._open.get(lease.lease_id)
        more = lease.reserved_usd_micros - (before.reserved_usd_micros if before else 0)
        self.treasury.hold(lease.purses, more)
        if before is None:
            self.counts.update(lease.groups())
        self._open[lease.lease_id] = lease
        self._by_call[lease.call_id] = lease.lease_id
        return lease

    def _close(self, lease_id: str) -> None:
        lease = self._open.pop(lease_id)
        del self._by_call[lease.call_id]
        self.counts.subtract(lease.groups())
        self.treasury.hold(lease.purses, -lease.reserved_usd_micros)


def may_move(lease: Lease, now: float) -> bool:
    """Whether `LeaseBook.reassign` would give it to another actor."""
    return LeaseEvent.REASSIGN in LEASE[lease.state] and len(_moves(lease, now)) < MAX_MOVES


def _moves(lease: Lease, now: float) -> tuple[float, ...]:
    """Those that count still."""
    return tuple(at for at in lease.moved_at if at > now - MOVES_WITHIN_S)
