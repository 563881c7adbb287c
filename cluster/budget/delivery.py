"""Records on their way to the history: told again and again until it has them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.budget.ports import History
    from cluster.messages import CallRecord

log = logging.getLogger(__name__)

ANSWER_WITHIN_S: Final = 5.0
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 10.0


async def deliver(history: History, record: CallRecord) -> None:
    """Return when the history has the record. The pause between two tries doubles, up to `RETRY_MAX_S`."""
    pause_s = RETRY_S
    while True:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await history.finish(record)
        except Exception as error:  # noqa: BLE001 - whatever ails the history, the record has to get there
            log.warning("the history did not take a record: %s", type(error).__name__)
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)
