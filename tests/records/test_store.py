"""The history in a real database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine

from cluster.messages import CallQuery, Direction, Line
from cluster.outcome import ACTOR_DIED, BUSY
from cluster.records.store import WEBHOOK_KEPT_S, RecordStore
from tests.records.examples import CALLER, START, a_record, a_request, an_event


def ids(rows: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Of these calls, of which there is a page."""
    assert rows is not None
    return [row["call_id"] for row in rows]


def test_a_call_is_begun_once(store: RecordStore) -> None:
    """Saying it again, with other words, changes nothing."""
    store.begin(a_request(), START)
    store.begin(a_request(profile="another"), START + 5)
    row = store.call("call_1", "acme")
    assert row is not None
    assert (row["profile"], row["started_at"], row["ended_at"], row["to_number"]) == ("reminder", START, None, CALLER)


def test_the_first_ending_stays(store: RecordStore) -> None:
    """A later ending is refused and changes nothing."""
    store.begin(a_request(), START)
    assert store.finish(a_record(outcome=BUSY))
    assert not store.finish(a_record(outcome=ACTOR_DIED, cost_usd_micros=999))
    row = store.call("call_1", None)
    assert row is not None
    assert (row["result"], row["reason"], row["cost_usd_micros"]) == ("caller", "busy", 12_345)
    assert row["ended_at"] == START + 12.5


def test_an_ending_needs_no_beginning(store: RecordStore) -> None:
    """A refused call is recorded although it never began, and beginning it afterwards does not revive it."""
    assert store.finish(a_record(direction=Direction.INBOUND))
    store.begin(a_request(), START)
    row = store.call("call_1", "acme")
    assert row is not None
    assert row["direction"] == "inbound"
    assert row["ended_at"] is not None


def test_a_tenant_sees_its_own_calls_only(store: RecordStore) -> None:
    """Another tenant's call does not exist; no tenant stands for all of them."""
    store.begin(a_request("call_1", "acme"), START)
    store.begin(a_request("call_2", "other"), START)
    assert store.call("call_2", "acme") is None
    assert ids(store.calls("acme", CallQuery())) == ["call_1"]
    assert len(ids(store.calls(None, CallQuery()))) == 2


def test_pages_of_calls(store: RecordStore) -> None:
    """Newest first, by state, and each page goes on where the last one ended, even among calls of one moment."""
    for number in range(5):
        store.begin(a_request(f"call_{number}"), START + number // 2)
    store.finish(a_record("call_3", started_at=START + 1))
    assert ids(store.calls("acme", CallQuery(limit=3))) == ["call_4", "call_3", "call_2"]
    assert ids(store.calls("acme", CallQuery(limit=3, before="call_2"))) == ["call_1", "call_0"]
    assert ids(store.calls("acme", CallQuery(state="ended", limit=3))) == ["call_3"]
    assert ids(store.calls("acme", CallQuery(state="live", limit=9, before="call_3"))) == [
        "call_2",
        "call_1",
        "call_0",
    ]
    assert store.calls("acme", CallQuery(limit=3, before="call_of_nobody")) is None
    assert store.calls("other", CallQuery(limit=3, before="call_2")) is None


def test_events_come_back_in_order(store: RecordStore) -> None:
    """Stored once however often they are sent, and without the kinds that are for the live feed only."""
    events = [
        (1, an_event("leg", state="ringing")),
        (2, an_event("speaking", who="agent")),
        (4, an_event("line", text="Hi")),
    ]
    store.add_events([])
    store.add_events(events)
    store.add_events([*events, (5, an_event("tool", name="end_call"))])
    assert [(seq, event["kind"]) for seq, event in store.events("call_1", 0)] == [(1, "leg"), (4, "line"), (5, "tool")]
    assert store.events("call_1", 4) == [(5, {"seq": 5, "kind": "tool", "at_s": 1.0, "name": "end_call"})]
    assert (store.last_seq("call_1"), store.last_seq("call_2")) == (5, None)


def test_a_webhook_is_new_once(store: RecordStore) -> None:
    """And is forgotten when its signature has long run out."""
    assert store.webhook_seen("EV_1", START)
    assert not store.webhook_seen("EV_1", START + 1)
    assert store.webhook_seen("EV_2", START + WEBHOOK_KEPT_S + 1)
    assert store.webhook_seen("EV_1", START + WEBHOOK_KEPT_S + 1)


def test_no_personal_data_in_the_repr_of_what_is_stored(engine: Engine) -> None:
    """What might be logged shows neither a number nor a word."""
    assert CALLER not in repr((a_request(), a_record(), an_event("line", text=CALLER), engine))


@pytest.mark.parametrize("state", ["live", "ended", None])
def test_no_calls_yet(store: RecordStore, state: str | None) -> None:
    """An empty history has empty pages."""
    assert store.calls("acme", CallQuery(state=state)) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("230001", ["call_b", "call_a"]),
        ("AGENT-ended", ["call_a"]),
        ("caller/busy", ["call_b"]),
        ("survey", ["call_b"]),
        ("call_a", ["call_a"]),
        ("café au", ["call_a"]),
        ("100%", ["call_a"]),
        ("1%0", []),
        ('"', []),
    ],
)
def test_calls_are_searched(store: RecordStore, search: str, found: list[str]) -> None:
    """By number, outcome, profile, id and words; what means something to SQL or JSON means nothing here."""
    said = (Line(who="caller", text="A café au lait, 100% hot", at_s=1.0),)
    store.finish(a_record("call_a", transcript=said))
    store.finish(a_record("call_b", BUSY, profile="survey", transcript=()))
    store.finish(a_record("call_c", tenant="other"))
    assert ids(store.calls("acme", CallQuery(search=search, parts_of_numbers=True))) == found


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (CALLER, ["call_a"]),
        (CALLER[1:], ["call_a"]),
        (CALLER.replace("+", " "), ["call_a"]),
        (CALLER[:-1], []),
        (CALLER[1:5], []),
        ("01", []),
        ("call_a", ["call_a"]),
    ],
)
def test_who_sees_numbers_masked_finds_them_only_as_a_whole(store: RecordStore, search: str, found: list[str]) -> None:
    """Or they could be read out digit by digit."""
    store.finish(a_record("call_a", transcript=()))
    assert ids(store.calls("acme", CallQuery(search=search))) == found


def test_there_is_no_call_with_a_nul_in_its_id(store: RecordStore) -> None:
    """PostgreSQL would not even take the question."""
    assert store.call("call_\0", None) is None
    assert store.calls(None, CallQuery(before="\0")) is None


def test_what_a_stranger_chose_may_be_long(store: RecordStore) -> None:
    """A SIP caller's "number" is any text, and a room may be named after it."""
    name = "x" * 1000
    store.begin(a_request(from_=name, to=name, room=name), START)
    row = store.call("call_1", "acme")
    assert row is not None
    assert (row["from_number"], row["to_number"], row["room"]) == (name, name, name)
