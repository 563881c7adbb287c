"""Who may do what: a bearer key becomes a principal, or a problem."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cluster.dispatch.ports import Pool
from cluster.dispatch.problems import Problem
from cluster.keys import Principal, sha256_hex

REMEMBERED_S: Final = 10.0
"""A key that was good is not asked for again so soon; a revoked one works that much longer."""
REMEMBERED: Final = 1000
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


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Problem("unauthorized", headers=_CHALLENGE)
    return key.strip()
