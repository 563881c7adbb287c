"""The timeline's words: every kind of event that a call notes has some."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.records.timeline import Entry, entry, timeline, without_words
from cluster.records.views import event_view


def told(kind: str, **fields: Any) -> Entry:
    """The entry of one event."""
    return entry(event_view(1, kind, 2.5, fields))


@pytest.mark.parametrize(
    ("kind", "fields", "layer", "text"),
    [
        ("actor", {"slot": "slot-1", "node": "0123456789abcdef"}, "actor", "slot-1 has the call, on node 0123456789ab"),
        ("leg", {"state": "ringing"}, "sip", "phone ringing"),
        ("phase", {"state": "wrapping_up"}, "actor", "call wrapping up"),
        ("live", {"state": "ready", "connection": 2}, "live", "Live session ready, connection 2"),
        ("live", {"state": "gone"}, "live", "Live session gone"),
        ("live", {"state": "going-away", "time_left_s": 50.0}, "live", "the server will close the connection in 50 s"),
        (
            "live",
            {"state": "switched", "resumed": True, "planned": True, "gap_ms": 0},
            "live",
            "another connection serves, with its memory, as planned",
        ),
        (
            "live",
            {"state": "switched", "resumed": False, "planned": False, "gap_ms": 420},
            "live",
            "another connection serves, told the conversation so far, after 420 ms without one",
        ),
        ("latency", {"name": "turn", "ms": 612.0}, "speech", "reply after the caller's last sound"),
        ("latency", {"name": "another", "ms": 1.0}, "speech", "another"),
        ("interrupted", {"unheard_ms": 820}, "speech", "the caller cut in, 820 ms were not heard"),
        ("line", {"who": "agent", "text": "Hello.", "heard": True}, "speech", "agent: Hello."),
        ("line", {"who": "agent", "text": "Hello.", "heard": False}, "speech", "agent: Hello. …"),
        ("tool", {"name": "look_up", "state": "called"}, "tool", "look_up called"),
        (
            "tool",
            {"name": "look_up", "state": "answered", "ok": False, "ms": 3},
            "tool",
            "look_up answered, with an error",
        ),
        ("fault", {"what": "stall", "cure": "nudge"}, "live", "stall: nudge"),
        ("fault", {"what": "reply-too-long"}, "live", "reply-too-long"),
        ("quality", {"mos": 4.23, "loss": 0.012}, "line", "line quality 4.2 of 5, 1.2% lost"),
        ("idle", {"reminder": 1}, "speech", "nobody speaks, reminder 1"),
        ("opt-out", {"reason": "asked"}, "tool", "the caller wants no more calls"),
        ("callback", {"time": "at five"}, "tool", "the caller wants to be called back: at five"),
        ("ids", {"livekit": "SCL_1", "twilio": "CA1"}, "sip", "LiveKit's SIP call SCL_1, Twilio's call CA1"),
        ("end", {"result": "success", "reason": "agent-ended"}, "actor", "over: success/agent-ended"),
        ("ended", {}, "actor", "recorded"),
        ("leg", {}, "sip", "leg"),
        ("something-new", {}, "actor", "something-new"),
    ],
)
def test_each_kind_has_its_words(kind: str, fields: dict[str, Any], layer: str, text: str) -> None:
    """Who it happened to, and what."""
    found = told(kind, **fields)
    assert (found.layer, found.text, found.at_s) == (layer, text, 2.5)


def test_what_was_measured_and_what_is_trouble() -> None:
    """A time stands by itself; faults and lost sessions are trouble, a planned rotation is none."""
    assert told("latency", name="turn", ms=612.0).ms == 612.0
    assert told("leg", state="ringing").ms is None
    assert told("fault", what="live").trouble
    assert told("live", state="resuming").trouble
    assert not told("live", state="ready").trouble
    assert not told("phase", state="talking").trouble


def test_pieces_of_a_line_are_left_out() -> None:
    """The line comes whole."""
    events = [
        event_view(1, "speaking", 1.0, {"who": "agent", "text": "Hel"}),
        event_view(2, "line", 1.2, {"who": "agent", "text": "Hello.", "heard": True}),
    ]
    assert [one.text for one in timeline(events)] == ["agent: Hello."]
    assert "Hello" not in repr(timeline(events))


def test_what_was_said_can_be_left_out() -> None:
    """That somebody spoke, and how much, stays."""
    line = event_view(1, "line", 1.0, {"who": "caller", "text": "My card is 4111 1111", "heard": True})
    assert entry(without_words(line)).text == "caller: (5 words)"
    ringing = event_view(2, "leg", 1.0, {"state": "ringing"})
    assert without_words(ringing) == ringing
