"""Durable writes off the event loop, many decisions to one commit.

One thread writes. While it commits, further writes gather and share the next commit, so that the rate of decisions does
not depend on the speed of the disk.

Rules of this file:
1. An entry is stored wholly or not at all, exactly once, and in its order; its future is done when that is certain.
2. While the database is away, entries wait until it is back. There are only as many as the running calls make.
3. Who can't wait gives an entry a time. When that is over it fails, unless it may have been stored: then it waits until
   that is known.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from cluster.budget.grouping import Write
from cluster.budget.scribe import DatabaseAway, JournalError, Scribe, Superseded

__all__ = [
    "DURABLE_WITHIN_S",
    "MAX_BATCH",
    "PATIENCE_S",
    "DatabaseAway",
    "Journal",
    "JournalError",
    "Superseded",
    "Write",
]

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
"""Entries of one commit: at most about 50 ms of work, which is how long the first of them has to wait."""
PATIENCE_S: Final = 2.0
"""For `within_s`, where a caller waits. A database that is started again, or fails over, takes about as long."""
DURABLE_WITHIN_S: Final = 1.0
"""How long a heartbeat, a takeover or a hang-up waits to be stored, which it will be; a call has other things to do."""
RETRY_S: Final = 0.1
SWEEP_S: Final = 0.25
LINGER_S: Final = 0.1
"""How long a write that nobody waits for may wait for others, to share their commit."""
CLOSE_WITHIN_S: Final = 2.0
"""How long a database that is away keeps a process from ending."""


@dataclass(frozen=True, slots=True)
class _Entry:
    writes: tuple[Write, ...]
    done: asyncio.Future[None]
    until: float = math.inf
    """When it fails unless it was begun, on the event loop's clock."""


class Journal:
    """Writes entries, each wholly or not at all, in the order in which they were handed over."""

    def __init__(self, engine: Engine, name: str = "budget", *, close_within_s: float = CLOSE_WITHIN_S) -> None:
        """Must be made in the event loop that will use it. It takes the journal `name` over from its last writer."""
        self._scribe = Scribe(engine, name)
        self._close_within_s = close_within_s
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._hurry = False
        self._give_up_at = math.inf
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether the database did not take the last write."""
        return self._trouble is not None

    def write(self, *writes: Write, within_s: float = math.inf) -> asyncio.Future[None]:
        """Hand over one entry; the future is done when it is committed, or fails with `JournalError`.

        It fails too if the database has not begun to take it after `within_s`. It need not be awaited, and to cancel
        an await of it does not take the entry back.
        """
        return self._hand_over(writes, within_s, hurry=True)

    def note(self, *writes: Write) -> None:
        """Hand over one entry that nobody waits for; it may share the commit of a later one."""
        self._hand_over(writes, math.inf, hurry=False)

    async def try_write(self, *writes: Write, wait_s: float) -> bool:
        """Hand over one entry, and wait for a moment until it is committed. True if it was; else it will be."""
        done = self.write(*writes)
        with suppress(JournalError):
            await asyncio.wait([done], timeout=wait_s)
            return done.done() and done.result() is None
        return False

    async def close(self) -> None:
        """Write what was handed over so far, then stop; should the database be away, after `close_within_s`."""
        with self._changed:
            self._give_up_at = time.monotonic() + self._close_within_s
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._sweeping.cancel()

    def _hand_over(self, writes: tuple[Write, ...], within_s: float, *, hurry: bool) -> asyncio.Future[None]:
        done = self._loop.create_future()
        done.add_done_callback(_note_failure)
        with self._changed:
            self._waiting.append(_Entry(writes, done, self._loop.time() + within_s))
            self._hurry = self._hurry or hurry
            self._changed.notify()
        return done

    def _sweep(self) -> None:
        """Fail the entries whose time is over. None of them was tried, or it is certain that none is stored."""
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        now = self._loop.time()
        with self._changed:
            late = [entry for entry in self._waiting if entry.until <= now]
            if late:
                self._waiting = deque(entry for entry in self._waiting if entry.until > now)
        if late:
            log.error("the database did not take %d writes in time", len(late))
            _resolve(late, DatabaseAway("the database did not take the write in time"))

    def _run(self) -> None:
        while batch := self._take():
            left = self._commit(batch)
            if left:
                with self._changed:
                    self._waiting.extendleft(reversed(left))
                    self._hurry = True
                if time.monotonic() >= self._give_up_at:
                    break
                time.sleep(RETRY_S)
        self._scribe.close()
        self._loop.call_soon_threadsafe(_resolve, self._waiting, DatabaseAway("the database did not take the write"))

    def _take(self) -> list[_Entry]:
        """The next entries; none if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(lambda: self._hurry or self._closing, LINGER_S)
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._hurry = bool(self._waiting)
            return batch

    @property
    def _closing(self) -> bool:
        return self._give_up_at < math.inf

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
            if time.monotonic() >= self._give_up_at:
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
