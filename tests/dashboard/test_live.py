"""The live pages: what is sent to browsers, how often somebody is asked, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from cluster.dashboard import call_stream as call_stream_module
from cluster.dashboard import live as live_module
from cluster.dashboard.call_stream import call_stream
from cluster.dashboard.live import LiveCalls
from cluster.dashboard.render import render_row
from cluster.dashboard.rows import Row
from tests.dashboard.site import House
from tests.records.examples import a_record, an_event

FAST_S = 0.01
ROUND_S = 0.2
GENEROUS_S = 20.0


class Renderer:
    """Renders rows, and counts."""

    def __init__(self) -> None:
        self.rendered = 0

    def __call__(self, row: Row) -> str:
        """The row, as it is rendered in production."""
        self.rendered += 1
        return render_row(row)


@pytest.fixture
def renderer() -> Renderer:
    """One that has rendered nothing yet."""
    return Renderer()


@pytest.fixture
def live(house: House, renderer: Renderer) -> LiveCalls:
    """The live calls of the house."""
    return LiveCalls(house.pool, house.history, renderer, FAST_S)


async def until(messages: AsyncGenerator[bytes, None], *wanted: str) -> str:
    """The first message that has all of this in it."""
    async with asyncio.timeout(GENEROUS_S):
        async for message in messages:
            if all(word in message.decode() for word in wanted):
                return message.decode()
    raise AssertionError(f"the stream ended without {wanted}")


def watched_call(house: House, live: LiveCalls, after: int, every_s: float = FAST_S) -> AsyncGenerator[bytes, None]:
    """The stream of one call's page."""

    async def look_up() -> dict[str, Any] | None:
        return await house.history.call("call_1", "acme", False)  # noqa: FBT003 an actor's method

    return call_stream(house.history, live, "call_1", after, look_up=look_up, every_s=every_s)


async def test_a_table_is_kept_as_it_is(house: House, live: LiveCalls) -> None:
    """The whole of it first, then calls that come, change and go."""
    await house.begin("call_1")
    async with aclosing(live.messages("acme")) as messages:
        first = await until(messages, "innerHTML:#calls", 'id="call_1"')
        assert first.startswith("event: calls\ndata: ")
        house.history.down = True  # nobody sees the call before all of it is there
        await house.begin("call_2")
        house.history.down = False
        await until(messages, "afterbegin:#calls", 'id="call_2"', "answered")
        await house.say("call_1", "agent", "Good morning.")
        changed = await until(messages, '<tr hx-swap-oob="true" id="call_1"', "Good morning.")
        assert "call_2" not in changed
        house.pool.live.pop("call_1")
        assert ">1</span>" in await until(messages, '<tr id="call_1" hx-swap-oob="delete">')


async def test_a_change_is_rendered_once_for_all_browsers(house: House, live: LiveCalls, renderer: Renderer) -> None:
    """Ten browsers get the same bytes."""
    await house.begin("call_1")
    streams = [live.messages("acme") for _ in range(10)]
    for stream in streams:
        await until(stream, 'id="call_1"', "answered")
    before = renderer.rendered
    await house.say("call_1", "agent", "Good morning.")
    texts = await asyncio.gather(*(until(stream, "Good morning.") for stream in streams))
    assert len(set(texts)) == 1
    assert renderer.rendered == before + 1
    for stream in streams:
        await stream.aclose()


async def test_other_tenants_changes_are_not_sent(house: House, live: LiveCalls) -> None:
    """Not even as an empty message."""
    async with aclosing(live.messages("other")) as messages:
        await until(messages, "innerHTML:#calls")
        waiting = asyncio.ensure_future(anext(messages))
        await house.begin("call_1")
        await house.begin("call_2", tenant="other")
        message = (await waiting).decode()
        assert "call_1" not in message
        assert "call_2" in message


async def test_while_nobody_watches_nobody_is_asked(house: House, live: LiveCalls) -> None:
    """The last one to leave turns it off; until then the rows are fresh."""
    with live.watched(), live.watched():
        asking = live._asking
        await house.begin("call_1")
        async with asyncio.timeout(GENEROUS_S):
            while live.row("call_1") is None:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(FAST_S)
    assert asking is not None
    await asyncio.wait([asking])
    assert live._asking is None


async def test_a_restart_of_the_control_actors_is_sat_out(house: House, live: LiveCalls) -> None:
    """The stream stays, shows what it knows, and goes on by itself."""
    await house.begin("call_1")
    async with aclosing(live.messages("acme")) as messages:
        await until(messages, 'id="call_1"')
        house.pool.down = True
        async with asyncio.timeout(GENEROUS_S):
            while live.reachable:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(FAST_S)
        house.pool.down = False
        await house.begin("call_2")
        await until(messages, 'id="call_2"')


