"""The live calls, watched: the control actors are asked once for all browsers, and each row is rendered once.

While nobody watches, nobody is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from cluster.dashboard.rows import Changes, Row, Rows
from cluster.dispatch.ports import ControlPlaneDown, History, Pool
from cluster.dispatch.streams import HEARTBEAT_S, STILL_HERE

log = logging.getLogger(__name__)

EVERY_S: Final = 0.4
"""Changes are gathered for so long: a person sees no difference, and 500 calls cost a few percent of a core."""


class LiveCalls:
    """One for each replica of the application."""

    def __init__(self, pool: Pool, history: History, render: Callable[[Row], str], every_s: float = EVERY_S) -> None:
        """`render` makes the HTML of a row, which begins with `<tr `."""
        self._pool = pool
        self._history = history
        self._render = render
        self._every_s = every_s
        self._rows = Rows()
        self._standings: dict[str, dict[str, Any]] = {}
        self._seen = 0
        self._asked = self._answered = 0
        """Which question was the last to be asked, and to be answered."""
        self._html: dict[str, tuple[Row, str]] = {}
        self._messages: dict[tuple[str, int], tuple[int, bytes]] = {}
        self._news = asyncio.Event()
        self._watchers = 0
        self._asking: asyncio.Task[None] | None = None
        self.reachable = True
        """The control actors answered when they were asked last."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this is open, the rows are kept fresh."""
        self._watchers += 1
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_for_ever(), name="live calls")
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    async def rows(self, tenant: str) -> list[Row]:
        """A tenant's live calls as they are now, newest first. Raises `ControlPlaneDown`."""
        if self._asking is None:
            await self._ask()
        return self._rows.of(tenant)

    def row(self, call_id: str) -> Row | None:
        """One live call, as fresh as `watched` keeps it."""
        return self._rows.row(call_id)

    def html(self, row: Row) -> str:
        """The row as HTML, rendered once per change."""
        known = self._html.get(row.call_id)
        if known is None or known[0] is not row:
            known = self._html[row.call_id] = row, self._render(row)
        return known[1]

    async def messages(self, tenant: str) -> AsyncGenerator[bytes, None]:
        """Server-sent events that keep a table of a tenant's calls as it is, beginning with the whole table."""
        await self.rows(tenant)
        version = 0
        with self.watched():
            while True:
                news = self._news  # of what comes while the message below is on its way, too
                if self._rows.version > version:
                    version, message = self._message(tenant, version)
                    if message:
                        yield message
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await news.wait()
                except TimeoutError:
                    yield STILL_HERE

    def _message(self, tenant: str, version: int) -> tuple[int, bytes]:
        """What leads from `version` to now; browsers that show the same get the same bytes."""
        known = self._messages.get((tenant, version))
        if known is None:
            changes = self._rows.since(version, tenant)
            live = self._rows.of(tenant)
            known = self._messages[tenant, version] = changes.version, self._rendered(changes, live)
        return known

    def _rendered(self, changes: Changes, live: list[Row]) -> bytes:
        parts = [
            *(f'<template><tr id="{call_id}" hx-swap-oob="delete"></tr></template>' for call_id in changes.gone),
            *(f'<template><tr hx-swap-oob="true" {self.html(row)[4:]}</template>' for row in changes.changed),
        ]
        if changes.whole or changes.added:
            where = "innerHTML" if changes.whole else "afterbegin"
            rows = "".join(map(self.html, changes.added))
            parts.append(f'<template><tbody hx-swap-oob="{where}:#calls">{rows}</tbody></template>')
        if not parts:
            return b""
        usd = sum(row.cost_usd_micros for row in live) / 1_000_000
        parts.append(f'<span id="count" hx-swap-oob="innerHTML">{len(live)}</span>')
        parts.append(f'<span id="cost" hx-swap-oob="innerHTML">${usd:.4f}</span>')
        return event("calls", "".join(parts))

    async def _ask_for_ever(self) -> None:
        while True:
            try:
                if await self._ask():
                    self._tell()
            except ControlPlaneDown:
                self.reachable = False
            except Exception as error:  # noqa: BLE001 - the next time may be better, and somebody watches
                self.reachable = False
                log.error("the live calls are not shown: %s", type(error).__name__)  # noqa: TRY400 - see `TaskSet`
            await asyncio.sleep(self._every_s)

    async def _ask(self) -> bool:
        """Ask both; True where something that is shown has changed."""
        self._asked += 1
        question = self._asked
        live, standings = await asyncio.gather(self._pool.live_calls(None), self._history.standings(self._seen))
        self.reachable = True
        if question < self._answered:
            return False  # who asked later knows more
        self._answered = question
        # What is new may be of a call that the other one did not know yet.
        there = {*(call["call_id"] for call in live), *(standing["call_id"] for standing in standings)}
        self._standings.update((standing["call_id"], standing) for standing in standings)
        self._standings = {call_id: known for call_id, known in self._standings.items() if call_id in there}
        self._html = {call_id: known for call_id, known in self._html.items() if call_id in there}
        self._seen = max([self._seen, *(standing["version"] for standing in standings)])
        self._messages.clear()
        return self._rows.update(live, self._standings)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def event(name: str, html: str, seq: int | None = None) -> bytes:
    """One server-sent event with HTML in it (WHATWG HTML, section 9.2); each line has a field of its own."""
    head = f"event: {name}\n" if seq is None else f"id: {seq}\nevent: {name}\n"
    return (head + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n").encode()
