"""Admission, money and the pool of call actors, with an address: `cluster.budget.desk` as an actor.

Rule of this file: it imports nothing large. Whoever looks the actor up imports it, and that is each call's process too.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from actors.answering import ControlActor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.budget.desk import Desk
    from cluster.keys import KeyRing, Principal
    from cluster.messages import Admission, CallRequest, Renewal, Verdict
    from cluster.settings import Settings


class BudgetPool(ControlActor["tuple[Desk, KeyRing]"]):
    """The one that admits calls, holds their money and lends them actors; see `Desk` for what each method does."""

    def __init__(self, settings: Settings) -> None:
        from cluster.logs import configure_logging

        configure_logging(settings)
        super().__init__(settings)
        self._close = AsyncExitStack()

    async def admit(self, request: CallRequest) -> Admission:
        """Decide on a request; the same one again gets the same admission."""
        return await (await self._desk()).admit(request)

    async def renew(self, renewal: Renewal) -> Verdict:
        """A call's heartbeat."""
        return await (await self._desk()).renew(renewal)

    async def hangup(self, call_id: str) -> bool:
        """End a live call, or take one from the queue; False where there is none."""
        return await (await self._desk()).hangup(call_id)

    async def leave_queue(self, call_id: str) -> bool:
        """Take a call from the queue, and leave it alone if it is live; False where it is not in the queue."""
        return await (await self._desk()).leave_queue(call_id)

    async def live_calls(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The live calls of a tenant, or of all, with masked numbers."""
        return (await self._desk()).live_calls(tenant)

    async def budgets(self) -> list[dict[str, Any]]:
        """How every budget stands."""
        return (await self._desk()).budgets()

    async def queue(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The calls of a tenant, or of all, that wait to start, with masked numbers."""
        return (await self._desk()).queue(tenant)

    async def policy(self) -> dict[str, Any]:
        """The policy that holds, as JSON."""
        return (await self._desk()).limits.policy.model_dump(mode="json")

    async def adopt_policy(self, fields: Mapping[str, Any]) -> None:
        """From now on this policy holds; `fields` is one as JSON, and was checked."""
        from cluster.budget.policy import Policy

        await (await self._desk()).adopt(Policy.model_validate(fields))

    async def statistics(self) -> dict[str, Any]:
        """How things stand, as plain numbers."""
        return (await self._desk()).statistics()

    async def capacity(self) -> int:
        """How many more calls could start now."""
        return (await self._desk()).capacity()

    async def pool(self) -> dict[str, Any]:
        """How the pool of call actors stands, as JSON."""
        return (await self._desk()).pool()

    async def drain(self, on: bool) -> None:  # noqa: FBT001 - an actor's method
        """Take no new calls from now on, or take them again."""
        (await self._desk()).limits.draining = on

    async def drain_node(self, node: str) -> bool:
        """Have a node end with its last call; False where there is no such node, or Ray does not answer."""
        return await (await self._desk()).drain_node(node)

    async def authenticate(self, key_sha256_hex: str) -> Principal | None:
        """Whose API key this is."""
        _, keys = await self._ready()
        return await asyncio.to_thread(keys.authenticate, key_sha256_hex, time.monotonic())

    async def _desk(self) -> Desk:
        return (await self._ready())[0]

    async def _open(self) -> tuple[Desk, KeyRing]:
        from actors.assembly import open_desk
        from actors.exporter import Exporter

        async with AsyncExitStack() as scope:
            opened = await open_desk(self._settings, scope)
            exporting = asyncio.create_task(Exporter("budget-pool", self.statistics).run_for_ever())
            scope.callback(exporting.cancel)
            self._close = scope.pop_all()
        return opened