async def test_what_comes_while_a_message_is_sent_is_not_missed(
    house: House, live: LiveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that took its time gets what is newer at once, not with the next change."""
    monkeypatch.setattr(live_module, "HEARTBEAT_S", GENEROUS_S)
    async with aclosing(live.messages("acme")) as messages:
        await until(messages, "innerHTML:#calls")
        await house.begin("call_1")
        async with asyncio.timeout(GENEROUS_S):
            while (row := live.row("call_1")) is None or row.state != "answered":  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(FAST_S)
        async with asyncio.timeout(GENEROUS_S / 2):
            assert 'id="call_1"' in (await anext(messages)).decode()


async def test_an_answer_that_was_overtaken_changes_nothing(
    house: House, live: LiveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages are opened at once, a call begins between their questions, and the first answer comes last."""
    ask, asked, late = house.pool.live_calls, asyncio.Event(), asyncio.Event()

    async def slowly(tenant: str | None) -> list[dict[str, Any]]:
        found = await ask(tenant)
        asked.set()
        await late.wait()
        return found

    monkeypatch.setattr(house.pool, "live_calls", slowly)
    first = asyncio.create_task(live.rows("acme"))
    await asked.wait()
    monkeypatch.setattr(house.pool, "live_calls", ask)
    await house.begin("call_1")
    (row,) = await live.rows("acme")
    late.set()
    assert await first == await live.rows("acme") == [row]
    assert row.state == "answered"


async def test_a_failure_does_not_end_the_updates(
    house: House, live: LiveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody expected: those who are asked are asked again."""
    failures = [RuntimeError("a bug")]
    ask = house.pool.live_calls

    async def stumble(tenant: str | None) -> list[dict[str, Any]]:
        if failures:
            raise failures.pop()
        return await ask(tenant)

    async with aclosing(live.messages("acme")) as messages:
        await until(messages, "innerHTML:#calls")
        monkeypatch.setattr(house.pool, "live_calls", stumble)
        await house.begin("call_1")
        await until(messages, 'id="call_1"')
    assert failures == []


async def test_a_silent_stream_is_kept_open(live: LiveCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies cut those that are not."""
    monkeypatch.setattr(live_module, "HEARTBEAT_S", FAST_S)
    async with aclosing(live.messages("acme")) as messages:
        await until(messages, "innerHTML:#calls")
        assert await anext(messages) == b": still here\n\n"


async def test_one_call_as_it_goes_on(house: House, live: LiveCalls) -> None:
    """Words as they are spoken, whole lines, the timeline, the facts, the end."""
    await house.begin("call_1")
    async with aclosing(watched_call(house, live, 2)) as messages:
        await until(messages, "event: facts", "answered")
        await house.tell(an_event("speaking", who="caller", text="When do you "))
        await until(messages, "event: speaking", "When do you ")
        await house.tell(an_event("speaking", who="caller", text="open?"))
        await until(messages, "event: speaking", "When do you open?")
        await house.say("call_1", "caller", "When do you open?")
        text = await until(messages, "event: line", "When do you open?")
        assert "event: entry" in text
        assert "event: speaking\n\n" in text.replace("id: 5\n", "")
        house.pool.live["call_1"]["cost_usd_micros"] = 12_345
        await until(messages, "event: facts", "$0.0123")
        house.pool.live.pop("call_1")
        await house.history.history.finish(a_record())
        await until(messages, "event: over")
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


async def test_a_stream_ends_with_the_history(house: House, live: LiveCalls) -> None:
    """The browser comes back by itself."""
    await house.begin("call_1")
    house.history.down = True
    assert [message async for message in watched_call(house, live, 0)] == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_stream_that_begins_behind_the_end_ends(house: House, live: LiveCalls, *, known: bool) -> None:
    """At once, with the message that has the page fetch how the call ended; also where there is no such call."""
    if known:
        await house.history.history.finish(a_record())
    async with asyncio.timeout(GENEROUS_S):
        messages = [message async for message in watched_call(house, live, 999_999)]
    assert [message.splitlines()[1] for message in messages] == [b"event: over"]


async def test_a_call_that_ends_is_watched_until_its_record_is_there(house: House, live: LiveCalls) -> None:
    """It may have left the live calls before."""
    await house.begin("call_1")
    async with aclosing(watched_call(house, live, 2)) as messages:
        await until(messages, "event: facts")
        house.pool.live.clear()
        async with asyncio.timeout(GENEROUS_S):
            while live.row("call_1") is not None:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(FAST_S)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(5 * FAST_S)
        assert not waiting.done()
        await house.history.history.finish(a_record())
        assert b"event: over" in await waiting


async def test_a_silent_call_costs_little_and_is_kept_open(
    house: House, live: LiveCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign of life; and however early the history answers with nothing, it is not asked again at once."""
    asked = 0

    async def nothing(_call_id: str, _after: int, _timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        nonlocal asked
        asked += 1
        return []

    monkeypatch.setattr(house.history, "events", nothing)
    monkeypatch.setattr(call_stream_module, "HEARTBEAT_S", 2 * ROUND_S)
    await house.begin("call_1")
    async with aclosing(watched_call(house, live, 2, ROUND_S)) as messages:
        await until(messages, ": still here")
        assert asked <= 5
