"""Many small writes as few statements. A database takes a hundred rows of one statement in the time of ten alone.

Rules of this file:
1. Changes of one row keep their order; a change whose row is not known keeps its order with all of its table.
2. So do changes of two tables of which one refers to the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Delete, Executable, Insert, Table, Update
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnElement
from sqlalchemy.sql.operators import and_, eq

Write = tuple[Executable, Mapping[str, Any]]
"""A statement and its parameters. The statement is made once for all, so that it is compiled and looked into once."""


@dataclass(slots=True)
class _Group:
    statement: Executable
    table: Table | None
    names: frozenset[str]
    parameters: list[Mapping[str, Any]] = field(default_factory=list)
    rows: set[Hashable] = field(default_factory=set)
    """Those that it changes; None among them stands for any."""

    def add(self, parameters: Mapping[str, Any], row: Hashable) -> None:
        self.parameters.append(parameters)
        self.rows.add(row)

    def comes_before(self, table: Table | None, row: Hashable) -> bool:
        """Whether a later change of that row has to come after this group."""
        if table is not self.table:
            return table is None or self.table is None or _related(table, self.table)
        return row is None or row in self.rows or None in self.rows


def grouped(writes: Iterable[Write]) -> list[tuple[Executable, list[Mapping[str, Any]]]]:
    """The statements to execute, in order, each with the parameters of one or of many rows."""
    groups: list[_Group] = []
    for statement, parameters in writes:
        table, key = _target(statement)
        row = None if key is None else tuple(parameters.get(name) for name in key)
        names = frozenset(parameters)
        _home(groups, statement, names, table, row).add(parameters, row)
    return [(group.statement, group.parameters) for group in groups]


def _home(
    groups: list[_Group], statement: Executable, names: frozenset[str], table: Table | None, row: Hashable
) -> _Group:
    """The group that the write may join: no group after it has to come before the write."""
    for group in reversed(groups):
        if group.statement is statement and group.names == names:
            return group
        if group.comes_before(table, row):
            break
    groups.append(_Group(statement, table, names))
    return groups[-1]


@lru_cache(maxsize=1024)
def _target(statement: Executable) -> tuple[Table | None, tuple[str, ...] | None]:
    """The table that a statement changes, and the parameters that are the primary key of its row; None: not known."""
    if not isinstance(statement, Insert | Update | Delete) or not isinstance(statement.table, Table):
        return None, None
    table = statement.table
    if isinstance(statement, Insert):
        return table, None if statement.select is not None else tuple(column.key for column in table.primary_key)
    asked = dict(_equalities(statement.whereclause))
    key = [asked.get(column.key) for column in table.primary_key]
    return table, tuple(name for name in key if name is not None) if None not in key else None


def _equalities(clause: ColumnElement[Any] | None) -> Iterator[tuple[str, str]]:
    """The columns that have to be equal to a parameter, each with the parameter's name."""
    if isinstance(clause, BooleanClauseList) and clause.operator is and_:
        for part in clause.clauses:
            yield from _equalities(part)
    elif isinstance(clause, BinaryExpression) and clause.operator is eq and isinstance(clause.right, BindParameter):
        yield str(getattr(clause.left, "key", "")), clause.right.key


@lru_cache(maxsize=1024)
def _related(one: Table, other: Table) -> bool:
    return any(key.column.table in {one, other} for table in (one, other) for key in table.foreign_keys)
