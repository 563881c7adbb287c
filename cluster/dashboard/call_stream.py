"""One call's page as it goes on: events become pieces of the page, as server-sent events for htmx to put in place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from cluster.dashboard.live import LiveCalls, event
from cluster.dashboard.render import render
from cluster.dashboard.rows import Row
from cluster.dispatch.ports import ControlPlaneDown, History
from cluster.dispatch.streams import HEARTBEAT_S, STILL_HERE
from cluster.records.timeline import timeline
from cluster.records.views import ENDED

LOOK_EVERY_S: Final = 2.0
"""Cost and state come with the heartbeats of a call, which are this far apart."""
GATHER_S: Final = 0.1
"""The pieces of a sentence come many at a time."""


async def call_stream(
    history: History,
    live: LiveCalls,
    call_id: str,
    after: int,
    *,
    look_up: Callable[[], Awaitable[Mapping[str, Any] | None]],
    every_s: float = LOOK_EVERY_S,
) -> AsyncGenerator[bytes, None]:
    """What has to be put on a page that shows the events up to `after`, until the call's end.

    Names of the messages: `line` (a finished utterance), `speaking` (the one that is being spoken), `entry` (of the
    timeline), `facts`, and at last `over`. `look_up` gives the call as it stands; it is asked when nothing has come and
    no live call is known, so that a stream that began behind the end ends too. If the history goes away so does the
    stream, and the browser comes back.
    """
    shown: Row | None = None
    speaking = _Speaking()
    sent_at = time.monotonic()
    with live.watched():
        try:
            while True:
                asked_at = time.monotonic()
                entries = await history.events(call_id, after, every_s)
                events = [one for _, one in entries]
                after = entries[-1][0] if entries else after
                pieces = _pieces(events, speaking, after)
                row = live.row(call_id)
                if row is not None and row != shown:
                    shown = row
                    pieces.append(event("facts", render("_facts.html", row=row)))
                over = any(one["kind"] == ENDED for one in events)
                if over or (not events and row is None and _is_over(await look_up())):
                    yield b"".join([*pieces, event("over", "<p></p>", after)])
                    return
                if not pieces and asked_at - sent_at >= HEARTBEAT_S:
                    pieces.append(STILL_HERE)
                if pieces:
                    yield b"".join(pieces)
                    sent_at = time.monotonic()
                # Of a call that is over the history waits for nothing.
                await asyncio.sleep(GATHER_S if events else asked_at + every_s - time.monotonic())
        except ControlPlaneDown:
            return


def _is_over(call: Mapping[str, Any] | None) -> bool:
    return call is None or call["state"] == ENDED


class _Speaking:
    """The utterance that is not finished yet."""

    def __init__(self) -> None:
        self.who = ""
        self.text = ""

    def add(self, who: str, text: str) -> None:
        if who != self.who:
            self.who, self.text = who, ""
        self.text += text

    def done(self, who: str) -> None:
        if who == self.who:
            self.text = ""


def _pieces(events: Sequence[dict[str, Any]], speaking: _Speaking, seq: int) -> list[bytes]:
    before = speaking.who, speaking.text
    lines = [one for one in events if one["kind"] == "line"]
    for one in events:
        if one["kind"] == "speaking":
            speaking.add(one["who"], one["text"])
        elif one["kind"] == "line":
            speaking.done(one["who"])
    pieces = []
    if lines:
        pieces.append(event("line", render("_lines.html", lines=lines), seq))
    if (speaking.who, speaking.text) != before:
        pieces.append(event("speaking", render("_speaking.html", who=speaking.who, text=speaking.text), seq))
    if entries := timeline(events):
        pieces.append(event("entry", render("_entries.html", entries=entries), seq))
    return pieces
