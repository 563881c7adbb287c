"""Durable writes off the event loop, many decisions to one commit.

One thread writes. While it commits, further writes gather and share the next commit, so that the rate of decisions does
not depend on the speed of the disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from sqlalchemy import Engine, Executable
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
"""Entries of one commit: at most about 50 ms of work, which is how long the first of them has to wait."""

Write = tuple[Executable, Mapping[str, Any]]
"""A statement and its parameters."""


class JournalError(Exception):
    """The database did not take a write. Nothing of it is stored."""


@dataclass(frozen=True, slots=True)
class _Entry:
    writes: tuple[Write, ...]
    done: asyncio.Future[None]


class Journal:
    """Writes entries, each wholly or not at all, in the order in which they were handed over."""

    def __init__(self, engine: Engine) -> None:
        """Must be made in the event loop that will use it."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, *writes: Write) -> asyncio.Future[None]:
        """Hand over one entry; the future is done when it is committed, or fails with `JournalError`.

        It need not be awaited. Cancelling an await of it does not take the entry back.
        """
        done = self._loop.create_future()
        done.add_done_callback(_note)
        self._queue.put(_Entry(writes, done))
        return done

    async def close(self) -> None:
        """Write what was handed over so far, then stop."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._next_batch()
            if batch:
                results = self._commit(batch)
                self._loop.call_soon_threadsafe(_resolve, results)

    def _next_batch(self) -> tuple[list[_Entry], bool]:
        entry = self._queue.get()
        batch: list[_Entry] = []
        while entry is not None:
            batch.append(entry)
            if len(batch) == MAX_BATCH:
                return batch, True
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Entry]) -> list[tuple[asyncio.Future[None], JournalError | None]]:
        """One transaction for all; where that fails, one for each, so that nobody pays for another's bad entry."""
        error = self._write(batch)
        if error is None or len(batch) == 1:
            return [(entry.done, error) for entry in batch]
        return [(entry.done, self._write([entry])) for entry in batch]

    def _write(self, batch: list[_Entry]) -> JournalError | None:
        try:
            with self._engine.begin() as connection:
                for entry in batch:
                    for statement, parameters in entry.writes:
                        connection.execute(statement, parameters)
        except SQLAlchemyError as error:
            # Its text holds the parameters, and they hold personal data.
            return JournalError(f"the database did not take the write ({type(error).__name__})")
        return None


def _resolve(results: list[tuple[asyncio.Future[None], JournalError | None]]) -> None:
    for done, error in results:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _note(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("%s", error)
