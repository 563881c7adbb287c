"""Who is logged in: a signed cookie that names an API key by its hash, so that no server has to remember it.

Rules of this file:
1. The key itself is seen once, at login. Each request asks whether it is still good, and a stream asks again and again:
   revoking it ends its sessions.
2. The cookie is no use to scripts and other sites, and a POST is taken only from our own pages.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Final
from urllib.parse import urlsplit

import jwt
from starlette.requests import Request
from starlette.responses import Response

from cluster.dispatch.access import Doorkeeper
from cluster.dispatch.problems import Problem
from cluster.keys import Principal, sha256_hex

COOKIE: Final = "ringmaster_session"
LASTS_S: Final = 12 * 3600
"""A working day; then the key is asked for again."""
SCOPE: Final = "calls"
_ALGORITHM: Final = "HS256"
_PURPOSE: Final = b"Ringmaster's dashboard sessions"


class Sessions:
    """Begins, checks and ends sessions."""

    def __init__(self, doorkeeper: Doorkeeper, secret: str) -> None:
        """`secret` is one that all replicas have; what signs cookies is derived from it."""
        self._doorkeeper = doorkeeper
        self._key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)

    async def begin(self, request: Request, api_key: str, answer: Response) -> None:
        """Log in: `answer` will set the cookie. Raises `Problem` where the key is not good for the dashboard."""
        _refuse_other_sites(request)
        digest = sha256_hex(api_key.strip())
        await self._doorkeeper.recognise(digest, SCOPE)
        token = jwt.encode({"sub": digest, "exp": int(time.time()) + LASTS_S}, self._key, _ALGORITHM)
        https = "https" in {request.url.scheme, request.headers.get("x-forwarded-proto")}
        answer.set_cookie(COOKIE, token, max_age=LASTS_S, httponly=True, samesite="strict", secure=https)

    def end(self, request: Request, answer: Response) -> None:
        """Log out."""
        _refuse_other_sites(request)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")

    async def viewer(self, request: Request) -> Principal:
        """Who sends this request. Raises `Problem`: `unauthorized` for whoever has to log in."""
        if request.method not in {"GET", "HEAD"}:
            _refuse_other_sites(request)
        try:
            claims = jwt.decode(
                request.cookies.get(COOKIE, ""), self._key, [_ALGORITHM], options={"require": ["exp", "sub"]}
            )
        except jwt.InvalidTokenError:
            raise Problem("unauthorized") from None
        return await self._doorkeeper.recognise(claims["sub"], SCOPE)


def _refuse_other_sites(request: Request) -> None:
    """SameSite lets other ports of a host through; browsers say where a POST comes from."""
    if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
        raise Problem("forbidden", "this has to be sent from a page of the dashboard")
