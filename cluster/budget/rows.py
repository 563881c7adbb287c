"""Leases, requests and records as rows: the statements that are written, and what is read at start."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine, bindparam, delete, func, insert, select, update

from cluster.budget import ledger
from cluster.budget.budgets import EVERYONE, Purse
from cluster.budget.calls import (
    metered_from_json,
    metered_to_json,
    record_from_json,
    record_to_json,
    request_from_json,
    request_to_json,
)
from cluster.budget.grouping import Write
from cluster.budget.leases import Lease, LeaseState
from cluster.budget.pricing import Bill
from cluster.budget.tables import leases, requests
from cluster.budget.tables import ledger as ledger_table
from cluster.messages import Admitted, CallRecord, CallRequest

_OPEN = (leases.c.lease_id == bindparam("of_lease")) & leases.c.ended_at.is_(None)
_INSERT_LEASE = insert(leases)
_INSERT_REQUEST = insert(requests)
_ENTER = insert(ledger_table)
_CHANGE = update(leases).where(_OPEN)
_DELIVERED = update(leases).where(leases.c.lease_id == bindparam("of_lease"))
_FORGET = delete(requests).where(requests.c.admitted_at < bindparam("before"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to a request, and to which one."""

    fingerprint: str
    admitted: Admitted
    at: float
    """UTC seconds."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An open lease with its call. `granted_at` is UTC seconds."""

    lease: Lease
    request: CallRequest
    granted_at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything an earlier process left."""

    open: tuple[OpenRow, ...]
    answers: Mapping[tuple[str, str], Answer]
    """By tenant and request id."""
    undelivered: Mapping[str, CallRecord]
    """Records of ended leases, by lease id, that the history may not have."""


def admitted(lease: Lease, request: CallRequest, answer: Answer) -> Iterator[Write]:
    """A request was admitted: its answer and its lease."""
    yield answered(request, answer)
    yield (
        _INSERT_LEASE,
        {
            "lease_id": lease.lease_id,
            "call_id": lease.call_id,
            "tenant": lease.tenant,
            "day": lease.day,
            "max_cost_usd_micros": lease.max_cost_usd_micros,
            "direction": lease.direction.value,
            "campaign": lease.campaign,
            "profile": lease.profile,
            "trunk": lease.trunk,
            "destination": lease.destination,
            "granted_at": lease.granted_at,
            "request": request_to_json(request),
            **_moving(lease),
        },
    )
    yield from _entered(ledger.reserved(lease), lease.granted_at)


def answered(request: CallRequest, answer: Answer) -> Write:
    """What was said to a request, and is said again."""
    return _INSERT_REQUEST, {
        "tenant": request.tenant,
        "request_id": request.request_id,
        "fingerprint": answer.fingerprint,
        "call_id": answer.admitted.call_id,
        "lease_id": answer.admitted.lease_id,
        "warm": answer.admitted.warm,
        "admitted_at": answer.at,
    }


def changed(lease: Lease) -> Write:
    """An open lease as it stands now."""
    return _CHANGE, {"of_lease": lease.lease_id, **_moving(lease)}


def renewed(lease: Lease, more_usd_micros: int, at: float) -> Iterator[Write]:
    """A lease was renewed at `at` (UTC seconds), and so much more is held for it than before."""
    yield changed(lease)
    if more_usd_micros:
        yield from _entered(ledger.renewed(lease, more_usd_micros), at)


def ended(lease: Lease, bill: Bill, record: CallRecord, ended_at: float) -> Iterator[Write]:
    """A lease, which is as it stood before, was settled with that bill, and this is its call's record."""
    changes = _moving(replace(lease, bill=bill, reserved_usd_micros=0, entries=lease.entries + 1)) | {
        "state": LeaseState.SETTLED.value,
        "ended_at": ended_at,
        "request": None,
        "record": record_to_json(record),
    }
    yield _CHANGE, {"of_lease": lease.lease_id, **changes}
    yield from _entered(ledger.ended(lease, bill), ended_at)


