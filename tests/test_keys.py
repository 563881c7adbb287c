"""API keys."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Engine, text

from cluster.keys import (
    KeyRing,
    KeyScopeError,
    Principal,
    authenticate,
    create_key,
    list_keys,
    revoke_key,
    sha256_hex,
)


def test_a_key_is_good_for_its_tenant_and_scopes(engine: Engine) -> None:
    """What was created is found again by its hash."""
    key = create_key(engine, "acme", ["calls", "campaigns"])
    assert re.fullmatch(r"rm_[0-9a-f]{8}_[\w-]{43}", key)
    principal = authenticate(engine, sha256_hex(key))
    assert principal == Principal("acme", frozenset({"calls", "campaigns"}), key.split("_")[1])
    assert principal.may("calls")
    assert not principal.may("admin")


def test_an_admin_may_everything(engine: Engine) -> None:
    """The scope admin includes the others."""
    principal = authenticate(engine, sha256_hex(create_key(engine, "acme", ["admin"])))
    assert principal is not None
    assert all(principal.may(scope) for scope in ("calls", "campaigns", "admin"))


def test_the_key_itself_is_not_stored(engine: Engine) -> None:
    """Who reads the database has no key."""
    key = create_key(engine, "acme", ["calls"])
    secret = key.split("_", 2)[2]
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    assert secret not in repr(rows)


def test_a_key_that_was_never_made_is_nobodys(engine: Engine) -> None:
    """Neither the empty one nor a key with one wrong character."""
    key = create_key(engine, "acme", ["calls"])
    for wrong in ("", key[:-1], key + "x", key.upper()):
        assert authenticate(engine, sha256_hex(wrong)) is None


def test_a_revoked_key_is_nobodys(engine: Engine) -> None:
    """Revoking ends one key, once, and leaves the others."""
    gone, stays = (create_key(engine, "acme", ["calls"]) for _ in range(2))
    assert revoke_key(engine, gone.split("_")[1])
    assert not revoke_key(engine, gone.split("_")[1])
    assert not revoke_key(engine, "nonesuch")
    assert authenticate(engine, sha256_hex(gone)) is None
    assert authenticate(engine, sha256_hex(stays)) is not None


@pytest.mark.parametrize(("scopes", "problem"), [([], "none"), (["call"], "call;"), (["calls", "root"], "root;")])
def test_scopes_that_do_not_exist_are_refused(engine: Engine, scopes: list[str], problem: str) -> None:
    """The message names what is wrong and what there is."""
    with pytest.raises(KeyScopeError, match=f"scopes: {problem}.*admin, calls, campaigns"):
        create_key(engine, "acme", scopes)
    assert list_keys(engine) == []


def test_a_list_shows_whose_keys_there_are(engine: Engine) -> None:
    """Of one tenant or of all, with what was revoked."""
    first, second = create_key(engine, "acme", ["calls"]), create_key(engine, "zeta", ["admin"])
    revoke_key(engine, first.split("_")[1])
    found = list_keys(engine)
    assert [info.principal.tenant for info in found] == ["acme", "zeta"]
    assert found[0].revoked_at is not None
    assert found[0].revoked_at >= found[0].created_at
    assert [info.principal.key_id for info in list_keys(engine, "zeta")] == [second.split("_")[1]]


def test_a_key_ring_remembers_good_keys_for_a_moment(engine: Engine) -> None:
    """A revoked key works for that moment more; a wrong one is looked up every time."""
    ring = KeyRing(engine, ttl_s=5.0, size=2)
    key = create_key(engine, "acme", ["calls"])
    sha = sha256_hex(key)
    assert ring.authenticate("0" * 64, 0.0) is None
    assert ring.authenticate(sha, 0.0) is not None
    revoke_key(engine, key.split("_")[1])
    assert ring.authenticate(sha, 4.9) is not None
    assert ring.authenticate(sha, 5.0) is None
    assert ring.authenticate(sha, 5.1) is None


def test_a_key_ring_has_a_size(engine: Engine) -> None:
    """Any number of keys works with a small one."""
    ring = KeyRing(engine, size=1)
    shas = [sha256_hex(create_key(engine, "acme", ["calls"])) for _ in range(3)]
    assert all(ring.authenticate(sha, 0.0) is not None for sha in [*shas, *shas])


@pytest.mark.parametrize("tenant", ["", "x" * 65, "ana\0"])
def test_a_tenant_needs_a_name_that_every_database_takes(engine: Engine, tenant: str) -> None:
    """PostgreSQL would refuse the row."""
    with pytest.raises(KeyScopeError, match="1 to 64"):
        create_key(engine, tenant, ["calls"])
    assert list_keys(engine) == []
