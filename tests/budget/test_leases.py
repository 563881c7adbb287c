"""Leases: their states, their money, and who is listened to."""

from __future__ import annotations

from itertools import product

import pytest

from cluster.budget.budgets import EVERYONE, Budget, Scope, Thresholds, Treasury, Window
from cluster.budget.leases import (
    LEASE,
    MAX_MOVES,
    MOVES_WITHIN_S,
    TAKEN_OVER_WITHIN_S,
    Lease,
    LeaseBook,
    LeaseEvent,
    LeaseState,
    TooManyMoves,
    UnknownLease,
    may_move,
)
from cluster.budget.pricing import Ahead
from cluster.machine import IllegalTransition, step
from cluster.messages import Verdict
from tests.budget.fakes import bill

DAY = "2026-11-24"
TTL_S = 10.0
START_S = 60.0
BUDGET = 1_000_000
AHEAD = Ahead(goodbye=20, soon=30, slice=40)


def a_lease(number: int = 1, *, reserved: int = 100, max_cost: int = 1_000, **changes: object) -> Lease:
    """A lease of acme's."""
    return Lease(
        lease_id=f"lease-{number}",
        call_id=f"call-{number}",
        tenant="acme",
        day=DAY,
        slot="slot-1",
        max_cost_usd_micros=max_cost,
        reserved_usd_micros=reserved,
        **changes,  # type: ignore[arg-type]
    )


def a_treasury(budget: int = BUDGET) -> Treasury:
    """Every tenant has the same, once and for all."""
    cap = Budget(scope=Scope.TENANT, name=EVERYONE, window=Window.TOTAL, cap_usd_micros=budget)
    return Treasury((cap,), Thresholds(concise_at=0.8))


def money(book: LeaseBook) -> tuple[int, int]:
    """What acme has spent and holds."""
    standings = {standing.purse.name: standing for standing in book.treasury.now(0.0)}
    acme = standings.get("acme")
    return (acme.spent_usd_micros, acme.held_usd_micros) if acme else (0, 0)


def a_book(*leases: Lease, now: float = 0.0, budget: int = BUDGET) -> LeaseBook:
    """A book with these leases granted, of tenants that have so much."""
    book = LeaseBook(a_treasury(budget), ttl_s=TTL_S, start_within_s=START_S)
    for lease in leases:
        book.grant(lease)
        book.launch(lease.lease_id, now)
    return book


def renew(book: LeaseBook, cost: int, *, token: int = 1, now: float = 1.0) -> Verdict:
    """Renew lease-1 and return the verdict."""
    return book.renew(
        "lease-1",
        token,
        bill=bill(cost),
        ahead=AHEAD,
        now=now,
    ).verdict


def test_an_event_that_the_table_does_not_have_raises() -> None:
    """Every pair of state and event is either in the table or illegal."""
    for state, event in product(LeaseState, LeaseEvent):
        if event in LEASE[state]:
            assert step(LEASE, state, event) in LeaseState
        else:
            with pytest.raises(IllegalTransition):
                step(LEASE, state, event)


def test_an_illegal_event_changes_nothing() -> None:
    """A lease that is not ending can't be settled, and stands as it stood."""
    book = a_book(a_lease())
    before = book.get("lease-1")
    with pytest.raises(IllegalTransition):
        book.settle("lease-1", bill(5))
    assert book.get("lease-1") == before
    assert money(book) == (0, 100)


def test_a_settled_lease_gives_back_what_it_did_not_use() -> None:
    """Reserve, renew, end, settle: only the cost is gone."""
    book = a_book(a_lease())
    assert renew(book, 30) is Verdict.CONTINUE
    book.end("lease-1")
    assert book.settle("lease-1", bill(42)).state is LeaseState.SETTLED
    assert money(book) == (42, 0)
    assert len(book) == 0
    assert book.of_call("call-1") is None


def test_a_settlement_is_never_below_what_was_reported() -> None:
    """Cost only grows."""
    book = a_book(a_lease())
    renew(book, 60)
    book.end("lease-1")
    assert book.settle("lease-1", bill(0)).cost_usd_micros == 60


def test_a_released_lease_costs_nothing() -> None:
    """Nothing came of it, and nobody pays."""
    book = a_book(a_lease())
    assert book.release("lease-1").state is LeaseState.RELEASED
    assert money(book) == (0, 0)


def test_a_lease_ends_once() -> None:
    """Who comes second finds no such lease."""
    book = a_book(a_lease())
    book.end("lease-1")
    with pytest.raises(IllegalTransition):
        book.end("lease-1")
    book.settle("lease-1", bill(1))
    with pytest.raises(UnknownLease):
        book.end("lease-1")


