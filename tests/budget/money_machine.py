"""Money and leases under any order of events: admissions, renewals, endings, lost processes, takeovers, restarts.

What is under test is the real decision (`decide`), the real books (`LeaseBook`, `Treasury`) and the real ledger. Around
them stand a disk that commits late and loses what it had not committed, and holders that do as they are told: whoever
was told to go on spends what may be spent until the next renewal, whoever was not says goodbye.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster import outcome as o
from cluster.budget import ledger
from cluster.budget.admission import Admit, Ceiling, Load, Wish, decide
from cluster.budget.budgets import EVERYONE, Budget, Owner, Purse, Scope, Treasury, Window
from cluster.budget.leases import Lease, LeaseBook, LeaseState, may_move
from cluster.budget.pricing import Ahead, Bill, Route
from cluster.messages import Direction, Verdict

TTL_S = 10.0
START_S = 60.0
DAY_S = 86_400.0
MAX_CALLS = 5
AHEAD = Ahead(goodbye=11, soon=24, slice=31)
STEP = AHEAD.soon - AHEAD.goodbye
"""What a holder may spend from one answer to the next."""
BUDGETS = (
    Budget(scope=Scope.TENANT, name=EVERYONE, window=Window.DAY, cap_usd_micros=149),
    Budget(scope=Scope.TENANT, name="rich", window=Window.MONTH, cap_usd_micros=397),
    Budget(scope=Scope.CAMPAIGN, name=EVERYONE, window=Window.TOTAL, cap_usd_micros=211),
    Budget(scope=Scope.PROFILE, name="baker", window=Window.DAY, cap_usd_micros=173),
)
"""No cap is a sum of round amounts, so that one that is passed by a micro-dollar is seen."""


@dataclass(slots=True)
class Holder:
    """A process that has a call, and what it really spent."""

    lease_id: str
    token: int
    cost: int = 0
    limit: int = STEP
    """So much it may have spent before it has to be told to go on."""
    winding_down: bool = False


@dataclass(slots=True)
class Disk:
    """What survives: rows and entries that were committed. The others wait, in order."""

    rows: dict[str, Lease] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    entries: dict[str, list[ledger.Entry]] = field(default_factory=dict)
    waiting: list[tuple[Lease, ledger.Entry | None, Callable[[], None]]] = field(default_factory=list)
    stuck: bool = False

    def write(self, lease: Lease, entry: ledger.Entry | None, then: Callable[[], None]) -> None:
        """Store a lease as it stands, with an entry; `then` is called when both are durable."""
        self.waiting.append((lease, entry, then))
        if not self.stuck:
            self.commit(len(self.waiting))

    def commit(self, writes: int) -> None:
        """Make the oldest of what waits durable."""
        for _ in range(min(writes, len(self.waiting))):
            lease, entry, then = self.waiting.pop(0)
            assert lease.lease_id not in self.over, "a lease that has ended was written once more"
            self.rows[lease.lease_id] = lease
            if entry is not None:
                self.entries.setdefault(lease.lease_id, []).append(entry)
                if entry.kind in ledger.ENDS:
                    self.over.add(lease.lease_id)
            then()


class MoneyMachine(RuleBasedStateMachine):
    """Whatever happens, no cap is passed by one micro-dollar or by one call, and every lease ends once."""

    operations = 0
    """Of all runs: those that did something."""
    calls = 0
    """That were admitted."""

    @initialize()
    def begin(self) -> None:
        """An empty book."""
        self.disk = Disk()
        self.now = 0.0
        self.utc = 1_795_521_600.0
        self.number = 0
        self.alive: dict[str, Holder] = {}
        self.zombies: list[Holder] = []
        self._open()

    @rule(
        tenant=st.sampled_from(["acme", "acme", "rich", "zeta"]),
        campaign=st.sampled_from(["", "", "spring"]),
        profile=st.sampled_from(["baker", "clerk"]),
        max_cost=st.integers(5, 150),
        estimate=st.integers(1, 60),
        important=st.booleans(),
        refused_by_disk=st.sampled_from([False] * 9 + [True]),
    )
    def admit(
        self,
        tenant: str,
        campaign: str,
        profile: str,
        max_cost: int,
        estimate: int,
        important: bool,  # noqa: FBT001
        refused_by_disk: bool,  # noqa: FBT001
    ) -> None:
        """Somebody asks for a call. Its holder begins when the admission is durable."""
        owner = Owner(tenant=tenant, campaign=campaign, profile=profile, at=self.utc)
        wish = Wish(estimate_usd_micros=estimate, ahead=AHEAD, max_cost_usd_micros=max_cost, important=important)
        load = Load(
            draining=False,
            ceilings=(Ceiling(o.OVER_CAPACITY, len(self.book), MAX_CALLS),),
            budgets=self.book.treasury.standings(self.book.treasury.purses(owner)),
            at=self.utc,
            priority_at=0.9,
        )
        self._count()
        said = decide(wish, load)
        if not isinstance(said, Admit):
            return
        self.number += 1
        MoneyMachine.calls += 1
        lease = self.book.grant(self._new_lease(owner, max_cost, said.reserve_usd_micros))
        if refused_by_disk:
            self.book.release(lease.lease_id)
            return
        self.disk.write(lease, ledger.reserved(lease), lambda: self._launch(lease.lease_id))

    @rule(which=st.integers(0, MAX_CALLS), usd_micros=st.integers(1, STEP))
    def spend(self, which: int, usd_micros: int) -> None:
        """A call goes on, as far as it may."""
        if (holder := self._holder(which)) is not None and not holder.winding_down:
            holder.cost = min(holder.limit, holder.cost + usd_micros)
            self._count()

    @rule()
    def spend_all(self) -> None:
        """Everybody spends what may be spent, and asks at once."""
        for holder in tuple(self.alive.values()):
            if not holder.winding_down:
                holder.cost = holder.limit
            self._renew(holder, lost=False)
            self._count()

    @rule(
        which=st.integers(0, MAX_CALLS), times=st.sampled_from([1, 1, 1, 2]), lost=st.sampled_from([False, False, True])
    )
    def renew(self, which: int, times: int, lost: bool) -> None:  # noqa: FBT001
        """A heartbeat, once or twice; its answer may get lost."""
        if (holder := self._holder(which)) is not None:
            for _ in range(times):
                self._renew(holder, lost=lost)
                self._count()

    @rule(which=st.integers(0, 9), usd_micros=st.integers(0, 10_000))
    def speak_from_the_grave(self, which: int, usd_micros: int) -> None:
        """A holder that lost its lease to another, or whose lease has ended, renews it: it is not listened to."""
        gone = [holder for holder in self.zombies if not self._is_current(holder)]
        if not gone:
            return
        zombie = gone[which % len(gone)]
        bill = Bill(charges={"model": zombie.cost + usd_micros})
        said = self.book.renew(zombie.lease_id, zombie.token, bill=bill, ahead=AHEAD, now=self.now)
        assert said.verdict is Verdict.VOID
        self._count()

    @rule(which=st.integers(0, MAX_CALLS), goodbye=st.integers(0, AHEAD.goodbye), times=st.sampled_from([1, 1, 2]))
    def end(self, which: int, goodbye: int, times: int) -> None:
        """A call ends, after a goodbye; it may say so twice."""
        if (holder := self._holder(which)) is not None:
            holder.cost += goodbye
            for _ in range(times):
                self._end(holder.lease_id, Bill(charges={"model": holder.cost} if holder.cost else {}))
                self._count()

    @rule(which=st.integers(0, MAX_CALLS))
    def cancel(self, which: int) -> None:
        """A call that has not begun is taken back."""
        granted = [lease for lease in self.book if lease.state is LeaseState.GRANTED and lease.lease_id in self.alive]
        if granted:
            self._end(granted[which % len(granted)].lease_id, Bill())
            self._count()

    @rule(which=st.integers(0, MAX_CALLS), certain=st.booleans())
    def lose_process(self, which: int, certain: bool) -> None:  # noqa: FBT001
        """A process is gone. Where that is certain and nobody takes over, its call ends; else its lease runs out."""
        if (holder := self._holder(which)) is None:
            return
        del self.alive[holder.lease_id]
        self._count()
        lease = self.book.get(holder.lease_id)
        if certain and lease is not None:
            self._end(lease.lease_id, lease.bill)

    @rule(which=st.integers(0, MAX_CALLS))
    def take_over(self, which: int) -> None:
        """Another process gets a call, from one that is lost or only silent; it goes on from what was last heard."""
        leases = [lease for lease in self.book if lease.lease_id in self.disk.rows and may_move(lease, self.now)]
        if not leases:
            return
        lease = leases[which % len(leases)]
        if (before := self.alive.pop(lease.lease_id, None)) is not None:
            self.zombies.append(before)
        moved = self.book.reassign(lease.lease_id, "other", self.now)
        self.disk.write(moved, None, lambda: self._begin_again(moved.lease_id, moved.fencing_token))
        self._count()

    @rule(writes=st.integers(0, 4))
    def kill_the_pool(self, writes: int) -> None:
        """`BudgetPool` dies, with some of what waited committed, and comes back with what is on the disk."""
        self.disk.commit(writes)
        self.disk.waiting.clear()
        self.disk.stuck = False
        self._open()
        self._count()

    @rule()
    def hold_the_disk_up(self) -> None:
        """Nothing is committed for a while."""
        self.disk.stuck = True
        self._count()

    @precondition(lambda self: self.disk.stuck)
    @rule(writes=st.integers(1, 5))
    def commit_some(self, writes: int) -> None:
        """A few writes get through."""
        self.disk.commit(writes)
        self._count()

    @precondition(lambda self: self.disk.stuck)
    @rule()
    def commit_all(self) -> None:
        """The disk works again."""
        self.disk.stuck = False
        self.disk.commit(len(self.disk.waiting))
        self._count()

    @rule(seconds=st.sampled_from([0.5, 2.0, 2.0, 6.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; leases of silent holders run out, and those who can't renew end by themselves."""
        self.now += seconds
        self.utc += seconds
        for lease in self.book.expire(self.now):
            if (holder := self.alive.pop(lease.lease_id, None)) is not None:
                self.zombies.append(holder)
            self._write_end(lease, lease.bill)
        self._count()

    @rule()
    def sleep_until_tomorrow(self) -> None:
        """The next day's budgets begin; calls that run are paid by the day of their beginning."""
        self.utc += DAY_S
        self.book.treasury.forget(self.utc)
        self._count()

    @rule(seed=st.integers(0, 1 << 32), operations=st.integers(1, 200))
    def much(self, seed: int, operations: int) -> None:
        """Many of the above, one after the other, without what it costs to choose each by itself."""
        choices = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        for _ in range(operations):
            do, a, b = OPERATIONS[choices.randrange(len(OPERATIONS))], choices.getrandbits(8), choices.getrandbits(8)
            do(self, a, b)
            self.no_cap_is_passed()

    @rule()
    def examine(self) -> None:
        """The ledger on the disk is right at any moment."""
        self._examine()
        self._count()

    @invariant()
    def no_cap_is_passed(self) -> None:
        """Neither by what is booked nor by what was really spent, nor by a call too many."""
        assert len(self.book) <= MAX_CALLS
        held: Counter[Purse] = Counter()
        for lease in self.book:
            assert lease.reserved_usd_micros <= lease.max_cost_usd_micros
            held.update(dict.fromkeys(lease.purses, lease.reserved_usd_micros))
        for standing in self.book.treasury.now(self.utc):
            assert standing.used_usd_micros <= standing.cap_usd_micros
            assert standing.held_usd_micros == held[standing.purse]
        for holder in self.alive.values():
            held_for = self.book.get(holder.lease_id)
            if held_for is not None and held_for.state is not LeaseState.ENDING:
                assert holder.cost + AHEAD.goodbye <= max(held_for.reserved_usd_micros, self._least(held_for))

    def teardown(self) -> None:
        """In the end everything is committed, every call over, and every lease has ended once."""
        if not hasattr(self, "disk"):
            return
        self.disk.stuck = False
        self.disk.commit(len(self.disk.waiting))
        for lease in self.book:
            self._end(lease.lease_id, lease.bill)
        assert len(self.book) == 0
        assert self.disk.over == self.disk.rows.keys()
        self._examine()

    def _least(self, lease: Lease) -> int:
        """A call whose limit is below a goodbye holds all that it ever may."""
        return AHEAD.goodbye if lease.max_cost_usd_micros < AHEAD.slice else 0

    def _open(self) -> None:
        """A book as a new process has it: what the disk says, with calls that go on being held by whoever has them."""
        treasury = Treasury(BUDGETS)
        self.book = LeaseBook(treasury, ttl_s=TTL_S, start_within_s=START_S)
        spent: Counter[Purse] = Counter()
        open_rows = []
        for lease_id, row in self.disk.rows.items():
            if lease_id in self.disk.over:
                spent.update(dict.fromkeys(row.purses, row.cost_usd_micros))
            else:
                open_rows.append(row)
        for purse, usd_micros in spent.items():
            treasury.load(purse, usd_micros)
        for row in open_rows:
            state = LeaseState.HELD if row.state is LeaseState.ENDING else row.state
            self.book.grant(replace(row, state=state, expires_at=self.now + TTL_S))
        for lease_id, holder in tuple(self.alive.items()):
            lease = self.book.get(lease_id)
            if lease is None or lease.fencing_token != holder.token:
                self.zombies.append(self.alive.pop(lease_id))

    def _new_lease(self, owner: Owner, max_cost: int, reserve: int) -> Lease:
        return Lease(
            lease_id=f"lease-{self.number}",
            call_id=f"call-{self.number}",
            tenant=owner.tenant,
            campaign=owner.campaign,
            profile=owner.profile,
            day="2026-11-24",
            slot="slot",
            max_cost_usd_micros=max_cost,
            reserved_usd_micros=reserve,
            granted_at=owner.at,
        )

    def _launch(self, lease_id: str) -> None:
        lease = self.book.launch(lease_id, self.now)
        limit = max(0, min(STEP, lease.reserved_usd_micros - AHEAD.goodbye))
        self.alive[lease_id] = Holder(lease_id, lease.fencing_token, limit=limit)

    def _begin_again(self, lease_id: str, token: int) -> None:
        """The new process asks before it spends anything."""
        lease = self.book.get(lease_id)
        if lease is None or lease.fencing_token != token or lease.state is LeaseState.ENDING:
            return
        self.book.started(lease_id, self.now)
        cost = lease.cost_usd_micros
        self.alive[lease_id] = Holder(lease_id, token, cost=cost, limit=cost)

    def _renew(self, holder: Holder, *, lost: bool) -> None:
        cost = holder.cost
        bill = Bill(charges={"model": cost} if cost else {})
        said = self.book.renew(holder.lease_id, holder.token, bill=bill, ahead=AHEAD, now=self.now)
        if said.verdict is Verdict.VOID:
            if self.alive.get(holder.lease_id) is holder:
                self.zombies.append(self.alive.pop(holder.lease_id))
            return
        assert said.lease is not None
        entry = ledger.renewed(said.lease, said.more_usd_micros) if said.more_usd_micros else None
        self.disk.write(said.lease, entry, lambda: self._answer(holder, said.verdict, cost, lost=lost))

    def _answer(self, holder: Holder, verdict: Verdict, cost: int, *, lost: bool) -> None:
        """The holder learns of it when it is durable."""
        if lost or holder.winding_down:
            return
        if verdict is Verdict.WIND_DOWN:
            holder.winding_down = True
        else:
            holder.limit = max(holder.limit, cost + STEP)

    def _end(self, lease_id: str, bill: Bill) -> None:
        lease = self.book.get(lease_id)
        if lease is None or lease.state is LeaseState.ENDING:
            return
        if (holder := self.alive.pop(lease_id, None)) is not None:
            self.zombies.append(holder)
        self._write_end(self.book.end(lease_id), bill)

    def _write_end(self, lease: Lease, bill: Bill) -> None:
        final = bill if bill.usd_micros > lease.cost_usd_micros else lease.bill
        over = replace(lease, bill=final, reserved_usd_micros=0, entries=lease.entries + 1)
        self.disk.write(over, ledger.ended(lease, final), lambda: self._settle(lease.lease_id, final))

    def _settle(self, lease_id: str, bill: Bill) -> None:
        assert self.book.settle(lease_id, bill).cost_usd_micros == bill.usd_micros

    def _is_current(self, holder: Holder) -> bool:
        lease = self.book.get(holder.lease_id)
        return lease is not None and lease.fencing_token == holder.token and lease.state is not LeaseState.ENDING

    def _holder(self, which: int) -> Holder | None:
        holders = list(self.alive.values())
        return holders[which % len(holders)] if holders else None

    def _examine(self) -> None:
        rows = self.disk.rows.values()
        books = [(_account(row, self.disk.over), self.disk.entries[row.lease_id]) for row in rows]
        found = ledger.examine(books, lambda account: account.bill.charges)
        assert found.problems == []
        assert found.debits_usd_micros == found.credits_usd_micros

    def _count(self) -> None:
        MoneyMachine.operations += 1


