"""What has to get through: news of calls to the history, and to LiveKit that a room is to be closed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.budget.ports import CloseRoom, History
    from cluster.messages import CallRecord, CallRequest

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 5.0
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
ROOM_TRIES: Final = 5


async def announce(history: History, request: CallRequest, started_at: float) -> None:
    """Return when the history knows of the call, which it may have done before. `started_at` is UTC seconds."""
    await _tell(lambda: history.begin(request, started_at))


async def deliver(history: History, record: CallRecord) -> None:
    """Return when the history has the record."""
    await _tell(lambda: history.finish(record))


async def hang_up(close_room: CloseRoom, room: str) -> None:
    """Close a room that no agent closes."""
    for attempt in range(ROOM_TRIES):
        if await close_room(room):
            return
        await asyncio.sleep(RETRY_S * 2**attempt)
    log.error("a room without an agent could not be closed: LiveKit did not answer %d times", ROOM_TRIES)


async def _tell(news: Callable[[], Awaitable[None]]) -> None:
    """The pause between two tries doubles, up to `RETRY_MAX_S`."""
    pause_s = RETRY_S
    while True:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await news()
        except Exception as error:  # noqa: BLE001 - whatever ails the history, the news has to get there
            log.warning("the history did not take what it was told: %s", type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)