def _entered(entry: ledger.Entry, at: float) -> Iterator[Write]:
    for account, usd_micros in entry.lines.items():
        line = {"account": account, "usd_micros": usd_micros, "kind": entry.kind.value, "at": at}
        yield _ENTER, {"lease_id": entry.lease_id, "number": entry.number, **line}


def delivered(lease_id: str) -> Write:
    """The history has the record."""
    return _DELIVERED, {"of_lease": lease_id, "record": None}


def forgotten(before: float) -> Write:
    """Answers older than `before` (UTC seconds) are not given again."""
    return _FORGET, {"before": before}


def load(engine: Engine, answers_since: float) -> Stored:
    """Read what is open, and the answers since then (UTC seconds)."""
    with engine.connect() as connection:
        open_rows = connection.execute(select(leases).where(leases.c.ended_at.is_(None)).order_by(leases.c.granted_at))
        found = tuple(_open_row(row) for row in open_rows.mappings())
        recent = select(requests).where(requests.c.admitted_at >= answers_since)
        pending = select(leases.c.lease_id, leases.c.record).where(leases.c.record.is_not(None))
        return Stored(
            open=found,
            answers={(row.tenant, row.request_id): _answer(row) for row in connection.execute(recent)},
            undelivered={lease_id: record_from_json(record) for lease_id, record in connection.execute(pending)},
        )


def spent(engine: Engine, windows: Iterable[Purse]) -> dict[Purse, int]:
    """What the calls have cost that were admitted in those windows and have ended, by everybody's own purse."""
    found: dict[Purse, int] = {}
    with engine.connect() as connection:
        for window in windows:
            name = leases.c[window.budget.scope.value]
            query = (
                select(name, func.sum(leases.c.cost_usd_micros)).where(leases.c.ended_at.is_not(None)).group_by(name)
            )
            if math.isfinite(window.begins_at):
                query = query.where(leases.c.granted_at >= window.begins_at, leases.c.granted_at < window.ends_at)
            if window.name != EVERYONE:
                query = query.where(name == window.name)
            found |= {replace(window, name=of): int(cost) for of, cost in connection.execute(query)}
    return found


def _moving(lease: Lease) -> dict[str, Any]:
    """The columns that change while a lease is open."""
    return {
        "slot": lease.slot,
        "fencing_token": lease.fencing_token,
        "state": lease.state.value,
        "reserved_usd_micros": lease.reserved_usd_micros,
        "cost_usd_micros": lease.cost_usd_micros,
        "charges_usd_micros": dict(lease.bill.charges),
        "metered": metered_to_json(lease.bill.metered),
        "entries": lease.entries,
        "dialled": lease.dialled,
    }


def _open_row(row: Mapping[Any, Any]) -> OpenRow:
    state, request = LeaseState(row["state"]), request_from_json(row["request"])
    lease = Lease(
        lease_id=row["lease_id"],
        call_id=row["call_id"],
        tenant=row["tenant"],
        day=row["day"],
        slot=row["slot"],
        max_cost_usd_micros=row["max_cost_usd_micros"],
        reserved_usd_micros=row["reserved_usd_micros"],
        bill=bill_of(row),
        entries=row["entries"],
        fencing_token=row["fencing_token"],
        state=state,
        dialled=row["dialled"],
        direction=request.direction,
        campaign=row["campaign"],
        profile=row["profile"],
        trunk=row["trunk"],
        destination=row["destination"],
        granted_at=row["granted_at"],
    )
    return OpenRow(lease, request, row["granted_at"])


def bill_of(row: Mapping[Any, Any]) -> Bill:
    """The bill in a row of `leases`."""
    return Bill(metered_from_json(row["metered"]), row["charges_usd_micros"])


def _answer(row: Any) -> Answer:
    said = Admitted(call_id=row.call_id, lease_id=row.lease_id, warm=row.warm)
    return Answer(row.fingerprint, said, row.admitted_at)
