"""The history at work: what is shown at once, what is stored, who is woken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from cluster.messages import CallQuery
from cluster.outcome import BUSY, UNKNOWN
from cluster.records import feed as f
from cluster.records import history as h
from cluster.records.store import RecordStore
from tests.records.examples import CALLER, START, a_record, a_request, an_event

LONG_S = 20.0


@pytest.fixture
async def history(store: RecordStore) -> AsyncIterator[h.History]:
    """A history in a database of its own."""
    history = h.History(store)
    yield history
    await history.close()


async def test_an_event_wakes_whoever_waits_for_it(
    history: h.History, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, before the database has it."""
    monkeypatch.setattr(h, "BATCH_S", 2 * LONG_S)
    await history.begin(a_request(), START)
    waiting = [asyncio.create_task(history.events("call_1", 0, LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)
    await history.append([an_event("leg", state="ringing")])
    for entries in await asyncio.gather(*waiting):
        assert entries == [(1, {"seq": 1, "kind": "leg", "at_s": 1.0, "state": "ringing"})]
    assert store.events("call_1", 0) == []


async def test_waiting_has_a_limit(history: h.History) -> None:
    """When nothing comes, nothing is returned."""
    await history.begin(a_request(), START)
    assert await history.events("call_1", 0, 0.01) == []


async def test_the_end_is_an_event_and_is_stored_when_it_is_said(history: h.History, store: RecordStore) -> None:
    """The last event says how the call ended; asking for more returns at once."""
    await history.begin(a_request(), START)
    await history.append([an_event("leg", state="ringing"), an_event("leg", call_id="call_2", state="ringing")])
    assert await history.finish(a_record(outcome=BUSY))
    assert not await history.finish(a_record(outcome=UNKNOWN))
    kinds = [event["kind"] for _, event in store.events("call_1", 0)]
    assert kinds == ["leg", "ended"]
    last_seq, last = (await history.events("call_1", 1, LONG_S))[-1]
    assert (last["result"], last["reason"], last["cost_usd_micros"]) == ("caller", "busy", 12_345)
    assert await history.events("call_1", last_seq, LONG_S) == []


async def test_a_new_process_goes_on_with_an_old_call(store: RecordStore) -> None:
    """After a restart old events come from the database, new ones have higher numbers, and ended calls have ended."""
    before = h.History(store)
    await before.begin(a_request(), START)
    await before.append([an_event("leg", state="ringing")])
    await before.close()
    after = h.History(store)
    await after.append([an_event("line", who="agent", text="Hello.")])
    assert [seq for seq, _ in await after.events("call_1", 0, LONG_S)] == [1, f.RESTART_GAP + 2]
    await after.finish(a_record())
    again = h.History(store)
    last = (await again.events("call_1", 0, LONG_S))[-1]
    assert last[1]["kind"] == "ended"
    assert await again.events("call_1", last[0], LONG_S) == []
    await after.close()
    await again.close()


async def test_a_call_is_shown_as_it_stands(history: h.History) -> None:
    """With events that are not stored yet, for its own tenant, masked unless asked."""
    await history.begin(a_request(), START)
    await history.append([an_event("leg", state="answered"), an_event("line", who="caller", text="Hi.", heard=True)])
    call = await history.call("call_1", "acme", full_numbers=False)
    assert call is not None
    assert (call["state"], call["transcript"][0]["text"], call["to"]) == ("answered", "Hi.", "+*********01")
    assert await history.call("call_1", "other", full_numbers=True) is None
    [listed] = await history.calls("acme", CallQuery(state="live"), full_numbers=True) or []
    assert listed["to"] == CALLER


async def test_while_the_database_fails_nothing_is_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be stored is stored when the database is back, once and in order."""

    class Failing(RecordStore):
        broken = True
        tried = threading.Event()

        def add_events(self, events: object) -> None:
            if self.broken:
                self.tried.set()
                raise OperationalError("insert", {}, Exception("disk full"))
            super().add_events(events)  # type: ignore[arg-type]

    monkeypatch.setattr(h, "BATCH_S", 0.0)
    monkeypatch.setattr(h, "RETRY_S", 0.0)
    store = Failing(engine)
    history = h.History(store)
    await history.begin(a_request(), START)
    for number in range(3):
        await history.append([an_event("line", at_s=number)])
    assert await asyncio.to_thread(store.tried.wait, LONG_S)
    assert len(await history.events("call_1", 0, LONG_S)) == 3
    store.broken = False
    writer = history._writer
    assert writer is not None
    await writer
    assert [event["at_s"] for _, event in store.events("call_1", 0)] == [0, 1, 2]
    statistics = history.statistics()
    assert [statistics[name] for name in ("calls", "events", "unstored")] == [1, 3, 0]


async def test_a_webhook_is_new_once(history: h.History) -> None:
    """The same id a second time is not."""
    assert [await history.webhook_seen("EV_1"), await history.webhook_seen("EV_1")] == [True, False]


async def test_a_burst_larger_than_memory_is_still_told_in_full(history: h.History) -> None:
    """Whoever asks from the beginning gets the stored part and the part in memory, without a gap."""
    await history.begin(a_request(), START)
    await history.append([an_event("line", at_s=number) for number in range(f.EVENTS_PER_CALL + 50)])
    entries = await history.events("call_1", 0, LONG_S)
    assert [event["at_s"] for _, event in entries] == list(range(f.EVENTS_PER_CALL + 50))
