"""Calls to write and read, as the actors would send them."""

from __future__ import annotations

from typing import Any

from cluster.messages import CallEvent, CallRecord, CallRequest, Direction, Line, Usage
from cluster.outcome import AGENT_ENDED, Outcome

CALLER = "+15551230001"
TRUNK = "+15559870002"
START = 1_790_000_000.0


def a_request(call_id: str = "call_1", tenant: str = "acme", **changes: Any) -> CallRequest:
    """An outbound request."""
    fields: dict[str, Any] = {
        "request_id": f"key of {call_id}",
        "call_id": call_id,
        "tenant": tenant,
        "direction": Direction.OUTBOUND,
        "profile": "reminder",
        "room": f"call-{call_id}",
        "identity": f"agent-{call_id}",
        "to": CALLER,
        "from_": TRUNK,
    }
    return CallRequest(**(fields | changes))


def a_record(
    call_id: str = "call_1", outcome: Outcome = AGENT_ENDED, tenant: str = "acme", **changes: Any
) -> CallRecord:
    """The record of that request's call."""
    fields: dict[str, Any] = {
        "call_id": call_id,
        "request_id": f"key of {call_id}",
        "tenant": tenant,
        "direction": Direction.OUTBOUND,
        "profile": "reminder",
        "model": "gemini-3.8-live",
        "room": f"call-{call_id}",
        "slot": "call-slot-a",
        "node": "node-a",
        "outcome": outcome,
        "started_at": START,
        "answered_s": 2.0,
        "duration_s": 12.5,
        "talk_s": 10.5,
        "cost_usd_micros": 12_345,
        "charges_usd_micros": {"model": 12_000, "trunk": 345},
        "usage": Usage(audio_in=100, audio_out=200),
        "timings_ms": {"join": 60.0},
        "quality": {"mos": 4.2},
        "to": CALLER,
        "from_": TRUNK,
        "transcript": (Line(who="agent", text="Hello.", at_s=2.5), Line(who="caller", text="Hi.", at_s=4.0)),
    }
    return CallRecord(**(fields | changes))


def an_event(kind: str, at_s: float = 1.0, call_id: str = "call_1", **fields: Any) -> CallEvent:
    """One event."""
    return CallEvent(call_id=call_id, kind=kind, at_s=at_s, fields=fields)
