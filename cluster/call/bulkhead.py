"""What a call does beside the talk: should it fail, the call goes on.

The pattern's name is that of a ship's walls, of which one compartment may be flooded (M. Nygard, "Release It!").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.messages import CallEvent, Renewal, Verdict

if TYPE_CHECKING:
    from cluster.call.equipment import Upstream

log = logging.getLogger(__name__)


class Bulkhead:
    """Of one call."""

    def __init__(self, note: Callable[..., None]) -> None:
        """`note` adds to the call's timeline."""
        self._note = note
        self._failed: set[str] = set()

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """Whatever is raised in here ends here. It is noted once, however often it comes."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - nothing beside the talk is worth the talk
            if what not in self._failed:
                self._failed.add(what)
                # No text of an exception: it may hold a token, a number or a handle.
                log.warning("a part of a call has failed", extra={"what": what, "error": type(error).__name__})
                self._note("fault", what=what, detail=type(error).__name__)

    async def repeat(self, what: str, every_s: float, do: Callable[[], Awaitable[None]]) -> None:
        """Do it again and again, whether it fails or not."""
        while True:
            await asyncio.sleep(every_s)
            with self.around(what):
                await do()


def first_fault(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of a tree of tasks, however deep in it."""
    first = errors.exceptions[0]
    return first_fault(first) if isinstance(first, BaseExceptionGroup) else first


class SafeUpstream:
    """An upstream that is held to its word and never raises."""

    def __init__(self, upstream: Upstream, bulkhead: Bulkhead) -> None:
        self._upstream = upstream
        self._bulkhead = bulkhead

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """Renew the lease; None where nobody answered."""
        with self._bulkhead.around("heartbeat"):
            return await self._upstream.renew(renewal)
        return None

    async def report(self, events: list[CallEvent]) -> bool:
        """Hand over events; False where nobody took them."""
        with self._bulkhead.around("report"):
            return await self._upstream.report(events)
        return False
