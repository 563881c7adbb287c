"""Who may do what at the SIP API: LiveKit's tokens, checked as livekit-server checks them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import jwt
from livekit.api import TokenVerifier
from livekit.api.access_token import Claims

from cluster.local.carrier.twirp import TwirpError

_BEARER: Final = "Bearer "


class Grant(StrEnum):
    """What a method asks of the token's `sip` claim."""

    CALL = "call"
    ADMIN = "admin"


class BadToken(Exception):
    """The header holds no token of this server: HTTP 401 with this text. It never repeats the token."""


def claims_of(header: str | None, api_key: str, api_secret: str) -> Claims:
    """What the `Authorization` header grants; without one, nothing. Raises BadToken."""
    if not header:
        return Claims()
    if not header.startswith(_BEARER):
        raise BadToken("invalid authorization header. Must start with Bearer ")
    try:
        return TokenVerifier(api_key, api_secret).verify(header.removeprefix(_BEARER))
    except jwt.PyJWTError:
        raise BadToken("invalid authorization token") from None


def require(claims: Claims, grant: Grant, room: str | None = None) -> None:
    """Raises TwirpError unless the token has ``grant`` and, where a room is named, is its admin."""
    granted = claims.sip is not None and bool(getattr(claims.sip, grant))
    if room is not None:
        video = claims.video
        granted = granted and video is not None and bool(video.room_admin) and video.room == room
    if not granted:
        raise TwirpError("unauthenticated", "permissions denied")
