"""The ledger: double entry, append-only, in integer micro-dollars. Pure.

    tenant:NAME    what a tenant has given away; never more than was held or spent for its calls
    held:LEASE     what a running call may spend; nothing once it has ended
    spent:KIND     what went to the model, the trunk, LiveKit and the tools

Rules of this file:
1. An entry's lines add up to nothing: debits are positive, credits negative.
2. A lease has one `reserve`, any number of `renew`, and one `settle`, or `release` where nothing was spent. They are
   numbered from 1, so that the same one is never entered twice.
3. `examine` tells from the entries alone whether the money of every lease is accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cluster.errors import PriceError

if TYPE_CHECKING:
    from datetime import date

    from cluster.budget.leases import Lease
    from cluster.budget.pricing import Bill, Route


class Kind(StrEnum):
    """What an entry does."""

    RESERVE = "reserve"
    RENEW = "renew"
    SETTLE = "settle"
    RELEASE = "release"


ENDS = frozenset({Kind.SETTLE, Kind.RELEASE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One movement of money."""

    lease_id: str
    number: int
    kind: Kind
    lines: Mapping[str, int]
    """Micro-dollars by account."""


def reserved(lease: Lease) -> Entry:
    """A call was admitted."""
    return _moved(lease, Kind.RESERVE, lease.reserved_usd_micros)


def renewed(lease: Lease, more_usd_micros: int) -> Entry:
    """So much more is held than before; `lease` is as it stands now."""
    return _moved(lease, Kind.RENEW, more_usd_micros)


def ended(lease: Lease, bill: Bill) -> Entry:
    """A call is over; `lease` is as it stood before. The tenant gets back the rest, and pays what was beyond."""
    lines = {f"spent:{kind}": usd_micros for kind, usd_micros in bill.charges.items()}
    lines[f"held:{lease.lease_id}"] = -lease.reserved_usd_micros
    lines[f"tenant:{lease.tenant}"] = lease.reserved_usd_micros - bill.usd_micros
    kind = Kind.SETTLE if bill.usd_micros else Kind.RELEASE
    return Entry(lease_id=lease.lease_id, number=lease.entries + 1, kind=kind, lines=lines)


def _moved(lease: Lease, kind: Kind, usd_micros: int) -> Entry:
    lines = {f"held:{lease.lease_id}": usd_micros, f"tenant:{lease.tenant}": -usd_micros}
    return Entry(lease_id=lease.lease_id, number=lease.entries, kind=kind, lines=lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is stored of a lease beside its entries."""

    lease_id: str
    tenant: str
    open: bool
    reserved_usd_micros: int
    cost_usd_micros: int
    bill: Bill
    """As it was settled."""
    day: date
    """Whose prices it was settled with."""
    route: Route


@dataclass(slots=True)
class Findings:
    """What a look through the whole ledger found."""

    leases: int = 0
    entries: int = 0
    debits_usd_micros: int = 0
    credits_usd_micros: int = 0
    problems: list[str] = field(default_factory=list)
    """One line each; none is as it should be."""


def examine(
    books: Iterable[tuple[Account | None, list[Entry]]], price: Callable[[Account], Mapping[str, int]]
) -> Findings:
    """Go through every lease with its entries; None: there are entries without a lease.

    `price` works the charges of a bill out once more, from what was metered and the prices of its day.
    """
    found = Findings()
    for account, entries in books:
        found.leases += account is not None
        found.entries += len(entries)
        for entry in entries:
            found.debits_usd_micros += sum(usd for usd in entry.lines.values() if usd > 0)
            found.credits_usd_micros -= sum(usd for usd in entry.lines.values() if usd < 0)
        if account is None:
            found.problems.append(f"{entries[0].lease_id}: has entries, but there is no such lease")
        else:
            found.problems += [f"{account.lease_id}: {what}" for what in _wrong(account, entries, price)]
    return found


def _wrong(account: Account, entries: list[Entry], price: Callable[[Account], Mapping[str, int]]) -> Iterator[str]:
    for entry in entries:
        if sum(entry.lines.values()):
            yield f"entry {entry.number} ({entry.kind}) does not add up to nothing"
    if [entry.number for entry in entries] != list(range(1, len(entries) + 1)):
        yield "an entry is missing, or stands twice"
    kinds = [entry.kind for entry in entries]
    if kinds[:1] != [Kind.RESERVE] or kinds.count(Kind.RESERVE) != 1:
        yield "its first entry, and no other, has to be the reservation"
    ends = [entry for entry in entries if entry.kind in ENDS]
    if len(ends) != (0 if account.open else 1) or (ends and ends[0] is not entries[-1]):
        expected = "no settlement yet, it is open" if account.open else "one settlement, at the end"
        yield f"has {len(ends)} settlements; expected {expected}"
    yield from _wrong_sums(account, entries, price)


def _wrong_sums(account: Account, entries: list[Entry], price: Callable[[Account], Mapping[str, int]]) -> Iterator[str]:
    balance: Counter[str] = Counter()
    for entry in entries:
        balance.update(entry.lines)
    held = account.reserved_usd_micros if account.open else 0
    spent = 0 if account.open else account.cost_usd_micros
    expected = {f"held:{account.lease_id}": held, f"tenant:{account.tenant}": -held - spent}
    if not account.open:
        try:
            again = price(account)
        except PriceError as error:
            yield f"can't be priced again: {error}"
            return
        if again != account.bill.charges:
            yield f"was charged {dict(account.bill.charges)}, but what was metered costs {dict(again)}"
        expected |= {f"spent:{kind}": usd_micros for kind, usd_micros in again.items()}
    for name in sorted({*balance, *expected}):
        if balance[name] != expected.get(name, 0):
            yield f"{name} has {balance[name]} of it; expected {expected.get(name, 0)}"
