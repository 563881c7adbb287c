"""The ledger: what is entered, and what an examination finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

import pytest

from cluster.budget.leases import Lease
from cluster.budget.ledger import Account, Entry, Kind, ended, examine, renewed, reserved
from cluster.budget.pricing import Bill, Route
from cluster.errors import PriceError
from cluster.messages import Direction

LEASE = Lease(
    lease_id="lease-1",
    call_id="call-1",
    tenant="acme",
    day="2026-11-24",
    slot="slot",
    max_cost_usd_micros=1_000,
    reserved_usd_micros=100,
)
RENEWED = replace(LEASE, reserved_usd_micros=150, entries=2)
BILL = Bill(charges={"model": 90, "trunk": 30})
ENTRIES = [reserved(LEASE), renewed(RENEWED, 50), ended(RENEWED, BILL)]
SETTLED = Account(
    lease_id="lease-1",
    tenant="acme",
    open=False,
    reserved_usd_micros=0,
    cost_usd_micros=120,
    bill=BILL,
    day=date(2026, 11, 24),
    route=Route(Direction.OUTBOUND, "ST_1", "+1"),
)


def as_charged(account: Account) -> Mapping[str, int]:
    """The same prices as before."""
    return account.bill.charges


def test_money_goes_from_the_tenant_to_the_call_and_from_there_to_who_was_paid() -> None:
    """What is left over goes back."""
    assert [(entry.number, entry.kind) for entry in ENTRIES] == [(1, "reserve"), (2, "renew"), (3, "settle")]
    assert [dict(entry.lines) for entry in ENTRIES] == [
        {"held:lease-1": 100, "tenant:acme": -100},
        {"held:lease-1": 50, "tenant:acme": -50},
        {"spent:model": 90, "spent:trunk": 30, "held:lease-1": -150, "tenant:acme": 30},
    ]


def test_a_call_that_used_more_than_was_held_is_booked_as_it_was() -> None:
    """The tenant pays the rest."""
    assert ended(LEASE, BILL).lines["tenant:acme"] == -20


def test_a_call_that_used_nothing_is_released() -> None:
    """All of it goes back."""
    entry = ended(LEASE, Bill())
    assert (entry.kind, dict(entry.lines)) == (Kind.RELEASE, {"held:lease-1": -100, "tenant:acme": 100})


def test_a_ledger_that_is_right() -> None:
    """Settled, released and open leases; debits and credits are the same."""
    free = replace(LEASE, lease_id="lease-2")
    idle = replace(SETTLED, lease_id="lease-2", cost_usd_micros=0, bill=Bill())
    going = replace(SETTLED, lease_id="lease-3", open=True, reserved_usd_micros=100, bill=BILL)
    books = [
        (SETTLED, ENTRIES),
        (idle, [reserved(free), ended(free, Bill())]),
        (going, [reserved(replace(LEASE, lease_id="lease-3"))]),
    ]
    found = examine(books, as_charged)
    assert (found.leases, found.entries, found.problems) == (3, 6, [])
    assert found.debits_usd_micros == found.credits_usd_micros == 100 + 50 + 150 + 100 + 100 + 100


def unbalanced(entries: list[Entry]) -> list[Entry]:
    """A micro-dollar more was spent than somebody gave."""
    return [*entries[:-1], replace(entries[-1], lines={**entries[-1].lines, "spent:model": 91})]


@pytest.mark.parametrize(
    ("entries", "account", "problem"),
    [
        (unbalanced(ENTRIES), SETTLED, "entry 3 (settle) does not add up to nothing"),
        (unbalanced(ENTRIES), SETTLED, "spent:model has 91 of it; expected 90"),
        ([ENTRIES[0], ENTRIES[2]], SETTLED, "an entry is missing, or stands twice"),
        ([ENTRIES[0], ENTRIES[2]], SETTLED, "held:lease-1 has -50 of it; expected 0"),
        (ENTRIES[1:], SETTLED, "its first entry, and no other, has to be the reservation"),
        (ENTRIES[:2], SETTLED, "has 0 settlements; expected one settlement, at the end"),
        ([*ENTRIES, ENTRIES[2]], SETTLED, "has 2 settlements; expected one settlement, at the end"),
        ([], SETTLED, "has 0 settlements; expected one settlement, at the end"),
        (ENTRIES, replace(SETTLED, open=True), "has 1 settlements; expected no settlement yet, it is open"),
        (ENTRIES, replace(SETTLED, cost_usd_micros=121), "tenant:acme has -120 of it; expected -121"),
        (ENTRIES, None, "has entries, but there is no such lease"),
    ],
)
def test_whatever_is_wrong_is_found(entries: list[Entry], account: Account | None, problem: str) -> None:
    """With the lease that it is about."""
    assert f"lease-1: {problem}" in examine([(account, entries)], as_charged).problems


def no_price(_account: Account) -> Mapping[str, int]:
    """The table of that day is gone."""
    raise PriceError("there are no prices of 2026-11-24")


@pytest.mark.parametrize(
    ("price", "problem"),
    [
        (lambda _: {"model": 91, "trunk": 30}, "but what was metered costs {'model': 91, 'trunk': 30}"),
        (no_price, "can't be priced again: there are no prices of 2026-11-24"),
    ],
)
def test_a_cost_that_can_not_be_worked_out_again_is_found(
    price: Callable[[Account], Mapping[str, int]], problem: str
) -> None:
    """From what was metered and the prices of its day."""
    assert problem in examine([(SETTLED, ENTRIES)], price).problems[0]
