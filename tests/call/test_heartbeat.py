"""A call's heartbeat, with somebody who answers it or does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from cluster.call import heartbeat as h
from cluster.call.heartbeat import Heartbeat
from cluster.messages import Checkpoint, Renewal, Usage, Verdict
from tests.budget.house import until
from tests.call.test_account import ASSIGNMENT

RENEWAL = Renewal(
    lease_id="lease-1", fencing_token=1, usage=Usage(), cost_usd_micros=0, talk_s=0.0, checkpoint=Checkpoint()
)


class Desk:
    """Answers heartbeats with `answer`; None is nobody."""

    def __init__(self, answer: Verdict | None = Verdict.CONTINUE) -> None:
        self.answer = answer
        self.beats = 0
        self.was_asked = asyncio.Event()

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """As `BudgetPool`."""
        assert renewal is RENEWAL
        self.beats += 1
        self.was_asked.set()
        return self.answer

    async def next_beat(self) -> None:
        """Return with the next one."""
        self.was_asked.clear()
        async with asyncio.timeout(10):
            await self.was_asked.wait()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is waited for shortly."""
    monkeypatch.setattr(h, "NEWS_GAP_S", 0.001)
    monkeypatch.setattr(h, "AGAIN_S", 0.001)


def a_heartbeat(desk: Desk, *, every_s: float = 60.0, ttl_s: float = 60.0) -> tuple[Heartbeat, list[Verdict | str]]:
    """And what it tells the call."""
    told: list[Verdict | str] = []
    assignment = replace(ASSIGNMENT, renew_every_s=every_s, lease_ttl_s=ttl_s)
    return Heartbeat(
        assignment, desk, lambda: RENEWAL, lambda verdict, _: told.append(verdict), lambda: told.append("expired")
    ), told


@asynccontextmanager
async def beating(heart: Heartbeat) -> AsyncIterator[None]:
    """It beats meanwhile."""
    task = asyncio.create_task(heart.beat_for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_it_beats_at_once_and_with_every_piece_of_news() -> None:
    """Another process can go on from the very beginning."""
    desk = Desk()
    heart, told = a_heartbeat(desk)
    async with beating(heart):
        await desk.next_beat()
        heart.news()
        await until(lambda: told == [Verdict.CONTINUE] * 2)


async def test_it_beats_without_news() -> None:
    """Being alive is news enough."""
    desk = Desk()
    heart, _ = a_heartbeat(desk, every_s=0.01)
    async with beating(heart):
        for _ in range(3):
            await desk.next_beat()


async def test_a_lease_that_nobody_renews_runs_out_in_the_call_too() -> None:
    """The call says goodbye; `BudgetPool` may have given its money to others."""
    desk = Desk(answer=None)
    heart, told = a_heartbeat(desk, every_s=0.01, ttl_s=0.02)
    async with beating(heart), asyncio.timeout(10):
        while "expired" not in told:
            await desk.next_beat()
    assert set(told) == {"expired"}


async def test_a_confirmation_waits_for_an_answer() -> None:
    """Nobody is dialled before `BudgetPool` knows of it."""
    desk = Desk(answer=None)
    heart, _ = a_heartbeat(desk)
    confirming = asyncio.create_task(heart.confirm())
    await desk.next_beat()
    await desk.next_beat()
    assert not confirming.done()
    desk.answer = Verdict.CONTINUE
    assert await confirming


@pytest.mark.parametrize("answer", [None, Verdict.VOID])
async def test_a_call_that_is_not_ours_or_that_nobody_knows_is_not_confirmed(answer: Verdict | None) -> None:
    """It does not dial."""
    heart, _ = a_heartbeat(Desk(answer), ttl_s=0.02)
    assert not await heart.confirm()


async def test_before_a_room_is_closed_an_old_verdict_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was frozen for a minute wakes up in a call that is another's."""
    monkeypatch.setattr(h, "FRESH_S", 60.0)
    desk = Desk()
    heart, _ = a_heartbeat(desk)
    assert await heart.beat()
    desk.answer = Verdict.VOID
    assert await heart.is_ours()
    monkeypatch.setattr(h, "FRESH_S", -1.0)
    assert not await heart.is_ours()


async def test_where_nobody_answers_a_call_is_whose_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """While `BudgetPool` is away, nobody takes a call over."""
    monkeypatch.setattr(h, "FRESH_S", -1.0)
    heart, _ = a_heartbeat(Desk(answer=None))
    assert await heart.is_ours()
