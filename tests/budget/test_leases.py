"""Leases: their states, their money, and who is listened to."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from cluster.budget.admission import Admit, Load, Wish, decide
from cluster.budget.leases import LEASE, Lease, LeaseBook, LeaseEvent, LeaseState, UnknownLease
from cluster.call.states import IllegalTransition, step
from cluster.messages import Verdict

DAY = "2026-11-24"
TTL_S = 10.0
START_S = 60.0
BUDGET = 1_000_000


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


def a_book(*leases: Lease, now: float = 0.0) -> LeaseBook:
    """A book with these leases granted."""
    book = LeaseBook(ttl_s=TTL_S, start_within_s=START_S)
    for lease in leases:
        book.grant(lease)
        book.launch(lease.lease_id, now)
    return book


def renew(
    book: LeaseBook, cost: int, *, margin: int = 20, budget: int = BUDGET, token: int = 1, now: float = 1.0
) -> Verdict:
    """Renew lease-1 and return the verdict."""
    return book.renew(
        "lease-1",
        token,
        cost_usd_micros=cost,
        wind_down_usd_micros=margin,
        daily_budget_usd_micros=budget,
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
        book.settle("lease-1", 5)
    assert book.get("lease-1") == before
    assert book.money("acme", DAY) == (0, 100)


def test_a_settled_lease_gives_back_what_it_did_not_use() -> None:
    """Reserve, renew, end, settle: only the cost is gone."""
    book = a_book(a_lease())
    assert renew(book, 30) is Verdict.CONTINUE
    book.end("lease-1")
    assert book.settle("lease-1", 42).state is LeaseState.SETTLED
    assert book.money("acme", DAY) == (42, 0)
    assert len(book) == 0
    assert book.of_call("call-1") is None


def test_a_settlement_is_never_below_what_was_reported() -> None:
    """Cost only grows."""
    book = a_book(a_lease())
    renew(book, 60)
    book.end("lease-1")
    assert book.settle("lease-1", 0).cost_usd_micros == 60


def test_a_released_lease_costs_nothing() -> None:
    """Nothing came of it, and nobody pays."""
    book = a_book(a_lease())
    assert book.release("lease-1").state is LeaseState.RELEASED
    assert book.money("acme", DAY) == (0, 0)


def test_a_lease_ends_once() -> None:
    """Who comes second finds no such lease."""
    book = a_book(a_lease())
    book.end("lease-1")
    with pytest.raises(IllegalTransition):
        book.end("lease-1")
    book.settle("lease-1", 1)
    with pytest.raises(UnknownLease):
        book.end("lease-1")


@pytest.mark.parametrize(
    ("cost", "reserved", "max_cost", "budget", "verdict", "then_reserved"),
    [
        pytest.param(80, 100, 1_000, BUDGET, Verdict.CONTINUE, 100, id="just covered"),
        pytest.param(81, 100, 1_000, BUDGET, Verdict.CONTINUE, 121, id="raised by two margins"),
        pytest.param(81, 100, 101, BUDGET, Verdict.CONTINUE, 101, id="raised to the call's limit"),
        pytest.param(81, 100, 100, BUDGET, Verdict.WIND_DOWN, 100, id="the call's limit"),
        pytest.param(81, 100, 1_000, 100, Verdict.WIND_DOWN, 100, id="the tenant's day"),
        pytest.param(81, 100, 1_000, 101, Verdict.CONTINUE, 101, id="the tenant's last micro-dollar"),
        pytest.param(150, 100, 1_000, 100, Verdict.WIND_DOWN, 150, id="spent more than it was told to"),
    ],
)
def test_a_renewal_goes_on_while_a_goodbye_is_covered(
    cost: int, reserved: int, max_cost: int, budget: int, verdict: Verdict, then_reserved: int
) -> None:
    """What is held covers the cost and a goodbye of 20, is raised to do so, or the call winds down."""
    book = a_book(a_lease(reserved=reserved, max_cost=max_cost))
    assert renew(book, cost, budget=budget) is verdict
    lease = book.get("lease-1")
    assert lease is not None
    assert lease.reserved_usd_micros == then_reserved
    assert book.money("acme", DAY) == (0, then_reserved)


def test_more_money_is_reported_as_more_so_that_it_can_be_made_durable() -> None:
    """A raised reservation says so; one that suffices does not."""
    book = a_book(a_lease())
    answers = [
        book.renew("lease-1", 1, cost_usd_micros=cost, wind_down_usd_micros=20, daily_budget_usd_micros=BUDGET, now=1.0)
        for cost in (10, 90)
    ]
    assert [answer.extended for answer in answers] == [False, True]


def test_winding_down_is_for_good() -> None:
    """A call that was told to say goodbye is not told to go on, whatever became free."""
    book = a_book(a_lease(max_cost=100))
    assert renew(book, 81) is Verdict.WIND_DOWN
    assert renew(book, 81, margin=0) is Verdict.WIND_DOWN
    assert book.started("lease-1", 2.0).state is LeaseState.WINDING_DOWN


def test_an_older_holder_is_not_listened_to() -> None:
    """After a reassignment only the new fencing token counts."""
    book = a_book(a_lease())
    assert book.reassign("lease-1", "slot-2", 1.0).fencing_token == 2
    assert renew(book, 50, token=1) is Verdict.VOID
    assert book.money("acme", DAY) == (0, 100)
    assert renew(book, 50, token=2) is Verdict.CONTINUE


def test_a_renewal_of_a_lease_that_ends_or_ended_is_void() -> None:
    """Whoever comes too late leaves and settles nothing."""
    book = a_book(a_lease())
    book.end("lease-1")
    assert renew(book, 50) is Verdict.VOID
    book.settle("lease-1", 1)
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
    assert book.money("acme", DAY) == (0, 200)


def test_a_renewal_puts_the_end_off() -> None:
    """Every sign of life buys a whole time to live."""
    book = a_book(a_lease())
    renew(book, 1, now=55.0)
    assert book.expire(64.9) == []
    assert len(book.expire(65.0)) == 1


def test_a_lease_of_an_earlier_book_is_taken_over_as_it_stands() -> None:
    """With its money, its cost so far and its end."""
    book = LeaseBook(ttl_s=TTL_S, start_within_s=START_S)
    book.load_spent("acme", DAY, 7)
    book.grant(a_lease(state=LeaseState.HELD, cost_usd_micros=30, expires_at=110.0))
    assert book.money("acme", DAY) == (7, 100)
    assert book.expire(109.9) == []
    assert [lease.cost_usd_micros for lease in book.expire(110.0)] == [30]


def test_a_lease_does_not_run_out_before_its_admission_is_durable() -> None:
    """Only a launch sets the clock going."""
    book = LeaseBook(ttl_s=TTL_S, start_within_s=START_S)
    book.grant(a_lease())
    assert book.expire(1e9) == []
    book.launch("lease-1", 5.0)
    assert len(book.expire(65.0)) == 1


def test_money_belongs_to_its_tenant_and_day() -> None:
    """Who spends what of which day is kept apart, and forgotten when no lease of the day is open."""
    book = a_book(a_lease(1), a_lease(2, reserved=5))
    book.load_spent("acme", "2026-11-23", 9)
    book.load_spent("zeta", DAY, 3)
    assert book.tenants(DAY) == {"acme": (0, 105), "zeta": (3, 0)}
    book.forget_before(DAY)
    assert book.tenants("2026-11-23") == {}
    book.forget_before("2026-11-25")
    assert book.tenants(DAY) == {"acme": (0, 105)}
    assert [lease.lease_id for lease in book] == ["lease-1", "lease-2"]


MARGIN = 20
"""Of the machine below: the holder spends at most half of it between renewals, and half of it to say goodbye."""
MAX_CALLS = 4
DAILY = 149
"""One micro-dollar less than what round estimates add up to: a cap that is passed by one is seen."""


class AdmissionMachine(RuleBasedStateMachine):
    """Calls are asked for, renewed, ended, lost and passed on in any order, by holders that do as they are told.

    The model beside it is what each holder really spent.
    """

    leases = Bundle("leases")

    @initialize()
    def begin(self) -> None:
        """An empty book, with two tenants and two days."""
        self.book = LeaseBook(ttl_s=TTL_S, start_within_s=START_S)
        self.now = 0.0
        self.day = 1
        self.spent: dict[str, int] = {}
        self.token: dict[str, int] = {}
        self.winding_down: set[str] = set()
        self.owner: dict[str, tuple[str, str]] = {}
        self.ended: dict[tuple[str, str], int] = {}
        self.endings: list[str] = []
        self.ending: set[str] = set()

    @rule(
        target=leases,
        tenant=st.sampled_from(["acme", "acme", "zeta"]),
        estimate=st.integers(1, 60) | st.sampled_from([30, 50]),
        max_cost=st.integers(1, 120),
        draining=st.sampled_from([False, False, False, True]),
    )
    def ask(self, tenant: str, estimate: int, max_cost: int, draining: bool) -> str:  # noqa: FBT001
        """Ask for a call; an admission opens a lease at once."""
        return self._ask(tenant, estimate, max_cost, draining=draining)

    @rule(lease_id=leases, spends=st.integers(0, MARGIN // 2), stale=st.booleans())
    def renew(self, lease_id: str, spends: int, stale: bool) -> None:  # noqa: FBT001
        """A holder spends a little and renews; an older holder's renewal is void."""
        token = self.token.get(lease_id, 1)
        if stale:
            assert self._renew(lease_id, token - 1, 10**9) is Verdict.VOID
            return
        if not self._is_open(lease_id):
            assert self._renew(lease_id, token, spends) is Verdict.VOID
            return
        if lease_id in self.winding_down:
            spends = 0
        self.spent[lease_id] += spends
        verdict = self._renew(lease_id, token, self.spent[lease_id])
        assert verdict is not Verdict.VOID
        if verdict is Verdict.WIND_DOWN:
            self.winding_down.add(lease_id)
        else:
            assert lease_id not in self.winding_down

    @rule()
    def renew_all(self) -> None:
        """Everybody spends as much as is allowed between two renewals."""
        for lease in self.book:
            self.renew(lease.lease_id, MARGIN // 2, stale=False)

    @rule(lease_id=leases)
    def talk_to_the_end(self, lease_id: str) -> None:
        """A holder spends as much as it may until it is told to say goodbye, and says the longest one."""
        while self._is_open(lease_id) and lease_id not in self.winding_down:
            self.renew(lease_id, MARGIN // 2, stale=False)
        self.end(lease_id, MARGIN // 2)

    @rule(target=leases, estimate=st.sampled_from([25, 30, 50]))
    def crowd(self, estimate: int) -> MultipleResults[str]:
        """Everybody asks at once."""
        asked = [self._ask("acme", estimate, 120) for _ in range(MAX_CALLS + 1)]
        return multiple(*asked)

    @rule(lease_id=leases, goodbye=st.integers(0, MARGIN // 2))
    def end(self, lease_id: str, goodbye: int) -> None:
        """A call ends, and is settled with what it cost in the end."""
        if self._is_open(lease_id):
            lease = self.book.end(lease_id)
            assert self.spent[lease_id] + goodbye <= lease.reserved_usd_micros
            self._settle(lease_id, self.spent[lease_id] + goodbye)

    @rule(lease_id=leases)
    def begin_to_end(self, lease_id: str) -> None:
        """A call ends, and its end is being written."""
        if self._is_open(lease_id):
            self.book.end(lease_id)
            self.ending.add(lease_id)

    @precondition(lambda self: self.ending)
    @rule()
    def written(self) -> None:
        """An end is written."""
        lease_id = min(self.ending)
        self.ending.remove(lease_id)
        self._settle(lease_id, self.spent[lease_id])

    @rule(lease_id=consumes(leases))
    def pass_on(self, lease_id: str) -> None:
        """A call that has not begun goes to another actor, or nothing comes of it."""
        lease = self.book.get(lease_id)
        if lease is not None and lease.state is LeaseState.GRANTED:
            if int(self.now) % 2:
                self.token[lease_id] = self.book.reassign(lease_id, "other", self.now).fencing_token
            else:
                self.book.release(lease_id)
                del self.spent[lease_id]
                self.endings.append(lease_id)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; what was silent for too long is ended with its last known cost."""
        self.now += seconds
        for lease in self.book.expire(self.now):
            assert lease.lease_id not in self.ending
            self._settle(lease.lease_id, lease.cost_usd_micros)

    @precondition(lambda self: self.day == 1)
    @rule()
    def midnight(self) -> None:
        """The next day begins; calls that run belong to the day of their beginning."""
        self.day = 2

    @invariant()
    def no_cap_is_passed(self) -> None:
        """Not by one micro-dollar, and not by one call."""
        assert len(self.book) <= MAX_CALLS
        for tenant in ("acme", "zeta"):
            for day in ("2026-11-01", "2026-11-02"):
                spent, reserved = self.book.money(tenant, day)
                mine = [lease for lease in self.book if (lease.tenant, lease.day) == (tenant, day)]
                assert reserved == sum(lease.reserved_usd_micros for lease in mine)
                assert all(lease.reserved_usd_micros <= lease.max_cost_usd_micros for lease in mine)
                running = sum(
                    cost for x, cost in self.spent.items() if self.owner[x] == (tenant, day) and x not in self.endings
                )
                assert spent == self.ended.get((tenant, day), 0)
                assert running <= reserved
                assert 0 <= spent + reserved <= DAILY

    @invariant()
    def every_lease_ends_once(self) -> None:
        """What was granted is open or has ended, and has not ended twice."""
        assert len(self.endings) == len(set(self.endings))
        assert {lease.lease_id for lease in self.book} == self.spent.keys() - set(self.endings)

    def _ask(self, tenant: str, estimate: int, max_cost: int, *, draining: bool = False) -> str:
        day = f"2026-11-{self.day:02}"
        spent, reserved = self.book.money(tenant, day)
        wish = Wish(estimate_usd_micros=estimate, wind_down_usd_micros=MARGIN, max_cost_usd_micros=max_cost)
        load = Load(
            draining=draining,
            leases=len(self.book),
            max_calls=MAX_CALLS,
            spent_usd_micros=spent,
            reserved_usd_micros=reserved,
            daily_budget_usd_micros=DAILY,
            until_tomorrow_s=1.0,
        )
        said = decide(wish, load)
        number = len(self.owner) + 1
        lease_id = f"lease-{number}"
        self.owner[lease_id] = tenant, day
        if not isinstance(said, Admit):
            return lease_id
        assert not draining
        lease = Lease(
            lease_id=lease_id,
            call_id=f"call-{number}",
            tenant=tenant,
            day=day,
            slot="slot",
            max_cost_usd_micros=max_cost,
            reserved_usd_micros=said.reserve_usd_micros,
        )
        self.book.grant(lease)
        self.book.launch(lease_id, self.now)
        self.spent[lease_id], self.token[lease_id] = 0, 1
        return lease_id

    def _is_open(self, lease_id: str) -> bool:
        lease = self.book.get(lease_id)
        return lease is not None and lease.state is not LeaseState.ENDING

    def _renew(self, lease_id: str, token: int, cost: int) -> Verdict:
        return self.book.renew(
            lease_id,
            token,
            cost_usd_micros=cost,
            wind_down_usd_micros=MARGIN,
            daily_budget_usd_micros=DAILY,
            now=self.now,
        ).verdict

    def _settle(self, lease_id: str, cost: int) -> None:
        settled = self.book.settle(lease_id, cost)
        self.endings.append(lease_id)
        owner = self.owner[lease_id]
        self.ended[owner] = self.ended.get(owner, 0) + settled.cost_usd_micros


AdmissionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAdmissionMachine = AdmissionMachine.TestCase
