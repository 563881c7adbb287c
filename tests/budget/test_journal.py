"""Durable writes, many to one commit."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import Engine, event, func, select, text

from cluster.budget import rows
from cluster.budget.calls import fingerprint
from cluster.budget.journal import MAX_BATCH, Journal, JournalError, Write
from cluster.budget.leases import Lease
from cluster.budget.rows import Answer
from cluster.budget.tables import leases, requests
from cluster.messages import Admitted
from cluster.storage import open_engine
from tests.budget.fakes import call_request
from tests.budget.house import until


def entry(number: int) -> tuple[Write, ...]:
    """The writes of one admission."""
    request = call_request(number)
    lease = Lease(
        lease_id=f"lease-{number}",
        call_id=request.call_id,
        tenant=request.tenant,
        day="2026-11-24",
        slot="slot",
        max_cost_usd_micros=10,
        reserved_usd_micros=5,
    )
    said = Admitted(call_id=request.call_id, lease_id=lease.lease_id, warm=True)
    return tuple(rows.admitted(lease, request, Answer(fingerprint(request), said, 1.0)))


def stored(engine: Engine) -> tuple[int, int]:
    """How many requests and leases there are."""
    with engine.connect() as connection:
        return (
            connection.execute(select(func.count()).select_from(requests)).scalar_one(),
            connection.execute(select(func.count()).select_from(leases)).scalar_one(),
        )


async def test_what_was_written_is_there_when_it_is_opened_again(engine: Engine) -> None:
    """A write that was awaited is in the database, whatever becomes of this process."""
    journal = Journal(engine)
    await journal.write(*entry(1))
    other = open_engine(engine.url.render_as_string(hide_password=False))
    assert stored(other) == (1, 1)
    other.dispose()
    await journal.close()


async def test_writes_that_gather_share_a_commit(engine: Engine) -> None:
    """While the first is being committed the others wait, and then go together."""
    commits: list[int] = []
    first_at_work, may_go_on = threading.Event(), threading.Event()

    def on_commit(_connection: object) -> None:
        commits.append(1)
        first_at_work.set()
        may_go_on.wait(10)

    journal = Journal(engine)
    await journal.write()
    event.listen(engine, "commit", on_commit)
    first = journal.write(*entry(0))
    await asyncio.to_thread(first_at_work.wait, 10)
    others = [journal.write(*entry(number)) for number in range(1, 101)]
    may_go_on.set()
    await asyncio.gather(first, *others)
    assert len(commits) == 2
    assert stored(engine) == (101, 101)
    await journal.close()


async def test_more_than_fits_one_commit_takes_several(engine: Engine) -> None:
    """Nobody waits for an endless one."""
    journal = Journal(engine)
    await asyncio.gather(*(journal.write(*entry(number)) for number in range(MAX_BATCH + 10)))
    assert stored(engine) == (MAX_BATCH + 10, MAX_BATCH + 10)
    await journal.close()


async def test_a_bad_entry_fails_alone_and_wholly(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Its neighbours in the commit are stored, and none of its own writes is. Nothing personal is logged."""
    journal = Journal(engine)
    await journal.write(*entry(1))
    _, lease_of_2, *_ = entry(2)
    request_of_1, *_ = entry(1)
    good, bad, also_good = (
        journal.write(*entry(3)),
        journal.write(lease_of_2, request_of_1),
        journal.write(*entry(4)),
    )
    with pytest.raises(JournalError, match="IntegrityError") as caught:
        await bad
    await asyncio.gather(good, also_good)
    assert stored(engine) == (3, 3)
    assert "+1555" not in caplog.text + str(caught.value)
    await journal.close()


async def test_closing_writes_what_was_handed_over(engine: Engine) -> None:
    """Nobody has to await a write for it to be done."""
    journal = Journal(engine)
    handed_over = [journal.write(*entry(number)) for number in range(50)]
    await journal.close()
    assert stored(engine) == (50, 50)
    await asyncio.gather(*handed_over)


async def test_a_failure_that_nobody_awaits_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A renewal does not wait for its write, and yet its loss is seen."""
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE leases"))
    journal = Journal(engine)
    journal.note(rows.delivered("lease-1"))
    await journal.close()
    assert "did not take the write" in caplog.text


async def test_a_cancelled_wait_takes_nothing_back(engine: Engine) -> None:
    """The entry was handed over, and is written."""
    journal = Journal(engine)
    journal.write(*entry(1)).cancel()
    await journal.write(*entry(2))
    assert stored(engine) == (2, 2)
    await journal.close()


async def test_an_entry_that_nobody_can_write_does_not_end_the_journal(engine: Engine) -> None:
    """A bug of one statement is not the end of all calls."""
    journal = Journal(engine)
    with pytest.raises(JournalError, match="was not given the write"):
        await journal.write(())  # type: ignore[arg-type]
    await journal.write(*entry(1))
    assert stored(engine) == (1, 1)
    await journal.close()


async def test_what_nobody_waits_for_shares_a_commit(engine: Engine) -> None:
    """It goes with the next entry that somebody waits for, in its order, and by itself if none comes."""
    journal = Journal(engine)
    await journal.write()
    commits: list[int] = []
    event.listen(engine, "commit", lambda _: commits.append(1))
    with journal._changed:  # else the first notes may be alone for long enough
        for number in range(1, 4):
            journal.note(*entry(number))
        written = journal.write(*entry(4))
    await written
    assert stored(engine) == (4, 4)
    journal.note(*entry(5))
    await until(lambda: stored(engine) == (5, 5))
    assert len(commits) == 2
    await journal.close()


async def test_who_waits_for_a_moment_learns_whether_it_is_stored(engine: Engine) -> None:
    """A bad entry is not stored either."""
    journal = Journal(engine)
    assert await journal.try_write(*entry(1), wait_s=60)
    assert not await journal.try_write(*entry(1), wait_s=60)
    assert stored(engine) == (1, 1)
    await journal.close()
