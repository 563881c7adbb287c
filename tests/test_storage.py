"""The database: opening it, and bringing it up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import OperationalError

from cluster.budget import tables as budget_tables
from cluster.campaign import tables as campaign_tables
from cluster.records import tables as record_tables
from cluster.storage import StorageError, metadata, open_engine, upgrade


def test_the_migrations_make_exactly_the_declared_tables(database_url: str) -> None:
    """What the code declares and what the migrations create does not differ."""
    assert budget_tables.leases.metadata is record_tables.calls.metadata is metadata
    assert campaign_tables.contacts.metadata is metadata
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    engine.dispose()


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    """A database at the newest migration stays as it is."""
    engine = open_engine(database_url)
    upgrade(engine)
    upgrade(engine)
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    engine.dispose()


def test_several_processes_may_upgrade_at_once(database_url: str) -> None:
    """One migrates, the others wait and find it done."""
    code = """
import sys
from cluster.storage import open_engine, upgrade
sys.stdin.read()
upgrade(open_engine(sys.argv[1]))
"""
    argv = [sys.executable, "-c", code, database_url]
    processes = [subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    for process in processes:
        _, problem = process.communicate(timeout=60)
        assert process.returncode == 0, problem.decode()


@pytest.mark.parametrize(("fsync", "level"), [(False, 1), (True, 2)])
def test_sqlite_keeps_a_write_ahead_log_and_foreign_keys(tmp_path: Path, *, fsync: bool, level: int) -> None:
    """Readers never wait for the writer; a commit survives what it was asked to survive."""
    engine = open_engine(f"sqlite:///{tmp_path}/a.db", fsync=fsync)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == level
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql://ana:hush@db/ringmaster", "postgres://ana:hush@db/ringmaster"])
def test_a_postgresql_url_needs_no_driver(url: str) -> None:
    """What operators write is accepted; psycopg is our choice, and the password is never shown."""
    engine = open_engine(url)
    assert engine.dialect.name == "postgresql"
    assert engine.driver == "psycopg"
    assert "hush" not in repr(engine)


def test_a_postgresql_url_may_say_how_patient_to_be() -> None:
    """What it does not say is ours: a dead server is given up after seconds."""
    asked: list[tuple[str, str]] = []

    def on_connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, str]) -> None:
        asked.append((parameters["connect_timeout"], parameters["keepalives_count"]))

    for query in ("", "?connect_timeout=60"):
        engine = open_engine(f"postgresql://ana@127.0.0.1:1/ringmaster{query}")
        event.listen(engine, "do_connect", on_connect)
        with pytest.raises(OperationalError):
            engine.connect()
    assert asked == [("5", "3"), ("60", "3")]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "not a database URL"),
        ("ringmaster.db", "not a database URL"),
        ("mysql://ana:hush@db/x", "'mysql'"),
        ("sqlite://", "can't be in memory"),
        ("sqlite:///:memory:", "can't be in memory"),
    ],
)
def test_a_database_that_can_not_serve_is_refused(url: str, problem: str) -> None:
    """The message names the variable, and not the password."""
    with pytest.raises(StorageError, match=problem) as caught:
        open_engine(url)
    assert "hush" not in str(caught.value)


def test_a_database_that_can_not_be_reached_is_reported_without_its_password() -> None:
    """An operator learns where nobody answered."""
    engine = open_engine("postgresql://ana:hush@127.0.0.1:1/ringmaster?connect_timeout=2")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1.*can't be opened") as caught:
        upgrade(engine)
    assert "hush" not in str(caught.value)


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    """Nothing is changed in what is not understood."""
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"another version of Ringmaster.*9999"):
        upgrade(engine)
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing(database_url: str) -> None:
    """What was interrupted can be repeated."""
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE api_keys (key_id TEXT)"))
    with pytest.raises(StorageError, match=r"test.*api_keys\W* already exists"):
        upgrade(engine)
    assert set(inspect(engine).get_table_names()) - {"alembic_version"} == {"api_keys"}
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE api_keys"))
    upgrade(engine)
    engine.dispose()


def test_the_folder_of_the_database_is_made(tmp_path: Path) -> None:
    """A first start on a fresh machine needs no preparation."""
    engine = open_engine(f"sqlite:///{tmp_path}/state/deep/a.db")
    upgrade(engine)
    assert (tmp_path / "state/deep/a.db").exists()
    engine.dispose()
