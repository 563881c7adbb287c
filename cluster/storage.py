"""The database: one `MetaData` for every table of the project, how it is opened, and how it is brought up to date.

SQLite (write-ahead log) by default, so that one machine needs nothing; PostgreSQL by URL.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from cluster.errors import RingmasterError

metadata = MetaData()

MIGRATION_LOCK: Final = 0x52494E47
"""Key of PostgreSQL's advisory lock; any number that nobody else in this database uses."""
BUSY_TIMEOUT_S: Final = 10
"""How long SQLite waits for another process's write; ours take milliseconds."""
PATIENCE: Final = {
    "connect_timeout": "5",  # s
    "keepalives_idle": "10",  # s
    "keepalives_interval": "5",  # s
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",  # ms
}
"""Of libpq, unless the URL says otherwise: a server whose machine is gone is given up after seconds, not hours."""


class StorageError(RingmasterError):
    """The database can't be used; the message says which and why, without its password."""


def open_engine(url: str, *, fsync: bool = False) -> Engine:
    """An engine for `sqlite:///path` or `postgresql://…`. Nothing is connected yet. Raises `StorageError`.

    With `fsync`, a SQLite commit survives loss of power, not only of the process; PostgreSQL's always does.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError("DATABASE_URL is not a database URL; use sqlite:///path or postgresql://…") from None
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        patience = {name: value for name, value in PATIENCE.items() if name not in parsed.query}
        return create_engine(parsed, pool_pre_ping=True, connect_args=patience)
    if backend != "sqlite":
        raise StorageError(f"DATABASE_URL names the database {backend!r}; sqlite and postgresql are supported")
    if parsed.database in {None, "", ":memory:"}:
        raise StorageError("DATABASE_URL has no path; several processes share the database, so it can't be in memory")
    engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _tune_fsync if fsync else _tune)
    return engine


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest migration. Several processes may do so at once. Raises `StorageError`."""
    try:
        _create_folder(engine)
        with _alone(engine), engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                # Python's sqlite3 begins no transaction for DDL, and half a migration could not be repeated.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config = Config()
            config.set_main_option("script_location", "cluster:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        # Alembic names the revision that it does not know.
        raise StorageError(f"the database was written by another version of Ringmaster ({error})") from None
    except (SQLAlchemyError, OSError) as error:
        raise StorageError(f"the database {engine.url!r} can't be opened: {_cause(error)}") from None


def _create_folder(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).expanduser().parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Nobody else migrates this database meanwhile. SQLite's own locks end with each statement of a migration."""
    if engine.dialect.name == "sqlite":
        with Path(f"{engine.url.database}.lock").open("w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as holder:
        _advise(holder, "pg_advisory_lock")
        try:
            yield
        finally:
            _advise(holder, "pg_advisory_unlock")


def _advise(connection: Connection, function: str) -> None:
    connection.execute(text(f"SELECT {function}(:key)"), {"key": MIGRATION_LOCK})


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _tune(connection: Any, _record: Any) -> None:
    """Write-ahead log: readers never wait for the writer. A commit then survives the death of the process."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _tune_fsync(connection: Any, record: Any) -> None:
    _tune(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
