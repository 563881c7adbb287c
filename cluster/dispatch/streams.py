"""A call's events as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from cluster.dispatch.ports import ControlPlaneDown, History
from cluster.records.views import ENDED

HEARTBEAT_S: Final = 15.0
"""Proxies cut connections that are silent for 30 to 60 s."""
STILL_HERE: Final = b": still here\n\n"
"""The sign of life: a comment, which clients do not show."""
RECONNECT_MS: Final = 2000


async def event_stream(
    history: History,
    call_id: str,
    after: int,
    look_up: Callable[[], Awaitable[Mapping[str, Any] | None]],
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncGenerator[bytes, None]:
    """The events numbered higher than `after`, then those to come, until the call's end.

    `look_up` gives the call as it stands; it is asked when nothing has come for `heartbeat_s`, so that a stream that
    was resumed behind the end ends too. If the history goes away so does the stream: the client comes back with its
    last id.
    """
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    try:
        while True:
            entries = await history.events(call_id, after, heartbeat_s)
            for seq, event in entries:
                yield message(event["kind"], event, seq)
                after = seq
                if event["kind"] == ENDED:
                    return
            if not entries:
                call = await look_up()
                if call is None or call["state"] == ENDED:
                    yield message(ENDED, (call or {}).get("outcome") or {})
                    return
                yield STILL_HERE
    except ControlPlaneDown:
        return


def message(kind: str, event: Mapping[str, Any], seq: int | None = None) -> bytes:
    """One message. JSON has no line breaks in it, so one `data` line holds it."""
    head = f"event: {kind}\n" if seq is None else f"id: {seq}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
