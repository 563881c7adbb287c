"""Tasks with an owner."""

from __future__ import annotations

import asyncio

import pytest

from cluster.tasks import TaskSet
from tests.budget.house import until


async def test_closing_stops_what_is_under_way() -> None:
    """Nothing outlives its owner."""
    tasks = TaskSet()
    forever = tasks.spawn("waiting", _wait_for_ever())
    await asyncio.sleep(0)
    assert len(tasks) == 1
    await tasks.close()
    assert forever.cancelled()
    assert len(tasks) == 0


async def test_a_failure_is_logged_by_its_type_only(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may hold a token."""
    tasks = TaskSet()
    tasks.spawn("an errand", _fail())
    await until(lambda: len(tasks) == 0)
    assert "an errand" in caplog.text
    assert "ValueError" in caplog.text
    assert "token" not in caplog.text


async def _wait_for_ever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("token")
