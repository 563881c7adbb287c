"""Durable writes off the event loop, many decisions to one commit.

One thread writes. While it commits, further writes gather and share the next commit, so that the rate of decisions does
not depend on the speed of the disk.

Rules of this file:
1. An entry is stored wholly or not at all, exactly once, and in its order; its future is done when that is certain.
2. While the database is away, entries wait for `PATIENCE_S` and then fail. What may have been stored does not fail: it
   waits until that is known.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from cluster.budget.grouping import Write
from cluster.budget.scribe import DatabaseAway, JournalError, Scribe, Superseded

__all__ = ["MAX_BATCH", "DatabaseAway", "Journal", "JournalError", "Superseded", "Write"]

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
"""Entries of one commit: at most about 50 ms of work, which is how long the first of them has to wait."""
MAX_WAITING: Final = 10_000
"""Entries; one more fails at once."""
PATIENCE_S: Final = 2.0
"""A database that is started again, or fails over, takes about as long; a caller should not hear silence for longer."""
RETRY_S: Final = 0.1
SWEEP_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Entry:
    writes: tuple[Write, ...]
    done: asyncio.Future[None]
    since: float


class Journal:
    """Writes entries, each wholly or not at all, in the order in which they were handed over."""

    def __init__(self, engine: Engine, name: str = "budget", *, patience_s: float = PATIENCE_S) -> None:
        """Must be made in the event loop that will use it. It takes the journal `name` over from its last writer."""
        self._scribe = Scribe(engine, name)
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._closing = False
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, *writes: Write) -> asyncio.Future[None]:
        """Hand over one entry; the future is done when it is committed, or fails with `JournalError`.

        It need not be awaited. Cancelling an await of it does not take the entry back.
        """
        done = self._loop.create_future()
        done.add_done_callback(_note_failure)
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                done.set_exception(DatabaseAway("the database is too slow: too many writes wait for it"))
                return done
            self._waiting.append(_Entry(writes, done, self._loop.time()))
            self._changed.notify()
        return done

    async def close(self) -> None:
        """Write what was handed over so far, then stop; should the database be away, after `patience_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._sweeping.cancel()

    def _sweep(self) -> None:
        """Fail the entries that wait for too long. None of them was tried, or it is certain that none is stored."""
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        too_old = self._loop.time() - self._patience_s
        with self._changed:
            late = [entry for entry in self._waiting if entry.since <= too_old]
            if late:
                self._waiting = deque(entry for entry in self._waiting if entry.since > too_old)
        if late:
            log.error("the database did not take %d writes within %g s", len(late), self._patience_s)
            _resolve(late, DatabaseAway("the database did not take the write in time"))

    def _run(self) -> None:
        while batch := self._take():
            if left := self._commit(batch):
                with self._changed:
                    self._waiting.extendleft(reversed(left))
                time.sleep(RETRY_S)

    def _take(self) -> list[_Entry]:
        """The next entries; none if there will be no more."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]

    def _commit(self, batch: list[_Entry]) -> list[_Entry]:
        """One transaction for all; where that fails, one for each, so that nobody pays for another's bad entry.

        Returns those that are certainly not stored since the database is away.
        """
        error = self._store(batch)
        if isinstance(error, DatabaseAway):
            return batch
        if error is None or len(batch) == 1 or isinstance(error, Superseded):
            self._loop.call_soon_threadsafe(_resolve, batch, error)
            return []
        for place, entry in enumerate(batch):
            if self._commit([entry]):
                return batch[place:]
        return []

    def _store(self, batch: list[_Entry]) -> JournalError | None:
        """Write, again and again as long as nobody knows whether it was written."""
        writes = [write for entry in batch for write in entry.writes]
        give_up_at = None
        while True:
            try:
                self._scribe.write(writes)
            except JournalError as error:
                self._note(error)
                if not self._scribe.in_doubt:
                    return error
            except Exception as error:  # noqa: BLE001 - whatever it is, the entries after it are to be written
                return JournalError(f"the database was not given the write ({type(error).__name__})")
            else:
                self._note(None)
                return None
            if self._closing:
                give_up_at = give_up_at or time.monotonic() + self._patience_s
                if time.monotonic() >= give_up_at:
                    return JournalError("whether the last writes were stored is not known")
            time.sleep(RETRY_S)

    def _note(self, error: JournalError | None) -> None:
        """Log how the database is, once for each time that it changes. A bad entry's error is logged with the entry."""
        trouble = str(error) if isinstance(error, DatabaseAway | Superseded) else None
        if trouble != self._trouble:
            log.error("%s", trouble) if trouble else log.warning("the database takes writes again")
            self._trouble = trouble


def _resolve(entries: Iterable[_Entry], error: JournalError | None) -> None:
    for entry in entries:
        if entry.done.done():
            continue
        if error is None:
            entry.done.set_result(None)
        else:
            entry.done.set_exception(type(error)(*error.args))


def _note_failure(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) and not isinstance(error, DatabaseAway | Superseded):
        log.error("%s", error)
