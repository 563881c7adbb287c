"""Who may open a Live session, and where: paths, keys, tokens. Pure, but for the random tokens that it hands out.

Source: the protocol reference, sections 1.1 and 2.6.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.local.live.setup import Backend

_DEVELOPER: Final = re.compile(
    r"/+ws/google\.ai\.generativelanguage\.(v\w+)\.GenerativeService\.BidiGenerateContent(Constrained)?$"
)
_VERTEX: Final = re.compile(r"/+ws/google\.cloud\.aiplatform\.(v\w+)\.LlmBidiService/BidiGenerateContent$")
KEY_NOT_VALID: Final = "API key not valid. Please pass a valid API key."


@dataclass(frozen=True, slots=True)
class Route:
    """Which service a path belongs to, and in which version."""

    backend: Backend
    version: str


def route_of(path: str) -> Route | None:
    """The service at this path, whatever prefix stands before it; None if there is none."""
    for backend, pattern in ((Backend.DEVELOPER, _DEVELOPER), (Backend.VERTEX, _VERTEX)):
        found = pattern.search(path)
        if found:
            return Route(backend, found[1])
    return None


class Access:
    """Checks credentials. ``api_key`` None accepts any key and any token that is not empty."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key
        self._tokens: set[str] = set()

    def credential(self, route: Route, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The credential that came with an upgrade request, in any of its places; "" if there is none."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        wanted = "bearer" if route.backend is Backend.VERTEX else "token"
        bearer = token.strip() if scheme.lower() == wanted else ""
        return bearer or headers.get("x-goog-api-key", "") or query.get("key", "") or query.get("access_token", "")

    def valid(self, credential: str) -> bool:
        """Whether the service takes this credential."""
        return self._api_key is None or credential == self._api_key or credential in self._tokens

    def exchange(self, form: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """A service account's assertion for a token: (HTTP status, JSON body). The signature is not checked."""
        claims = _claims(str(form.get("assertion", "")))
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" or not claims.get("iss"):
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT."}
        if not claims.get("scope"):
            return 400, {"error": "invalid_scope", "error_description": "Invalid OAuth scope provided."}
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._tokens.add(token)
        return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}


def _claims(assertion: str) -> dict[str, Any]:
    parts = assertion.split(".")
    if len(parts) != 3:  # noqa: PLR2004  # header, claims, signature
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
