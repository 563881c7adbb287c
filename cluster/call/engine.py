"""LiveKit's native engine, used in a way that does not end the process."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from livekit import rtc

_abandoned: set[asyncio.Task[None]] = set()


async def connect(room: rtc.Room, url: str, token: str, options: rtc.RoomOptions | None = None) -> None:
    """`room.connect` that may be cancelled. Raises `rtc.ConnectError`.

    The SDK's own, when cancelled, leaves the engine waiting for a word from Python; 10 s later that panics and ends the
    process, with whatever call it then serves (measured, livekit 1.x). So an abandoned connection is made, and left.
    """
    connecting = asyncio.create_task(room.connect(url, token, options or rtc.RoomOptions()))
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        leaving = asyncio.create_task(_leave(room, connecting))
        _abandoned.add(leaving)
        leaving.add_done_callback(_abandoned.discard)
        raise


async def settle() -> None:
    """Return when every abandoned connection is left; nobody may close the event loop before."""
    if _abandoned:
        await asyncio.wait(_abandoned)


async def _leave(room: rtc.Room, connecting: asyncio.Task[None]) -> None:
    with suppress(rtc.ConnectError):
        await connecting
        await room.disconnect()
