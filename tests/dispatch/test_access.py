"""API keys at the door."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from cluster.dispatch import access as a
from cluster.dispatch.ports import ControlPlaneDown
from cluster.dispatch.problems import Problem
from tests.dispatch.doubles import ADMIN_KEY, CAMPAIGNS_KEY, KEY, PRINCIPALS, PoolDouble


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, "Bearer wrong"])
async def test_without_a_good_key_there_is_no_way_in(pool: PoolDouble, header: str | None) -> None:
    """And the answer says how a key is sent."""
    with pytest.raises(Problem) as problem:
        await a.Doorkeeper(pool).admit(header, "calls")
    assert problem.value.slug == "unauthorized"
    assert problem.value.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("key", "scope", "allowed"),
    [
        (KEY, "calls", True),
        (KEY, "campaigns", False),
        (KEY, None, True),
        (CAMPAIGNS_KEY, "calls", False),
        (CAMPAIGNS_KEY, None, True),
        (ADMIN_KEY, "calls", True),
    ],
)
async def test_scopes(pool: PoolDouble, key: str, scope: str | None, allowed: bool) -> None:  # noqa: FBT001
    """A key opens what its scopes name; `admin` opens everything."""
    doorkeeper = a.Doorkeeper(pool)
    if allowed:
        assert await doorkeeper.admit(f"bearer {key}", scope) == PRINCIPALS[key]
        return
    with pytest.raises(Problem) as problem:
        await doorkeeper.admit(f"Bearer {key}", scope)
    assert (problem.value.slug, problem.value.more) == ("forbidden", {"scope": scope})


async def test_a_good_key_is_remembered_for_a_moment(pool: PoolDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad one never; and no more are remembered than is bounded."""
    now = 0.0
    doorkeeper = a.Doorkeeper(pool, clock=lambda: now)
    for _ in range(3):
        await doorkeeper.admit(f"Bearer {KEY}", None)
    assert pool.key_lookups == 1
    now = a.REMEMBERED_S
    await doorkeeper.admit(f"Bearer {KEY}", None)
    assert pool.key_lookups == 2
    monkeypatch.setattr(a, "REMEMBERED", 1)
    await doorkeeper.admit(f"Bearer {ADMIN_KEY}", None)
    await doorkeeper.admit(f"Bearer {KEY}", None)
    assert pool.key_lookups == 4


async def test_a_key_that_cannot_be_checked_is_not_refused(pool: PoolDouble) -> None:
    """Its owner is told to try again, not that the key is wrong."""
    pool.down = True
    with pytest.raises(ControlPlaneDown):
        await a.Doorkeeper(pool).admit(f"Bearer {KEY}", None)


async def test_whoever_may_watch_no_longer_sees_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again and again; an answer that can't be had now turns nobody away, and the source is closed."""
    monkeypatch.setattr(a, "CHECK_EVERY_S", 0.0)
    verdicts: list[Exception | None] = [None, ControlPlaneDown(), None, Problem("unauthorized")]
    closed = False

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            while True:
                yield b"news"
        finally:
            closed = True

    async def check() -> None:
        if (verdict := verdicts.pop(0)) is not None:
            raise verdict

    assert [chunk async for chunk in a.while_permitted(source(), check)] == [b"news"] * 3
    assert closed


async def test_a_key_is_not_asked_for_with_every_message() -> None:
    """Once in a while is enough."""

    async def source() -> AsyncGenerator[bytes, None]:
        for _ in range(3):
            yield b"news"

    async def check() -> None:
        raise AssertionError

    assert len([chunk async for chunk in a.while_permitted(source(), check)]) == 3
