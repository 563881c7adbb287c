"""Who may do what: a bearer key becomes a principal, or a problem."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from cluster.dispatch.ports import ControlPlaneDown, Pool
from cluster.dispatch.problems import Problem
from cluster.keys import Principal, sha256_hex

REMEMBERED_S: Final = 10.0
"""A key that was good is not asked for again so soon; a revoked one works that much longer."""
REMEMBERED: Final = 1000
CHECK_EVERY_S: Final = 15.0
"""So long may somebody go on watching whose key was revoked or whose session is over."""
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="ringmaster"'}


class Doorkeeper:
    """Checks API keys, and remembers the good ones for a moment, by hash only."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    async def admit(self, authorization: str | None, scope: str | None) -> Principal:
        """Whose key this is. Without a `scope` any key will do. Raises `Problem`."""
        return await self.recognise(sha256_hex(_bearer(authorization)), scope)

    async def recognise(self, digest: str, scope: str | None) -> Principal:
        """The same for a key of which only `cluster.keys.sha256_hex` is known."""
        principal = await self._principal(digest)
        if scope is not None:
            permit(principal, scope)
        return principal

    async def _principal(self, digest: str) -> Principal:
        known = self._known.get(digest)
        if known is not None and self._clock() < known[1]:
            return known[0]
        principal = await self._pool.authenticate(digest)
        if principal is None:
            self._known.pop(digest, None)
            raise Problem("unauthorized", "the API key is not known, or was revoked", headers=_CHALLENGE)
        self._known[digest] = (principal, self._clock() + REMEMBERED_S)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return principal


def permit(principal: Principal, scope: str) -> None:
    """Raise `Problem` unless the key is good for `scope`."""
    if not principal.may(scope):
        raise Problem("forbidden", f"the key lacks the scope `{scope}`", scope=scope)


async def while_permitted(
    messages: AsyncGenerator[bytes, None], check: Callable[[], Awaitable[object]]
) -> AsyncGenerator[bytes, None]:
    """The messages until `check` raises `Problem`. It is asked every `CHECK_EVERY_S`, before a message is sent."""
    checked_at = time.monotonic()
    async with aclosing(messages):
        async for one in messages:
            if time.monotonic() - checked_at >= CHECK_EVERY_S:
                if not await _passes(check):
                    return
                checked_at = time.monotonic()
            yield one


async def _passes(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        await check()
    except Problem:
        return False
    except ControlPlaneDown:
        return True  # nobody can tell now, and whoever watched before goes on
    return True


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Problem("unauthorized", headers=_CHALLENGE)
    return key.strip()