def _account(row: Lease, over: set[str]) -> ledger.Account:
    return ledger.Account(
        lease_id=row.lease_id,
        tenant=row.tenant,
        open=row.lease_id not in over,
        reserved_usd_micros=row.reserved_usd_micros,
        cost_usd_micros=row.cost_usd_micros,
        bill=row.bill,
        day=date(2026, 11, 24),
        route=Route(Direction.OUTBOUND, ""),
    )


def _admit(machine: MoneyMachine, a: int, b: int) -> None:
    machine.admit(
        tenant=("acme", "acme", "rich", "zeta")[a & 3],
        campaign=("", "", "", "spring")[a >> 2 & 3],
        profile=("baker", "clerk")[a >> 4 & 1],
        max_cost=5 + b % 146,
        estimate=1 + b % 60,
        important=bool(a >> 5 & 1),
        refused_by_disk=a >> 6 == 3 and b & 3 == 0,
    )


OPERATIONS: tuple[Callable[[MoneyMachine, int, int], None], ...] = (
    *[_admit] * 6,
    *[lambda m, a, b: m.spend(a, 1 + b % STEP)] * 4,
    *[lambda m, a, b: m.renew(a, 1 + (b & 1), lost=b & 12 == 0)] * 5,
    lambda m, _a, _b: m.spend_all(),
    *[lambda m, a, b: m.end(a, b % (AHEAD.goodbye + 1), 1 + (a & 1))] * 2,
    lambda m, a, _b: m.cancel(a),
    lambda m, a, b: m.lose_process(a, certain=bool(b & 1)),
    *[lambda m, a, _b: m.take_over(a)] * 2,
    lambda m, a, _b: m.kill_the_pool(a % 5),
    lambda m, _a, _b: m.hold_the_disk_up(),
    lambda m, a, _b: m.commit_some(1 + a % 4),
    lambda m, a, b: m.commit_all() if b & 1 else m.commit_some(1 + a % 4),
    *[lambda m, a, _b: m.wait((0.5, 0.5, 2.0, 6.0, 11.0, 61.0)[a % 6])] * 2,
    lambda m, a, b: m.speak_from_the_grave(a, a * b),
    lambda m, a, _b: m.sleep_until_tomorrow() if a < 250 else m.examine(),
)
"""What `much` chooses from, with two numbers from 0 to 255."""
