"""The Ray actor of one call. It has an address and no decisions: `CallSlot` does the work.

Rule of this file: it imports nothing large. `BudgetPool`, which holds these actors' handles, imports it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors import names
from cluster.call.watchdog import watch_for_ever
from cluster.outcome import Outcome

if TYPE_CHECKING:
    from cluster.messages import ActorStatus, Assignment, CallEvent, CallRecord, Prepared, Renewal, Verdict
    from cluster.settings import Settings

ANSWER_WITHIN_S = 5.0
"""A control actor that restarts is back within seconds; a call does not wait longer for it, and goes on without."""


class RayUpstream:
    """Reports to `BudgetPool` and `Records`. Their handles are resolved once, since look-ups need the head node."""

    def __init__(self) -> None:
        self._budget_pool = names.budget_pool()
        self._records = names.records()

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """Renew the lease; None where nobody answered in time."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                verdict: Verdict = await self._budget_pool.renew.remote(renewal)
                return verdict
        except (TimeoutError, *names.UNREACHABLE):
            return None

    async def report(self, events: list[CallEvent]) -> bool:
        """Hand over events; False where nobody took them."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._records.append.remote(events)
        except (TimeoutError, *names.UNREACHABLE):
            return False
        return True


class CallActor:
    """One call at a time in a process of its own."""

    def __init__(self, slot: str, settings: Settings) -> None:
        from cluster.call.slot import CallSlot
        from cluster.logs import configure_logging

        configure_logging(settings)
        self._name = slot
        self._watchdog: asyncio.Task[None] | None = None
        self._slot = CallSlot(slot, names.this_node(), settings, RayUpstream())

    def __repr__(self) -> str:
        return f"CallActor({self._name})"

    async def prepare(self, profile_name: str) -> Prepared:
        """Have a Live session of that profile set up; returns what became of it."""
        return await self._slot.prepare(profile_name)

    async def start(self, assignment: Assignment) -> None:
        """Begin a call; returns at once."""
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(watch_for_ever(), name="watchdog")
        await self._slot.start(assignment)

    async def wait(self) -> CallRecord:
        """Return when the call has ended. Its failure is how a death is seen, within 20 ms."""
        return await self._slot.wait()

    async def hangup(self, reason: str) -> bool:
        """End the running call; `reason` is an outcome as text. False where there is no call."""
        return self._slot.hang_up(Outcome.parse(reason))

    async def status(self) -> ActorStatus:
        """This actor's account of itself."""
        return self._slot.status()

    async def release(self) -> None:
        """Close everything before the actor is killed."""
        await self._slot.release()