@pytest.mark.parametrize(
    ("cost", "max_cost", "budget", "verdict", "then_reserved"),
    [
        pytest.param(70, 1_000, BUDGET, Verdict.CONTINUE, 100, id="just covered"),
        pytest.param(71, 1_000, BUDGET, Verdict.CONTINUE, 111, id="raised by a slice"),
        pytest.param(71, 105, BUDGET, Verdict.CONTINUE, 105, id="raised to the call's limit"),
        pytest.param(71, 100, BUDGET, Verdict.WIND_DOWN, 100, id="the call's limit"),
        pytest.param(75, 104, BUDGET, Verdict.WIND_DOWN, 100, id="a raise that would not do is not made"),
        pytest.param(71, 1_000, 100, Verdict.WIND_DOWN, 100, id="the tenant's budget"),
        pytest.param(71, 1_000, 101, Verdict.CONCISE, 101, id="the tenant's last micro-dollar"),
        pytest.param(70, 1_000, 125, Verdict.CONCISE, 100, id="a budget that runs low"),
        pytest.param(70, 1_000, 126, Verdict.CONTINUE, 100, id="a budget that does not yet"),
        pytest.param(150, 1_000, 100, Verdict.WIND_DOWN, 150, id="spent more than it was told to"),
    ],
)
def test_a_renewal_goes_on_while_the_next_slice_is_covered(
    cost: int, max_cost: int, budget: int, verdict: Verdict, then_reserved: int
) -> None:
    """What is held lasts until the next renewal and for a goodbye, is raised to do so, or the call winds down."""
    book = a_book(a_lease(max_cost=max_cost), budget=budget)
    assert renew(book, cost) is verdict
    lease = book.get("lease-1")
    assert lease is not None
    assert lease.reserved_usd_micros == then_reserved
    assert money(book) == (0, then_reserved)


def test_a_call_that_winds_down_holds_its_goodbye_and_nothing_more() -> None:
    """A longer goodbye is paid while there is money; the call goes on no more."""
    book = a_book(a_lease(max_cost=100))
    assert renew(book, 71) is Verdict.WIND_DOWN
    assert renew(book, 80) is Verdict.WIND_DOWN
    assert money(book) == (0, 100)
    other = a_book(a_lease(), budget=110)
    assert renew(other, 85) is Verdict.WIND_DOWN
    assert money(other) == (0, 100)
    assert renew(other, 86) is Verdict.WIND_DOWN
    assert money(other) == (0, 106)


def test_more_money_is_reported_as_more_so_that_it_can_be_made_durable() -> None:
    """A raised reservation says so; one that suffices does not."""
    book = a_book(a_lease())
    answers = [book.renew("lease-1", 1, bill=bill(cost), ahead=AHEAD, now=1.0) for cost in (10, 90)]
    assert [answer.more_usd_micros for answer in answers] == [0, 30]


def test_winding_down_is_for_good() -> None:
    """A call that was told to say goodbye is not told to go on, whatever became free."""
    book = a_book(a_lease(max_cost=100))
    assert renew(book, 81) is Verdict.WIND_DOWN
    assert renew(book, 81) is Verdict.WIND_DOWN
    assert book.started("lease-1", 2.0).state is LeaseState.WINDING_DOWN


def test_an_older_holder_is_not_listened_to() -> None:
    """After a reassignment only the new fencing token counts."""
    book = a_book(a_lease())
    assert book.reassign("lease-1", "slot-2", 1.0).fencing_token == 2
    assert renew(book, 50, token=1) is Verdict.VOID
    assert money(book) == (0, 100)
    assert renew(book, 50, token=2) is Verdict.CONTINUE


@pytest.mark.parametrize("winding_down", [False, True])
def test_a_running_call_is_given_to_another_actor_with_its_money(winding_down: bool) -> None:  # noqa: FBT001
    """It has a time to live to take over, and goes on as the call stood; only the new holder is listened to."""
    book = a_book(a_lease(max_cost=100))
    assert renew(book, 71 if winding_down else 50) is (Verdict.WIND_DOWN if winding_down else Verdict.CONTINUE)
    before = book.get("lease-1")
    assert before is not None
    moved = book.reassign("lease-1", "slot-2", 5.0)
    assert (moved.slot, moved.fencing_token, moved.expires_at) == ("slot-2", 2, 5.0 + TTL_S)
    assert moved.state is (LeaseState.WINDING_DOWN if winding_down else LeaseState.HELD)
    assert (moved.bill, moved.reserved_usd_micros) == (before.bill, before.reserved_usd_micros)
    assert book.expire(5.0 + TTL_S) == [book.get("lease-1")]


