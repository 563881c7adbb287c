"""The control actors as `cluster.dispatch` wants them: they answer in time or raise `ControlPlaneDown`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import ray.exceptions

from actors import names
from cluster.dispatch.ports import ControlPlaneDown
from cluster.dispatch.streams import HEARTBEAT_S

WITHIN_S: Final = 5.0
"""Both answer in milliseconds; their own restart takes about this long."""
LONGER_S: Final[Mapping[str, float]] = {"events": HEARTBEAT_S + WITHIN_S}


class Remote:
    """An actor behind its name. Its methods are attributes of this, with positional arguments."""

    def __init__(self, find: Callable[[], Any]) -> None:
        """`find` looks the actor up; it may block, and raises `ValueError` if there is none."""
        self._find = find
        self._handle: Any = None

    def look_up(self) -> None:
        """Find the actor now, and not with the first message; blocks. Raises `ValueError` if there is none."""
        self._handle = self._find()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """The method `name` of the actor."""
        return partial(self._ask, name)

    async def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(LONGER_S.get(name, WITHIN_S)):
                try:
                    return await self._send(name, *arguments)
                except ray.exceptions.ActorDiedError:
                    # It is gone for good, and its name may be another's by now.
                    self._handle = None
                    return await self._send(name, *arguments)
        except (ControlPlaneDown, *names.UNREACHABLE, TimeoutError, ValueError):
            raise ControlPlaneDown from None

    async def _send(self, name: str, *arguments: Any) -> Any:
        if self._handle is None:
            # Kept from then on: while Ray's head is away, a look-up hangs and a handle does not.
            self._handle = await asyncio.to_thread(self._find)
        return await getattr(self._handle, name).remote(*arguments)


def pool() -> Any:
    """`BudgetPool`, as a `cluster.dispatch.ports.Pool`."""
    return Remote(names.budget_pool)


def campaign_book() -> Any:
    """`CampaignBook`, as a `cluster.campaign.ports.Book`."""
    return Remote(names.campaign_book)


def history() -> Any:
    """`Records`, as a `cluster.dispatch.ports.History`."""
    return Remote(names.records)
