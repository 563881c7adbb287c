"""Many small writes as few statements, with the same effect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    literal,
    select,
    text,
    update,
)

from cluster.budget.grouping import Write, grouped

metadata = MetaData()
accounts = Table("accounts", metadata, Column("id", Integer, primary_key=True), Column("sum", Integer, default=0))
notes = Table(
    "notes",
    metadata,
    Column("of", Integer, primary_key=True),
    Column("nr", Integer, primary_key=True),
    Column("text", Integer),
)
holds = Table(
    "holds", metadata, Column("id", Integer, primary_key=True), Column("account", Integer, ForeignKey("accounts.id"))
)

OPEN = insert(accounts)
ADD = update(accounts).where(accounts.c.id == bindparam("of_id")).values(sum=accounts.c.sum + bindparam("more"))
SET = update(accounts).where(accounts.c.id == bindparam("of_id"), accounts.c.sum.is_not(None))
CLOSE = delete(accounts).where(accounts.c.id == bindparam("of_id"))
CLOSE_BELOW = delete(accounts).where(accounts.c.id < bindparam("below"))
NOTE = insert(notes)
ERASE = delete(notes).where((notes.c.of == bindparam("of_of")) & (notes.c.nr == bindparam("of_nr")))
ERASE_ALL = delete(notes).where(notes.c.of == bindparam("of_of"))
HOLD = insert(holds)
DOUBLE = text("UPDATE accounts SET sum = sum * 2")
COPY = insert(notes).from_select(["of", "nr", "text"], select(accounts.c.id, literal(99), accounts.c.sum))


@pytest.fixture(scope="module")
def database() -> Engine:
    """Tables in memory."""
    # Python's sqlite3 begins no transaction before a savepoint: it would be one itself.
    engine = create_engine("sqlite://", connect_args={"isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    metadata.create_all(engine)
    return engine


IDS = st.integers(0, 3)
WRITES = st.lists(
    st.one_of(
        st.builds(lambda i: (OPEN, {"id": i}), IDS),
        st.builds(lambda i, n: (OPEN, {"id": i, "sum": n}), IDS, IDS),
        st.builds(lambda i, n: (ADD, {"of_id": i, "more": n}), IDS, IDS),
        st.builds(lambda i, n: (SET, {"of_id": i, "sum": n}), IDS, IDS),
        st.builds(lambda i: (CLOSE, {"of_id": i}), IDS),
        st.builds(lambda i: (CLOSE_BELOW, {"below": i}), IDS),
        st.builds(lambda i, n, m: (NOTE, {"of": i, "nr": n, "text": m}), IDS, IDS, IDS),
        st.builds(lambda i, n: (ERASE, {"of_of": i, "of_nr": n}), IDS, IDS),
        st.builds(lambda i: (ERASE_ALL, {"of_of": i}), IDS),
        st.builds(lambda i, n: (HOLD, {"id": i, "account": n}), IDS, IDS),
        st.just((DOUBLE, {})),
    ),
    max_size=40,
)


@given(WRITES)
def test_grouped_writes_do_the_same_as_the_single_ones(database: Engine, wanted: list[Write]) -> None:
    """Whatever is inserted, changed and deleted, in whichever order, of known and of unknown rows."""
    with database.connect() as connection:
        # What can't be done one by one is left out: an entry that fails is written alone.
        writes = [write for write in wanted if _took(connection, write)]
        one_by_one = _content(connection)
        connection.rollback()
        for statement, parameters in grouped(writes):
            connection.execute(statement, parameters)
        assert _content(connection) == one_by_one
        connection.rollback()


def test_what_does_not_touch_each_other_shares_a_statement() -> None:
    """A hundred admissions are two statements, also with changes of other rows between them."""
    writes: list[Write] = []
    for number in range(100):
        writes += [
            (OPEN, {"id": number}),
            (NOTE, {"of": number, "nr": 1, "text": 0}),
            (ADD, {"of_id": -number, "more": 1}),
        ]
    assert [(statement, len(parameters)) for statement, parameters in grouped(writes[3:])] == [
        (OPEN, 99),
        (NOTE, 99),
        (ADD, 99),
    ]


@pytest.mark.parametrize(
    ("writes", "sizes"),
    [
        ([(OPEN, {"id": 1}), (CLOSE, {"of_id": 1}), (OPEN, {"id": 1})], [1, 1, 1]),
        ([(OPEN, {"id": 1}), (CLOSE, {"of_id": 2}), (OPEN, {"id": 3})], [2, 1]),
        ([(OPEN, {"id": 1}), (CLOSE_BELOW, {"below": 1}), (OPEN, {"id": 3})], [1, 1, 1]),
        ([(OPEN, {"id": 1}), (OPEN, {"id": 2, "sum": 1})], [1, 1]),
        ([(HOLD, {"id": 1, "account": 1}), (OPEN, {"id": 2}), (HOLD, {"id": 2, "account": 2})], [1, 1, 1]),
        ([(HOLD, {"id": 1, "account": 1}), (ERASE, {"of_of": 1, "of_nr": 2}), (HOLD, {"id": 2, "account": 2})], [2, 1]),
        ([(NOTE, {"of": 1, "nr": 1}), (ERASE, {"of_of": 1, "of_nr": 2}), (NOTE, {"of": 1, "nr": 3})], [2, 1]),
        ([(NOTE, {"of": 1, "nr": 1}), (ERASE_ALL, {"of_of": 1}), (NOTE, {"of": 1, "nr": 3})], [1, 1, 1]),
        ([(NOTE, {"of": 1, "nr": 1}), (DOUBLE, {}), (NOTE, {"of": 1, "nr": 3})], [1, 1, 1]),
        ([(NOTE, {"of": 1, "nr": 1}), (COPY, {}), (NOTE, {"of": 1, "nr": 3})], [1, 1, 1]),
    ],
)
def test_what_may_touch_each_other_keeps_its_order(writes: Iterable[Write], sizes: list[int]) -> None:
    """The same row, rows that nobody knows, tables that refer to each other, statements that are only text."""
    assert [len(parameters) for _, parameters in grouped(writes)] == sizes


def _took(connection: Any, write: Write) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(*write)
    except Exception:  # noqa: BLE001 - whatever the database has against it
        return False
    return True


def _content(connection: Any) -> list[Any]:
    return [sorted(map(tuple, connection.execute(select(table)))) for table in (accounts, notes, holds)]