def test_a_caller_does_not_wait_as_long_as_a_lease_may_live_unheard() -> None:
    """Where a call may outlive a long absence of `BudgetPool`, its next process still has to begin soon."""
    book = LeaseBook(a_treasury(), ttl_s=180.0, start_within_s=START_S)
    book.grant(a_lease())
    book.launch("lease-1", 0.0)
    book.started("lease-1", 0.0)
    assert book.reassign("lease-1", "slot-2", 5.0).expires_at == 5.0 + TAKEN_OVER_WITHIN_S


def test_a_call_that_loses_actor_after_actor_is_not_moved_for_ever() -> None:
    """Four moves within a minute, and more only when the first ones are past; what has ended moves nowhere."""
    book = a_book(a_lease())
    book.started("lease-1", 0.0)
    for second in range(MAX_MOVES):
        moved = book.reassign("lease-1", f"slot-{second}", second)
        assert may_move(moved, 5.0) is (second < MAX_MOVES - 1)
    with pytest.raises(TooManyMoves):
        book.reassign("lease-1", "slot-9", 5.0)
    assert may_move(moved, MOVES_WITHIN_S)
    assert book.reassign("lease-1", "slot-9", MOVES_WITHIN_S).fencing_token == MAX_MOVES + 2
    assert not may_move(book.end("lease-1"), 1_000.0)


def test_a_renewal_of_a_lease_that_ends_or_ended_is_void() -> None:
    """Whoever comes too late leaves and settles nothing."""
    book = a_book(a_lease())
    book.end("lease-1")
    assert renew(book, 50) is Verdict.VOID
    book.settle("lease-1", bill(1))
    assert renew(book, 50) is Verdict.VOID


def test_a_lease_runs_out_when_its_holder_is_silent() -> None:
    """An actor has a while to begin, then a shorter one between signs of life."""
    book = a_book(a_lease(1), a_lease(2), now=0.0)
    book.started("lease-1", 1.0)
    assert book.expire(10.999) == []
    assert [lease.lease_id for lease in book.expire(11.0)] == ["lease-1"]
    assert book.expire(59.9) == []
    assert [lease.state for lease in book.expire(60.0)] == [LeaseState.ENDING]
    assert book.expire(1_000.0) == []
    assert money(book) == (0, 200)


def test_a_renewal_puts_the_end_off() -> None:
    """Every sign of life buys a whole time to live."""
    book = a_book(a_lease())
    renew(book, 1, now=55.0)
    assert book.expire(64.9) == []
    assert len(book.expire(65.0)) == 1


def test_a_lease_of_an_earlier_book_is_taken_over_as_it_stands() -> None:
    """With its money, its cost so far and its end."""
    book = LeaseBook(a_treasury(), ttl_s=TTL_S, start_within_s=START_S)
    for purse in book.treasury.purses(a_lease().owner):
        book.treasury.load(purse, 7)
    book.grant(a_lease(state=LeaseState.HELD, bill=bill(30), expires_at=110.0))
    assert money(book) == (7, 100)
    assert book.expire(109.9) == []
    assert [lease.cost_usd_micros for lease in book.expire(110.0)] == [30]


def test_a_lease_does_not_run_out_before_its_admission_is_durable() -> None:
    """Only a launch sets the clock going."""
    book = LeaseBook(a_treasury(), ttl_s=TTL_S, start_within_s=START_S)
    book.grant(a_lease())
    assert book.expire(1e9) == []
    book.launch("lease-1", 5.0)
    assert len(book.expire(65.0)) == 1


@pytest.mark.parametrize(("cost", "state"), [(10, LeaseState.HELD), (1_000, LeaseState.WINDING_DOWN)])
def test_a_call_that_runs_can_be_given_to_another_actor(cost: int, state: LeaseState) -> None:
    """It keeps its money, and who was saying goodbye still is."""
    book = a_book(a_lease())
    renew(book, cost)
    before = money(book)
    moved = book.reassign("lease-1", "another", 1.0)
    assert (moved.slot, moved.fencing_token, moved.state) == ("another", 2, state)
    assert money(book) == before


def test_that_a_phone_may_have_rung_is_kept() -> None:
    """It has to be durable the first time that it is said, and is never taken back."""
    book = a_book(a_lease())
    answers = [
        book.renew(
            "lease-1",
            1,
            bill=bill(0),
            ahead=AHEAD,
            now=1.0,
            dialled=said,
        )
        for said in (True, True, False)
    ]
    assert [(answer.binding, answer.lease.dialled) for answer in answers if answer.lease] == [
        (True, True),
        (False, True),
        (False, True),
    ]
