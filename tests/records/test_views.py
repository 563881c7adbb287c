"""How a call is shown."""

from __future__ import annotations

from typing import Any

from cluster.records.views import call_view, cost_view, event_view, summary_view
from tests.records.examples import CALLER, START, TRUNK


def a_row(**changes: Any) -> dict[str, Any]:
    """The row of a live outbound call."""
    empty = dict.fromkeys(
        ["ended_at", "result", "reason", "detail", "model", "answered_s", "duration_s", "talk_s", "usage", "timings_ms"]
    )
    row = {
        "call_id": "call_1",
        "direction": "outbound",
        "profile": "reminder",
        "to_number": CALLER,
        "from_number": TRUNK,
        "started_at": START,
        "cost_usd_micros": 0,
        "charges_usd_micros": None,
        "quality": None,
        "transcript": None,
        "recording_url": None,
    }
    return empty | row | changes


ENDED = a_row(
    ended_at=START + 10.25,
    result="caller",
    reason="busy",
    detail="",
    cost_usd_micros=1_500_000,
    transcript=[{"who": "agent", "text": "Hello.", "at_s": 1.0, "heard": True}],
    recording_url="file:///recordings/call_1.flac",
)


def test_numbers_are_masked_unless_asked_for() -> None:
    """Two digits are visible; with `full_numbers` all of them."""
    masked = summary_view(a_row())
    full = summary_view(a_row(), full_numbers=True)
    assert (masked["to"], masked["from"]) == ("+*********01", "+*********02")
    assert (full["to"], full["from"]) == (CALLER, TRUNK)


def test_a_live_call() -> None:
    """Its state is its leg's, its transcript comes from its events, and it has no outcome."""
    events = [
        event_view(1, "leg", 0.1, {"state": "dialling"}),
        event_view(2, "leg", 0.9, {"state": "ringing"}),
        event_view(3, "speaking", 1.0, {"who": "agent", "text": "Hel"}),
        event_view(4, "line", 2.0, {"who": "agent", "text": "Hello.", "heard": True}),
    ]
    view = call_view(a_row(), events)
    assert (view["state"], view["outcome"], view["ended_at"]) == ("ringing", None, None)
    assert view["started_at"] == "2026-09-21T14:13:20.000Z"
    assert view["legs"] == [{"number": "+*********01", "state": "ringing", "dialling_s": 0.1, "ringing_s": 0.9}]
    assert view["transcript"] == [{"who": "agent", "text": "Hello.", "at_s": 2.0, "heard": True}]
    assert [event["seq"] for event in view["events"]] == [1, 2, 4]
    assert (view["timings_ms"], view["quality"], view["recording_url"]) == ({}, {}, None)


def test_an_ended_call() -> None:
    """Its outcome is there, its leg has ended, and its transcript is the record's."""
    view = call_view(ENDED, [event_view(1, "leg", 0.5, {"state": "ringing"})])
    assert (view["state"], view["legs"][0]["state"]) == ("ended", "ended")
    assert view["outcome"] == {"result": "caller", "reason": "busy", "detail": ""}
    assert view["transcript"] == ENDED["transcript"]
    assert view["ended_at"] == "2026-09-21T14:13:30.250Z"
    assert view["recording_url"] == ENDED["recording_url"]


def test_the_leg_of_an_inbound_call_has_the_callers_number() -> None:
    """The far end is `from` for a call that came in."""
    assert call_view(a_row(direction="inbound"), [])["legs"] == [{"number": "+*********02", "state": "starting"}]


def test_money_is_shown_twice() -> None:
    """As dollars for people and as micro-dollars for programs, and by kind."""
    by_kind = {"model": 1_400_000, "trunk": 100_000}
    assert cost_view(1_500_000, by_kind) == {"usd": 1.5, "usd_micros": 1_500_000, "by_kind_usd_micros": by_kind}


def test_an_events_own_fields_do_not_hide_its_number() -> None:
    """`seq`, `kind` and `at_s` are the event's, whatever a tool calls its fields."""
    assert event_view(7, "tool", 1.5, {"seq": 1, "kind": "x", "a": 1}) == {
        "seq": 7,
        "kind": "tool",
        "at_s": 1.5,
        "a": 1,
    }


def test_a_call_has_ended_only_with_its_outcome() -> None:
    """Between the phone that goes down and the record, the call is `ending`."""
    row = a_row()
    assert call_view(row, [event_view(1, "leg", 2.0, {"state": "ended"})])["state"] == "ending"
