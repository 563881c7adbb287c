"""A call's heartbeat: it renews the lease, settles the money and leaves a checkpoint, at once where something happened.

Rules of this file:
1. A phone is dialled, and a room is closed, only by a process of which `BudgetPool` has just said that it has the call.
2. `BudgetPool` may be away for a while: the call goes on, until its lease has run out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from cluster.messages import Assignment, Renewal, Verdict

NEWS_GAP_S: Final = 0.1
"""Between two heartbeats that have news; a word of a transcript is not worth one of its own."""
AGAIN_S: Final = 0.2
ASK_WITHIN_S: Final = 1.0
"""Somebody may be listening to silence."""
FRESH_S: Final = 1.0
"""A verdict that is younger holds: a process is silent for longer before another one gets its call."""


class Pulse(Protocol):
    """Who answers heartbeats."""

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """Renew the lease; None where nobody answered."""


class Heartbeat:
    """Of one call."""

    def __init__(
        self,
        assignment: Assignment,
        pulse: Pulse,
        renewal: Callable[[], Renewal],
        on_verdict: Callable[[Verdict, Renewal], None],
        on_expired: Callable[[], None],
    ) -> None:
        """`on_expired` is told when nobody has answered for as long as the lease lasts."""
        self._every_s = assignment.renew_every_s
        self._ttl_s = assignment.lease_ttl_s
        self._pulse = pulse
        self._renewal = renewal
        self._on_verdict = on_verdict
        self._on_expired = on_expired
        self._news = asyncio.Event()
        self._answered_at = time.monotonic()
        self._verdict = Verdict.CONTINUE
        self._beating = asyncio.Lock()

    def news(self) -> None:
        """Something happened that another process would have to know."""
        self._news.set()

    async def beat_for_ever(self) -> None:
        """Beat at once, then whenever there is news, and else every `renew_every_s`."""
        while True:
            self._news.clear()
            await self.beat()
            if time.monotonic() - self._answered_at > self._ttl_s:
                self._on_expired()
            await asyncio.sleep(min(NEWS_GAP_S, self._every_s))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._every_s - NEWS_GAP_S)):
                    await self._news.wait()

    async def beat(self) -> bool:
        """Beat once; False where nobody answered."""
        async with self._beating:
            renewal = self._renewal()
            verdict = await self._pulse.renew(renewal)
            if verdict is None:
                return False
            self._answered_at, self._verdict = time.monotonic(), verdict
        self._on_verdict(verdict, renewal)
        return True

    async def confirm(self) -> bool:
        """Beat until somebody answers, at most for as long as the lease lasts; whether the call is ours."""
        until = time.monotonic() + self._ttl_s
        while not await self.beat():
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(AGAIN_S)
        return self._verdict is not Verdict.VOID

    async def allows(self) -> bool:
        """Beat once; whether somebody answers that the call may go on, and what it asks for is held."""
        return await self.beat() and self._verdict in {Verdict.CONTINUE, Verdict.CONCISE}

    async def is_ours(self) -> bool:
        """Whether the call is still ours; where nobody answers, it is as it was."""
        if time.monotonic() - self._answered_at > FRESH_S:
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_WITHIN_S):
                    await self.beat()
        return self._verdict is not Verdict.VOID
