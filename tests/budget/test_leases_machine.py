"""Admission and leases under any order of events: no cap is passed by one micro-dollar, every lease ends once."""

from __future__ import annotations

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

from cluster.budget.admission import Admit, Ceiling, Load, Wish, decide
from cluster.budget.leases import Lease, LeaseBook, LeaseState
from cluster.messages import Verdict
from cluster.outcome import OVER_CAPACITY
from tests.budget.fakes import bill

TTL_S = 10.0
START_S = 60.0
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
            ceilings=(Ceiling(OVER_CAPACITY, len(self.book), MAX_CALLS),),
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
            bill=bill(cost),
            wind_down_usd_micros=MARGIN,
            daily_budget_usd_micros=DAILY,
            now=self.now,
        ).verdict

    def _settle(self, lease_id: str, cost: int) -> None:
        settled = self.book.settle(lease_id, bill(cost))
        self.endings.append(lease_id)
        owner = self.owner[lease_id]
        self.ended[owner] = self.ended.get(owner, 0) + settled.cost_usd_micros


AdmissionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAdmissionMachine = AdmissionMachine.TestCase
