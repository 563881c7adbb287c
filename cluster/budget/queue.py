"""Who is next: calls that can't start yet, in the order in which they will be tried. Pure.

Rules of this file:
1. A caller who rings is tried before anybody is dialled, in the order of arrival.
2. Of several tenants the one is next that holds the fewest slots for its weight, and among equals the one that has had
   the fewest slot-seconds for its weight of late. So each has its share of the slots at any moment, however many
   calls of others wait and however long they last.
3. Of one tenant's calls the one with the highest priority is next; having waited for `ageing_s` weighs as much as one
   step of priority, so that nobody waits for ever.
4. What waits for something of its own (its campaign, its trunk) keeps nobody else waiting: each has a lane.
Times are UTC seconds, since the queue outlives its process.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster.messages import CallRequest, Direction
from cluster.outcome import Outcome

FIRST_GUESS_S: Final = 5.0
"""Between two calls that could start, before any has."""
MEMORY_S: Final = 15.0
"""What a tenant has had fades with this time constant: each is to have its share in any minute, not over the day."""
SMOOTHING: Final = 0.1
"""Of each new gap between two starts; the estimate follows the last twenty or so."""


class Lane(NamedTuple):
    """Calls that nothing but their order tells apart."""

    direction: Direction
    tenant: str
    campaign: str
    trunk: str


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One call that waits."""

    request: CallRequest
    asked_at: float
    expires_at: float
    number: int
    """Grows with every ticket; who came first among equals."""
    waits_for: Outcome
    """What it met when it was last tried."""
    retry_after_s: float = 0.0

    @property
    def lane(self) -> Lane:
        """Where it stands."""
        request = self.request
        return Lane(request.direction, request.tenant, request.campaign, request.trunk)


_Entry = tuple[float, int, Ticket]


class Queue:
    """Tickets, and whose turn it is."""

    def __init__(self, *, weight: Callable[[str], float], held: Callable[[str], int]) -> None:
        """`weight` is a tenant's share, `held` how many slots its outbound calls have."""
        self._weight = weight
        self._held = held
        self._lanes: dict[Lane, list[_Entry]] = {}
        self._tickets: dict[str, Ticket] = {}
        self._of_request: dict[tuple[str, str], Ticket] = {}
        self._keys: dict[str, float] = {}
        self._expiring: list[tuple[float, int, str]] = []
        self._counts: Counter[tuple[Direction, str]] = Counter()
        self._had: dict[str, float] = {}
        """Slot-seconds for its weight, of every tenant whose calls wait or run."""
        self._noted_at: float | None = None
        self._last_start: float | None = None
        self._gap_s = FIRST_GUESS_S

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        """Those that wait, in the order of their arrival."""
        return iter(sorted(self._tickets.values(), key=lambda ticket: ticket.number))

    def of_call(self, call_id: str) -> Ticket | None:
        """The ticket of a call."""
        return self._tickets.get(call_id)

    def of_request(self, tenant: str, request_id: str) -> Ticket | None:
        """The ticket of a request."""
        return self._of_request.get((tenant, request_id))

    def count(self, direction: Direction, tenant: str | None = None) -> int:
        """How many wait, of a tenant or of all."""
        if tenant is not None:
            return self._counts[direction, tenant]
        return sum(number for (of, _), number in self._counts.items() if of is direction)

    def head(self, lane: Lane) -> Ticket | None:
        """Who stands first in a lane."""
        entries = self._lanes.get(lane)
        return entries[0][2] if entries else None

    def put(self, ticket: Ticket, ageing_s: float) -> None:
        """Let it wait; one that was taken out stands again where it stood."""
        request, lane = ticket.request, ticket.lane
        if lane.tenant not in self._had:
            # Who was away has no claim to what others were given meanwhile.
            self._had[lane.tenant] = min(self._had.values(), default=0.0)
        key = ticket.asked_at - request.priority * ageing_s
        insort(self._lanes.setdefault(lane, []), (key, ticket.number, ticket))
        self._keys[request.call_id] = key
        self._tickets[request.call_id] = ticket
        self._of_request[request.tenant, request.request_id] = ticket
        self._counts[lane.direction, lane.tenant] += 1
        heapq.heappush(self._expiring, (ticket.expires_at, ticket.number, request.call_id))

    def take(self, ticket: Ticket) -> None:
        """It waits no more."""
        request, lane = ticket.request, ticket.lane
        entries = self._lanes[lane]
        del entries[self._place(ticket, entries)]
        if not entries:
            del self._lanes[lane]
        del self._keys[request.call_id], self._tickets[request.call_id]
        del self._of_request[request.tenant, request.request_id]
        self._counts[lane.direction, lane.tenant] -= 1
        if not self._counts[lane.direction, lane.tenant]:
            del self._counts[lane.direction, lane.tenant]

    def next(self, passed_over: Container[Lane] = ()) -> Ticket | None:
        """Whose turn it is, among the lanes that were not passed over."""
        heads = [entries[0] for lane, entries in self._lanes.items() if lane not in passed_over]
        return min(heads, key=self._turn)[2] if heads else None

    def pass_time(self, now: float) -> None:
        """Note what each tenant has had since the last time; to be called before anybody is served."""
        elapsed_s = 0.0 if self._noted_at is None else max(0.0, now - self._noted_at)
        self._noted_at = now
        kept = math.exp(-elapsed_s / MEMORY_S)
        for tenant in tuple(self._had):
            held = self._held(tenant)
            self._had[tenant] = self._had[tenant] * kept + held / self._weight(tenant) * elapsed_s
            if not held and not self._counts[Direction.OUTBOUND, tenant]:
                del self._had[tenant]

    def started(self, request: CallRequest, now: float) -> None:
        """A call has started, from the queue or at once."""
        if request.direction is Direction.INBOUND:
            return
        if self._last_start is not None and self.count(Direction.OUTBOUND):
            self._gap_s += SMOOTHING * (now - self._last_start - self._gap_s)
        self._last_start = now

    def late(self, now: float) -> Iterator[Ticket]:
        """Those that wait and whose time is up. Whoever asks takes them out."""
        while self._expiring and self._expiring[0][0] <= now:
            _, number, call_id = heapq.heappop(self._expiring)
            ticket = self._tickets.get(call_id)
            if ticket is not None and ticket.number == number:
                yield ticket

    def position(self, ticket: Ticket) -> int:
        """1 for the next one of its tenant and direction."""
        mine = (ticket.lane.direction, ticket.lane.tenant)
        return 1 + sum(self._place(ticket, entries) for lane, entries in self._lanes.items() if lane[:2] == mine)

    def estimated_wait_s(self, ticket: Ticket) -> float:
        """How long it will take, at the pace at which calls have been starting and with the tenant's share of it."""
        tenants = {tenant for direction, tenant in self._counts if direction is ticket.lane.direction}
        share = self._weight(ticket.lane.tenant) / sum(map(self._weight, tenants))
        return max(ticket.retry_after_s, self.position(ticket) * self._gap_s / share)

    def _place(self, ticket: Ticket, entries: list[_Entry]) -> int:
        """How many in a lane come before it."""
        return bisect_left(entries, (self._keys[ticket.request.call_id], ticket.number))

    def _turn(self, entry: _Entry) -> tuple[bool, float, float, float, int]:
        key, number, ticket = entry
        tenant = ticket.request.tenant
        if ticket.request.direction is Direction.INBOUND:
            return False, 0.0, 0.0, key, number
        weight = self._weight(tenant)
        return True, self._held(tenant) / weight, self._had.get(tenant, 0.0), key, number
