"""Who is next."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster import outcome as o
from cluster.budget.queue import FIRST_GUESS_S, Lane, Queue, Ticket
from cluster.messages import Direction
from tests.budget.fakes import call_request

AGEING_S = 60.0


class Line:
    """A queue whose tenants hold slots as the test says; calls are known by their number."""

    def __init__(self, **weights: float) -> None:
        self.held: Counter[str] = Counter()
        self.queue = Queue(weight=lambda tenant: weights.get(tenant, 1.0), held=self.held.__getitem__)
        self.number = 0

    def put(self, tenant: str = "acme", at: float = 0.0, ttl_s: float = 300.0, **changes: object) -> Ticket:
        """One more waits."""
        self.number += 1
        ticket = Ticket(
            request=call_request(self.number, tenant=tenant, **changes),
            asked_at=at,
            expires_at=at + ttl_s,
            number=self.number,
            waits_for=o.OVER_CAPACITY,
        )
        self.queue.put(ticket, AGEING_S)
        return ticket

    def serve(self, now: float = 0.0) -> int:
        """The next one starts."""
        ticket = self.queue.next()
        assert ticket is not None
        self.queue.take(ticket)
        self.queue.started(ticket.request, now)
        self.held[ticket.request.tenant] += 1
        return ticket.number

    def everybody(self) -> list[int]:
        """Start all, in their order."""
        return [self.serve() for _ in range(len(self.queue))]


def test_first_come_first_served() -> None:
    """Of one tenant, where nothing else tells them apart."""
    line = Line()
    for at in (0.0, 0.0, 1.0):
        line.put(at=at)
    assert line.everybody() == [1, 2, 3]
    assert line.queue.next() is None


def test_priority_counts_as_much_as_waiting() -> None:
    """One step is worth a minute, so that in the end an older call comes before one of higher priority."""
    line = Line()
    line.put(at=0.0)
    line.put(at=59.0, priority=1)
    line.put(at=61.0, priority=1)
    line.put(at=61.0, priority=9)
    assert line.everybody() == [4, 2, 1, 3]


def test_whoever_rings_comes_before_whoever_is_to_be_dialled() -> None:
    """In the order of arrival, whatever their tenants hold."""
    line = Line()
    line.held["busy"] = 7
    line.put(priority=9)
    line.put("busy", at=1.0, direction=Direction.INBOUND)
    line.put("idle", at=2.0, direction=Direction.INBOUND)
    assert line.everybody() == [2, 3, 1]


def test_the_tenant_with_the_fewest_slots_for_its_weight_is_next() -> None:
    """Twice the weight, twice the slots; among equals, whoever was served least."""
    line = Line(big=2.0)
    for tenant in ("big", "big", "big", "big", "small", "small"):
        line.put(tenant)
    line.everybody()
    assert line.held == {"big": 4, "small": 2}
    line.put("big")
    line.put("small")
    line.held.clear()
    assert line.serve() == 7


def test_among_equals_whoever_has_had_least_of_late_is_next() -> None:
    """A tenant that had more slots a moment ago comes after one that had fewer, until that is long past."""
    line = Line()
    for tenant in ("acme", "acme", "zeta", "zeta"):
        line.put(tenant)
    line.held.update(acme=3, zeta=1)
    line.queue.pass_time(0.0)
    line.queue.pass_time(10.0)
    line.held.update(acme=-2)
    assert line.serve() == 3
    line.held.update(zeta=-1)
    line.queue.pass_time(1_000.0)
    assert line.serve() == 1


def test_whoever_comes_has_no_claim_to_what_others_had() -> None:
    """A tenant that was away takes turns with the others from now on, and is forgotten when it has nothing left."""
    line = Line()
    for _ in range(4):
        line.put("acme")
    line.held.update(acme=4)
    line.queue.pass_time(0.0)
    line.queue.pass_time(10.0)
    line.put("zeta", at=1.0)
    line.held.clear()
    assert line.serve() == 1
    line.held.clear()
    line.queue.take(line.queue.of_call("call-5") or line.put())
    line.queue.pass_time(20.0)
    line.put("zeta", at=2.0)
    assert line.serve() == 2


def test_who_waits_for_its_own_campaign_keeps_nobody_waiting() -> None:
    """Lanes can be passed over."""
    line = Line()
    first = line.put(campaign="spring")
    second = line.put(campaign="autumn", at=1.0)
    assert line.queue.next() is first
    assert line.queue.next({first.lane}) is second
    assert line.queue.next({first.lane, second.lane}) is None
    assert line.queue.head(first.lane) is first
    assert line.queue.head(Lane(Direction.OUTBOUND, "acme", "", "")) is None


def test_positions_are_counted_within_a_tenant_and_a_direction() -> None:
    """Over all of its lanes."""
    line = Line()
    tickets = [line.put(campaign="spring"), line.put(priority=1), line.put(), line.put("zeta")]
    ring = line.put(direction=Direction.INBOUND)
    assert [line.queue.position(ticket) for ticket in (*tickets, ring)] == [2, 1, 3, 1, 1]


def test_positions_over_lanes_follow_the_order_of_service() -> None:
    """A tenant's call is behind every call of the tenant that will be tried before it, whichever lane that is in."""
    line = Line()
    tickets = [line.put(campaign=name, at=at) for name, at in (("a", 0.0), ("b", 1.0), ("a", 2.0), ("b", 3.0))]
    assert [line.queue.position(ticket) for ticket in tickets] == [1, 2, 3, 4]


