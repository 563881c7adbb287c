"""The whole ledger, read from the database and examined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import exists, select

from cluster.budget.ledger import Account, Entry, Findings, Kind, examine
from cluster.budget.pricing import Route, charges
from cluster.budget.rows import bill_of
from cluster.budget.tables import leases, ledger
from cluster.messages import Direction

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from cluster.budget.prices import Prices

_EVERYTHING = (
    select(leases, ledger.c.number, ledger.c.kind, ledger.c.account, ledger.c.usd_micros)
    .outerjoin(ledger, ledger.c.lease_id == leases.c.lease_id)
    .where(leases.c.metered.is_not(None))
    .order_by(leases.c.lease_id, ledger.c.number)
)
_STRAYS = (
    select(ledger)
    .where(~exists().where(leases.c.lease_id == ledger.c.lease_id))
    .order_by(ledger.c.lease_id, ledger.c.number)
)
BATCH: Final = 1_000
"""Rows in memory at a time: a ledger may be larger than it."""


def audit(engine: Engine, prices: Prices) -> Findings:
    """Examine every entry and every lease; each settled one is priced again from what was metered."""

    def price(account: Account) -> Mapping[str, int]:
        metered = account.bill.metered
        return charges(metered, prices.tariff(account.route, metered.usage_by_model, account.day))

    with _snapshot(engine) as connection:
        found = connection.execution_options(yield_per=BATCH).execute(_EVERYTHING).mappings()
        books = (_book(list(rows)) for _, rows in groupby(found, itemgetter("lease_id")))
        strays = groupby(connection.execute(_STRAYS).mappings(), itemgetter("lease_id"))
        return examine(chain(books, ((None, list(_entries(rows))) for _, rows in strays)), price)


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """What is admitted or settled meanwhile is not seen in part."""
    postgres = engine.dialect.name == "postgresql"
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if postgres else {}
    with engine.connect().execution_options(**options) as connection:
        if not postgres:
            connection.exec_driver_sql("BEGIN")
        yield connection


def _book(rows: list[Mapping[Any, Any]]) -> tuple[Account, list[Entry]]:
    """A lease with its entries; one that has none is a single row."""
    return _account(rows[0]), list(_entries(row for row in rows if row["number"] is not None))


def _entries(lines: Iterable[Mapping[Any, Any]]) -> Iterator[Entry]:
    for (lease_id, number, kind), group in groupby(lines, itemgetter("lease_id", "number", "kind")):
        of_account = {line["account"]: line["usd_micros"] for line in group}
        yield Entry(lease_id=lease_id, number=number, kind=Kind(kind), lines=of_account)


def _account(row: Mapping[Any, Any]) -> Account:
    return Account(
        lease_id=row["lease_id"],
        tenant=row["tenant"],
        open=row["ended_at"] is None,
        reserved_usd_micros=row["reserved_usd_micros"],
        cost_usd_micros=row["cost_usd_micros"],
        bill=bill_of(row),
        day=date.fromisoformat(row["day"]),
        route=Route(Direction(row["direction"]), row["trunk"], row["destination"]),
    )
