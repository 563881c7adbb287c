"""API keys: `rm_<id>_<secret>`, of which the database holds only the SHA-256.

A plain hash is enough, since the secret is 256 random bits: there is nothing to guess and so nothing to slow down.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine, insert, select, update

from cluster.budget.tables import api_keys
from cluster.errors import InputError

SCOPES: Final = frozenset({"calls", "campaigns", "admin"})
"""What a key may be for; `admin` includes the others."""


TENANT_LENGTH: Final = 64


class KeyScopeError(InputError):
    """A scope that does not exist, or none at all; or a tenant without a name, or with one that is too long."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request, and what for its key is good."""

    tenant: str
    scopes: frozenset[str]
    key_id: str

    def may(self, scope: str) -> bool:
        """Whether the key is good for `scope`."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as a list shows it, without its secret. `created_at` and `revoked_at` are UTC seconds."""

    principal: Principal
    created_at: float
    revoked_at: float | None


def sha256_hex(key: str) -> str:
    """What is stored and looked up instead of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(engine: Engine, tenant: str, scopes: Iterable[str]) -> str:
    """Make a key and return it; it is not to be had again. Raises `KeyScopeError`."""
    wanted = frozenset(scopes)
    if not wanted or wanted - SCOPES:
        unknown = ", ".join(sorted(wanted - SCOPES)) or "none"
        raise KeyScopeError(f"scopes: {unknown}; use one or more of {', '.join(sorted(SCOPES))}")
    if not 0 < len(tenant) <= TENANT_LENGTH or not tenant.isprintable():
        raise KeyScopeError(f"tenant: a name of 1 to {TENANT_LENGTH} printable characters is needed")
    key_id = secrets.token_hex(4)
    key = f"rm_{key_id}_{secrets.token_urlsafe(32)}"
    row = {
        "key_id": key_id,
        "sha256": sha256_hex(key),
        "tenant": tenant,
        "scopes": " ".join(sorted(wanted)),
        "created_at": time.time(),
    }
    with engine.begin() as connection:
        connection.execute(insert(api_keys).values(row))
    return key


def list_keys(engine: Engine, tenant: str | None = None) -> list[KeyInfo]:
    """Every key, revoked ones too, of one tenant or of all, oldest first."""
    query = select(api_keys).order_by(api_keys.c.created_at)
    if tenant is not None:
        query = query.where(api_keys.c.tenant == tenant)
    with engine.connect() as connection:
        return [
            KeyInfo(_principal(row.tenant, row.scopes, row.key_id), row.created_at, row.revoked_at)
            for row in connection.execute(query)
        ]


def revoke_key(engine: Engine, key_id: str) -> bool:
    """End a key's use. False where there is no such key, or it was revoked before."""
    change = update(api_keys).where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
    with engine.begin() as connection:
        return connection.execute(change.values(revoked_at=time.time())).rowcount > 0


def authenticate(engine: Engine, key_sha256_hex: str) -> Principal | None:
    """Whose key this is; None for one that does not exist or was revoked."""
    query = select(api_keys).where(api_keys.c.sha256 == key_sha256_hex, api_keys.c.revoked_at.is_(None))
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else _principal(row.tenant, row.scopes, row.key_id)


class KeyRing:
    """`authenticate` with a short memory. Safe to use from several threads."""

    def __init__(self, engine: Engine, ttl_s: float = 5.0, size: int = 1024) -> None:
        """A revoked key works for up to `ttl_s` more; `size` is the number of keys that are remembered."""
        self._engine = engine
        self._ttl_s = ttl_s
        self._size = size
        self._known: dict[str, tuple[Principal, float]] = {}

    def authenticate(self, key_sha256_hex: str, now: float) -> Principal | None:
        """Whose key this is. `now` is monotonic seconds. Only keys that are good are remembered."""
        principal, until = self._known.get(key_sha256_hex, (None, now))
        if now < until:
            return principal
        principal = authenticate(self._engine, key_sha256_hex)
        if len(self._known) >= self._size:
            self._known.clear()
        if principal is None:
            self._known.pop(key_sha256_hex, None)
        else:
            self._known[key_sha256_hex] = principal, now + self._ttl_s
        return principal


def _principal(tenant: str, scopes: str, key_id: str) -> Principal:
    return Principal(tenant, frozenset(scopes.split()), key_id)