def test_the_estimate_follows_the_pace_of_the_starts() -> None:
    """And the tenant's share of them; never sooner than what is known."""
    line = Line(zeta=3.0)
    for _ in range(80):
        line.put("acme")
    last = line.put("zeta")
    assert line.queue.estimated_wait_s(last) == pytest.approx(FIRST_GUESS_S * 4 / 3)
    for second in range(60):
        line.held["zeta"] = 1_000
        line.serve(float(second))
    assert line.queue.estimated_wait_s(last) == pytest.approx(4 / 3, rel=0.02)
    last.retry_after_s = 30.0
    assert line.queue.estimated_wait_s(last) == 30.0
    line.queue.started(call_request(99, direction=Direction.INBOUND), 1000.0)
    assert line.queue.estimated_wait_s(last) == 30.0


def test_the_pace_is_not_measured_while_nobody_waits() -> None:
    """A quiet hour says nothing about how long the next one has to wait."""
    line = Line()
    for now in (0.0, 3600.0):
        line.queue.started(call_request(99), now)
    assert line.queue.estimated_wait_s(line.put()) == FIRST_GUESS_S


def test_those_whose_time_is_up() -> None:
    """Each once, the earliest first; not those that were taken, and not twice those that were put back."""
    line = Line()
    taken, late, later, back = (line.put(ttl_s=ttl_s) for ttl_s in (1.0, 2.0, 3.0, 1.5))
    line.queue.take(taken)
    line.queue.take(back)
    line.queue.put(back, AGEING_S)
    gone = []
    for ticket in line.queue.late(2.5):
        line.queue.take(ticket)
        gone.append(ticket)
    assert gone == [back, late]
    assert list(line.queue) == [later]


def test_tickets_are_found_and_counted() -> None:
    """By call, by request, by direction and tenant."""
    line = Line()
    one, other = line.put(), line.put("zeta")
    assert line.queue.of_call("call-1") is one
    assert line.queue.of_request("zeta", "request-2") is other
    assert line.queue.of_request("acme", "request-2") is None
    assert (line.queue.count(Direction.OUTBOUND), line.queue.count(Direction.OUTBOUND, "zeta")) == (2, 1)
    assert (line.queue.count(Direction.INBOUND), line.queue.count(Direction.INBOUND, "zeta")) == (0, 0)
    line.queue.take(one)
    assert (line.queue.of_call("call-1"), line.queue.count(Direction.OUTBOUND)) == (None, 1)
