"""A journal's commits: exactly once, by one writer, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text

from cluster.budget.journal import DatabaseAway, Journal, JournalError, Superseded
from cluster.budget.scribe import Scribe
from cluster.budget.tables import api_keys
from tests.budget.house import until
from tests.fixtures.databases import Postgres

ADD = insert(api_keys)


def key(name: str) -> tuple[Any, dict[str, Any]]:
    """A row to write; the same one twice can't be stored."""
    return ADD, {"key_id": name, "sha256": name, "tenant": "acme", "scopes": "", "created_at": 0.0, "revoked_at": None}


def stored(engine: Engine) -> list[str]:
    """The names of the rows."""
    with engine.connect() as connection:
        return list(connection.execute(select(api_keys.c.key_id).order_by(api_keys.c.key_id)).scalars())


def lose(engine: Engine, monkeypatch: pytest.MonkeyPatch, commit: Callable[[Any], None]) -> None:
    """The next commit is done by `commit`, and its connection is lost before anybody hears of it."""
    dialect, whole = engine.dialect, engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        monkeypatch.setattr(dialect, "do_commit", whole)
        commit(connection)
        cut(connection)

    monkeypatch.setattr(dialect, "do_commit", do_commit)


def cut(connection: Any) -> None:
    """Close a connection, and raise what its driver says of one that is gone."""
    connection.driver_connection.close()
    connection.driver_connection.execute("SELECT 1")


@pytest.mark.parametrize("took_effect", [True, False])
async def test_a_commit_whose_answer_was_lost_is_stored_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, took_effect: bool
) -> None:
    """Whether it took effect is found out; a second try of what did would fail, and count money twice."""
    journal = Journal(engine)
    await journal.write(key("a"))
    lose(engine, monkeypatch, engine.dialect.do_commit if took_effect else lambda _: None)
    await asyncio.gather(journal.write(key("b")), journal.write(key("c")))
    await journal.write(key("d"))
    assert stored(engine) == ["a", "b", "c", "d"]
    await journal.close()


def test_a_commit_that_is_still_under_way_is_waited_for(outage_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is gone, and PostgreSQL goes on committing: to look at once would say that nothing was stored."""
    scribe = Scribe(outage_engine, "test")
    scribe.write([])
    with outage_engine.begin() as connection:
        connection.execute(text(SLOW_COMMIT))
    lose(outage_engine, monkeypatch, lambda connection: connection.pgconn.send_query(b"COMMIT"))
    with pytest.raises(DatabaseAway):
        scribe.write([key("a")])
    assert scribe.in_doubt
    assert stored(outage_engine) == []
    scribe.write([key("a")])
    assert not scribe.in_doubt
    assert stored(outage_engine) == ["a"]
    scribe.close()


SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


async def test_a_journal_has_one_writer(engine: Engine) -> None:
    """A process that was replaced, and does not know it, writes nothing more; other journals are not concerned."""
    old, other = Journal(engine), Journal(engine, "other")
    await asyncio.gather(old.write(key("a")), other.write(key("b")))
    new = Journal(engine)
    await new.write(key("c"))
    late = [old.write(key("d")), old.write(key("e"))]
    for entry in late:
        with pytest.raises(Superseded, match="another process"):
            await entry
    await asyncio.gather(new.write(key("f")), other.write(key("g")))
    assert stored(engine) == ["a", "b", "c", "f", "g"]
    for journal in (old, new, other):
        await journal.close()


async def test_a_journal_that_loses_its_place_in_doubt_does_not_wait_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor has read what is stored; what it does not find there did not happen."""
    journal = Journal(engine)
    await journal.write()
    successor = Scribe(engine, "budget")

    def replaced(_connection: Any) -> None:
        _connection.rollback()
        successor.write([key("b")])

    lose(engine, monkeypatch, replaced)
    with pytest.raises(Superseded):
        await journal.write(key("a"))
    assert stored(engine) == ["b"]
    successor.close()
    await journal.close()


async def test_writes_wait_for_a_database_that_is_started_again(own_postgres: Postgres, outage_engine: Engine) -> None:
    """They are stored in their order, none twice; nobody notices but by the time it takes."""
    journal = Journal(outage_engine)
    await journal.write(key("a"))
    await asyncio.to_thread(own_postgres.stop)
    waiting = [journal.write(key(name)) for name in "bcd"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.shield(waiting[0])
    await asyncio.to_thread(own_postgres.start)
    await asyncio.gather(*waiting)
    assert stored(outage_engine) == ["a", "b", "c", "d"]
    await journal.close()


async def test_who_can_not_wait_for_the_database_is_told_in_time(
    own_postgres: Postgres, outage_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """What failed is not stored later, what had time is, and the log says once how the database was."""
    journal = Journal(outage_engine)
    await journal.write(key("a"))
    await asyncio.to_thread(own_postgres.stop)
    patient = journal.write(key("b"))
    for entry in [journal.write(key(name), within_s=0.3) for name in "cd"]:
        with pytest.raises(DatabaseAway, match="in time"):
            await entry
    await until(lambda: journal.away)
    assert not await journal.try_write(key("e"), wait_s=0.01)
    await asyncio.to_thread(own_postgres.start)
    await patient
    await journal.write(key("f"))
    assert stored(outage_engine) == ["a", "b", "e", "f"]
    assert not journal.away
    assert caplog.text.count("(OperationalError)") == 1
    assert "takes writes again" in caplog.text
    await journal.close()


async def test_a_database_that_hangs_keeps_nobody_waiting(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not begun fails in time. Only what is being written waits, since it may get stored."""
    journal = Journal(engine)
    await journal.write(key("a"))
    hangs, may_go_on = threading.Event(), threading.Event()

    def hang(_connection: Any) -> None:
        hangs.set()
        may_go_on.wait(60)

    lose(engine, monkeypatch, hang)
    first = journal.write(key("b"), within_s=0.1)
    assert hangs.wait(60)  # nor can anything be given up before
    with pytest.raises(DatabaseAway):
        await journal.write(key("c"), within_s=0.3)
    assert not first.done()
    may_go_on.set()
    await first
    assert stored(engine) == ["a", "b"]
    await journal.close()


async def test_closing_does_not_wait_for_a_database_that_is_gone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that can't be had any more is not waited for: the next process finds what is stored."""
    journal = Journal(engine, close_within_s=0.3)
    await journal.write(key("a"))
    monkeypatch.setattr(engine.dialect, "do_commit", cut)
    entry = journal.write(key("b"))
    await journal.close()
    with pytest.raises(JournalError, match="not known"):
        await entry
    monkeypatch.undo()
    assert stored(engine) == ["a"]


async def test_closing_gives_up_what_a_database_that_is_away_did_not_take(
    own_postgres: Postgres, outage_engine: Engine
) -> None:
    """It is said of every entry, and a process that is to end does."""
    journal = Journal(outage_engine, close_within_s=0.3)
    await journal.write(key("a"))
    await asyncio.to_thread(own_postgres.stop)
    late = [journal.write(key(name)) for name in "bc"]
    await journal.close()
    for entry in late:
        with pytest.raises(DatabaseAway):
            await entry
