"""Writes to the database exactly once, also where nobody said whether a commit took effect.

Each commit has a number, which it writes into the row of its journal. Whoever comes with the same number again learns
from that row whether it was taken. The row also names its writer: a process that was replaced, and has not heard of it,
writes nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine, bindparam, exc, insert, select, update

from cluster.budget.grouping import Write, grouped
from cluster.budget.tables import journals

SQLITE_ERROR: Final = 1
"""SQLite's code of a statement that is wrong. Every other one of an `OperationalError` is about the world."""

_ROW = journals.c.name == bindparam("of_name")
_CLAIM = update(journals).where(_ROW)
_FIRST_CLAIM = insert(journals)
_NEXT = update(journals).where(
    _ROW, journals.c.writer == bindparam("of_writer"), journals.c.number == bindparam("before")
)
_STANDS = select(journals.c.writer, journals.c.number).where(_ROW)


class JournalError(Exception):
    """The database did not take a write. Nothing of it is stored."""


class DatabaseAway(JournalError):
    """The database can't be reached, or has no room. It may be asked again."""


class Superseded(JournalError):
    """Another process writes this journal now, and this one must not."""


class Scribe:
    """The one writer of a journal. For one thread."""

    def __init__(self, engine: Engine, name: str) -> None:
        """`name` says which journal; whoever wrote it before is superseded with the first write."""
        self._engine = engine
        self._name = name
        self._writer = secrets.token_hex(8)
        self._connection: Connection | None = None
        self._claimed = False
        self._number = 0
        self.in_doubt = False
        """The last write may have been stored. The next has to be the very same one, which finds out."""

    def write(self, writes: Sequence[Write]) -> None:
        """Store everything or nothing. Raises `JournalError` or one of its kinds."""
        try:
            # Kept from one commit to the next: to ask the pool each time costs two more round trips.
            self._connection = self._connection or self._engine.connect()
            if not self._claimed:
                self._claim(self._connection)
            self._commit(self._connection, writes)
        except exc.SQLAlchemyError as error:
            self.close()
            # Its text holds the parameters, and they hold personal data.
            away = _is_away(error)
            self.in_doubt = self.in_doubt and away  # else it is the database's own word that nothing was stored
            kind = DatabaseAway if away else JournalError
            raise kind(f"the database did not take the write ({type(error).__name__})") from None

    def close(self) -> None:
        """Give the connection back; the next write opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _claim(self, connection: Connection) -> None:
        mine = {"writer": self._writer, "number": 0}
        try:
            with connection.begin():
                if not connection.execute(_CLAIM, {"of_name": self._name, **mine}).rowcount:
                    connection.execute(_FIRST_CLAIM, {"name": self._name, **mine})
        except exc.IntegrityError:
            raise DatabaseAway("two processes claimed the journal for the first time at once") from None
        self._claimed = True

    def _commit(self, connection: Connection, writes: Sequence[Write]) -> None:
        number = self._number + 1
        mine = {"of_name": self._name, "of_writer": self._writer, "before": self._number}
        with connection.begin() as transaction:
            # A commit that is still under way, though its connection is lost, holds the row: this waits for it.
            if connection.execute(_NEXT, {**mine, "number": number}).rowcount:
                self.in_doubt = False
                for statement, parameters in grouped(writes):
                    connection.execute(statement, parameters)
                self.in_doubt = True
                transaction.commit()
            elif tuple(connection.execute(_STANDS, mine).one()) != (self._writer, number):
                self.in_doubt = False
                raise Superseded("another process writes the journal now; this one has to end")
        self.in_doubt = False
        self._number = number


def _is_away(error: exc.SQLAlchemyError) -> bool:
    """Whether it is the database's state and not the statement's fault."""
    if isinstance(error, exc.TimeoutError | exc.InterfaceError):
        return True
    if isinstance(error, exc.OperationalError):
        code: int | None = getattr(error.orig, "sqlite_errorcode", None)
        return code is None or code & 0xFF != SQLITE_ERROR
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated
