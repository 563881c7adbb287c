"""The Ray actor of one call. It has an address and no decisions: `CallSlot` does the work.

Rule of this file: it imports nothing large. `BudgetPool`, which holds these actors' handles, imports it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors import control_plane, names
from cluster.call.watchdog import watch_for_ever
from cluster.dispatch.ports import ControlPlaneDown
from cluster.outcome import Outcome

if TYPE_CHECKING:
    from cluster.messages import ActorStatus, Assignment, CallEvent, CallRecord, Prepared, Renewal, Verdict
    from cluster.settings import Settings


class RayUpstream:
    """Reports to `BudgetPool` and `Records`, and goes on without where they don't answer."""

    def __init__(self) -> None:
        self._budget_pool, self._records = control_plane.pool(), control_plane.history()
        for remote in (self._budget_pool, self._records):
            remote.look_up()  # while the head node is there, which is not sure in a call

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """Renew the lease; None where nobody answered in time."""
        try:
            verdict: Verdict = await self._budget_pool.renew(renewal)
        except ControlPlaneDown:
            return None
        return verdict

    async def report(self, events: list[CallEvent]) -> bool:
        """Hand over events; False where nobody took them."""
        try:
            await self._records.append(events)
        except ControlPlaneDown:
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
