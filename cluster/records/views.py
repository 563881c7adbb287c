"""How a call is shown: rows in, JSON out.

Rules of this file:
1. It is pure, and the only place where a row's personal data becomes part of an answer.
2. Numbers are masked unless `full_numbers` is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cluster.messages import Direction
from cluster.telephony.masking import mask

Json = dict[str, Any]
Row = Mapping[str, Any]

FEED_ONLY: Final = frozenset({"speaking"})
"""Kinds that only the live feed carries: pieces of a line that comes whole a moment later."""
QUEUED: Final = "queued"
"""It can't start yet."""
STARTING: Final = "starting"
ENDING: Final = "ending"
"""The phone is down and the record is being made: an ended call always has its outcome."""
ENDED: Final = "ended"


def event_view(seq: int, kind: str, at_s: float, fields: Mapping[str, Any]) -> Json:
    """One event: its own fields, and `seq` (grows within the call), `kind`, `at_s` (seconds since the call began)."""
    return {**fields, "seq": seq, "kind": kind, "at_s": at_s}


def summary_view(row: Row, *, full_numbers: bool = False) -> Json:
    """A call as a list shows it, from its row of the table `calls`."""
    shown = (lambda number: number) if full_numbers else mask
    ended = row["ended_at"] is not None
    return {
        "call_id": row["call_id"],
        "state": ENDED if ended else STARTING,
        "direction": row["direction"],
        "profile": row["profile"],
        "model": row["model"],
        "to": shown(row["to_number"]),
        "from": shown(row["from_number"]),
        "started_at": _utc(row["started_at"]),
        "ended_at": _utc(row["ended_at"]),
        "answered_s": row["answered_s"],
        "duration_s": row["duration_s"],
        "talk_s": row["talk_s"],
        "cost": cost_view(row["cost_usd_micros"], row["charges_usd_micros"] or {}),
        "outcome": {"result": row["result"], "reason": row["reason"], "detail": row["detail"]} if ended else None,
    }


def call_view(row: Row, events: Sequence[Json], *, full_numbers: bool = False) -> Json:
    """A call with its legs, transcript and timeline. `events` are `event_view`s in the order of their `seq`."""
    view = summary_view(row, full_numbers=full_numbers)
    leg = _leg(view, events)
    if row["ended_at"] is None:
        view["state"] = ENDING if leg["state"] == ENDED else leg["state"]
    transcript = row["transcript"]
    return view | {
        "legs": [leg],
        "transcript": _lines(events) if transcript is None else transcript,
        "usage": row["usage"],
        "timings_ms": row["timings_ms"] or {},
        "quality": row["quality"] or {},
        "recording_url": row["recording_url"] or None,
        "events": [event for event in events if event["kind"] not in FEED_ONLY],
    }


def cost_view(usd_micros: int, by_kind_usd_micros: Mapping[str, int]) -> Json:
    """Money for people and for programs, and what it is made of."""
    return {
        "usd": usd_micros / 1_000_000,
        "usd_micros": usd_micros,
        "by_kind_usd_micros": dict(by_kind_usd_micros),
    }


def _leg(view: Json, events: Iterable[Json]) -> Json:
    """The phone leg, whose course is in the `leg` events: `dialling_s`, `ringing_s`, `answered_s`, `ended_s`."""
    far_end = view["to"] if view["direction"] == Direction.OUTBOUND else view["from"]
    leg: Json = {"number": far_end, "state": view["state"]}
    for event in events:
        if event["kind"] == "leg":
            leg.setdefault(f"{event['state']}_s", event["at_s"])
            if view["state"] != ENDED:
                leg["state"] = event["state"]
    return leg


def _lines(events: Iterable[Json]) -> list[Json]:
    lines = (event for event in events if event["kind"] == "line")
    return [{key: line.get(key) for key in ("who", "text", "at_s", "heard")} for line in lines]


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
