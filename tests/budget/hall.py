"""A simulated hour of calls: many tenants, few slots, a clock that jumps from event to event."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from cluster import outcome as o
from cluster.budget.admission import Admit, Ceiling, Load, Wish, decide
from cluster.budget.pricing import Ahead
from cluster.budget.queue import Lane, Queue, Ticket
from cluster.messages import Direction
from tests.budget.fakes import call_request

WISH = Wish(estimate_usd_micros=1, ahead=Ahead(goodbye=1, soon=1, slice=1), max_cost_usd_micros=1)
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where calls come from: at random moments, of random length."""

    tenant: str
    slots: float
    """How many slots its calls would take, if all of them started at once."""
    talk_s: float
    """Mean length of a call, exponentially distributed."""
    direction: Direction = OUT
    priority: int = 0
    begins_s: float = 0.0
    ends_s: float = 1e9

    def arrivals(self, chance: random.Random, until_s: float) -> Iterator[tuple[float, float]]:
        """When each call comes, and how long it will last."""
        now = self.begins_s
        while (now := now + chance.expovariate(self.slots / self.talk_s)) < min(self.ends_s, until_s):
            yield now, chance.expovariate(1 / self.talk_s)


@dataclass(slots=True)
class Hall:
    """Slots, the real queue and the real decision."""

    slots: int
    inbound_reserve: int
    weights: Mapping[str, float]
    ageing_s: float = 60.0
    now: float = 0.0
    held: Counter[tuple[str, str]] = field(default_factory=Counter)
    waits: dict[int, float] = field(default_factory=dict)
    """How long each call waited that has started, by its number."""
    late_inbound: list[int] = field(default_factory=list)
    """Callers who came while the reserve was not used up, and did not start at once."""
    talk_s: dict[int, float] = field(default_factory=dict)
    asked: dict[int, tuple[float, Source]] = field(default_factory=dict)
    got: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(lambda: [(0.0, 0.0)]))
    due: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(lambda: [(0.0, 0.0)]))
    idle: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(lambda: [(0.0, 0.0)]))
    """Running sums: slot-seconds that each tenant's outbound calls had, those of its share, and seconds in which none
    of them waited."""
    queue: Queue = field(init=False)
    _events: list[tuple[float, int, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = Queue(weight=self.weights.__getitem__, held=lambda tenant: self.held[OUT, tenant])

    def run(self, sources: list[Source], until_s: float, seed: int) -> None:
        """Let it happen."""
        chance = random.Random(seed)  # noqa: S311 - nothing to guess
        coming = [(at, talk_s, source) for source in sources for at, talk_s in source.arrivals(chance, until_s)]
        coming.sort(key=itemgetter(0))
        for number, (at, talk_s, source) in enumerate(coming):
            self.asked[number], self.talk_s[number] = (at, source), talk_s
            heapq.heappush(self._events, (at, number, "comes", number))
        while self._events and self._events[0][0] < until_s:
            at, _, what, number = heapq.heappop(self._events)
            self._count_until(at)
            self.now = at
            if what == "comes":
                self._come(number)
            else:
                self._leave(number)
            self._serve()

    def shares(self, tenant: str, from_s: int, window_s: int = 60) -> list[float]:
        """What part of its share a tenant had, in every window, a second apart, in which it always wanted more."""
        got, due, idle = (_every_second(sums[tenant]) for sums in (self.got, self.due, self.idle))
        windows = [(start, start + window_s) for start in range(from_s, len(got) - window_s)]
        return [(got[end] - got[start]) / (due[end] - due[start]) for start, end in windows if idle[end] == idle[start]]

    def _come(self, number: int) -> None:
        asked_at, source = self.asked[number]
        request = call_request(number, tenant=source.tenant, direction=source.direction, priority=source.priority)
        ticket = Ticket(request=request, asked_at=asked_at, expires_at=1e12, number=number, waits_for=o.OVER_CAPACITY)
        within_reserve = source.direction is IN and self._running(IN) < self.inbound_reserve
        self.queue.put(ticket, self.ageing_s)
        self._serve()
        if within_reserve and number not in self.waits:
            self.late_inbound.append(number)

    def _leave(self, number: int) -> None:
        _, source = self.asked[number]
        self.held[source.direction, source.tenant] -= 1

    def _serve(self) -> None:
        self.queue.pass_time(self.now)
        passed_over: set[Lane] = set()
        while (ticket := self.queue.next(passed_over)) is not None:
            if not isinstance(decide(WISH, self._load(ticket.request.direction)), Admit):
                passed_over.add(ticket.lane)
                continue
            self.queue.take(ticket)
            self.queue.started(ticket.request, self.now)
            self.held[ticket.request.direction, ticket.request.tenant] += 1
            self.waits[ticket.number] = self.now - ticket.asked_at
            heapq.heappush(self._events, (self.now + self.talk_s[ticket.number], ticket.number, "ends", ticket.number))

    def _load(self, direction: Direction) -> Load:
        ceilings = [Ceiling(o.OVER_CAPACITY, self.held.total(), self.slots)]
        if direction is OUT:
            ceilings.append(Ceiling(o.OVER_CAPACITY, self._running(OUT), self.slots - self.inbound_reserve))
        return Load(draining=False, ceilings=tuple(ceilings), budgets=(), at=self.now, priority_at=1.0)

    def _running(self, direction: Direction) -> int:
        return sum(number for (of, _), number in self.held.items() if of is direction)

    def _count_until(self, at: float) -> None:
        for_outbound = self.slots - max(self.inbound_reserve, self._running(IN))
        for tenant, weight in self.weights.items():
            share = for_outbound * weight / sum(self.weights.values())
            idle = 0.0 if self.queue.count(OUT, tenant) else 1.0
            for sums, rate in ((self.got, self.held[OUT, tenant]), (self.due, share), (self.idle, idle)):
                sums[tenant].append((at, sums[tenant][-1][1] + rate * (at - self.now)))


def _every_second(sums: list[tuple[float, float]]) -> list[float]:
    """A running sum, read at each full second."""
    times = [at for at, _ in sums]
    read = []
    for second in range(int(times[-1])):
        place = bisect_left(times, second)
        (before_s, before), (after_s, after) = sums[max(0, place - 1)], sums[place]
        part = (second - before_s) / (after_s - before_s) if after_s > before_s else 0.0
        read.append(before + part * (after - before))
    return read
