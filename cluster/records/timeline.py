"""A call's events as a timeline for people: when, in which layer, what, and how long it took.

It is pure. The words for each kind of event stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.records.views import ENDED, FEED_ONLY

Fields = Mapping[str, Any]
LATENCIES: Final[Mapping[str, str]] = {
    "first_audio": "first sound after the answer",
    "turn": "reply after the caller's last sound",
    "barge_in": "silence after an interruption",
}
QUALITIES: Final[Mapping[str, tuple[str, str]]] = {
    "mos": ("line quality", "of 5"),
    "mos_min": ("at its worst", "of 5"),
    "loss": ("share of packets lost", ""),
    "jitter_ms": ("jitter", "ms"),
    "rtt_ms": ("round trip", "ms"),
}
"""What a record's `quality` holds, in words and with its unit."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline."""

    at_s: float
    """Seconds since the call began."""
    layer: str
    """`sip`, `actor`, `live`, `tool`, `speech` or `line`: who it happened to."""
    text: str = field(repr=False)  # pii
    ms: float | None = None
    """How long it took, where that was measured."""
    trouble: bool = False


def timeline(events: Iterable[Fields]) -> list[Entry]:
    """The entries of a call's `event_view`s, in their order. Pieces of a line are left out: the line comes whole."""
    return [entry(event) for event in events if event["kind"] not in FEED_ONLY]


def entry(event: Fields) -> Entry:
    """The entry of one event; one that has no words of its own, or lacks what they need, shows its name."""
    layer, tell = _KINDS.get(event["kind"], ("actor", _by_name))
    try:
        text = tell(event)
    except KeyError:  # of another release
        text = _by_name(event)
    return Entry(
        at_s=event["at_s"],
        layer=layer,
        text=text,
        ms=event.get("ms"),
        trouble=event["kind"] == "fault" or (layer == "live" and event.get("state") in {"resuming", "gone"}),
    )


def without_words(event: Fields) -> Fields:
    """The event with the number of words in place of what was said."""
    return {**event, "text": f"({len(event['text'].split())} words)"} if event.get("text") else event


def _by_name(event: Fields) -> str:
    return str(event["kind"])


def _actor(event: Fields) -> str:
    return f"{event['slot']} has the call, on node {event['node'][:12]}"


def _live(event: Fields) -> str:
    if event["state"] == "switched":
        how = "with its memory" if event["resumed"] else "told the conversation so far"
        why = "as planned" if event["planned"] else f"after {event['gap_ms']} ms without one"
        return f"another connection serves, {how}, {why}"
    if event["state"] == "going-away":
        return f"the server will close the connection in {event['time_left_s']:g} s"
    connection = f", connection {event['connection']}" if "connection" in event else ""
    return f"Live session {event['state']}{connection}"


def _fault(event: Fields) -> str:
    detail = event.get("detail") or event.get("cure") or event.get("name")
    return f"{event['what']}: {detail}" if detail else str(event["what"])


def _tool(event: Fields) -> str:
    failed = ", with an error" if event.get("ok") is False else ""
    return f"{event['name']} {event['state']}{failed}"


def _line(event: Fields) -> str:
    return f"{event['who']}: {event['text']}{'' if event['heard'] else ' …'}"


def _quality(event: Fields) -> str:
    return f"line quality {event['mos']:.1f} of 5, {event['loss']:.1%} lost"


def _ids(event: Fields) -> str:
    known = ((name, event.get(who)) for who, name in _WHO.items())
    return ", ".join(f"{name} {value}" for name, value in known if value)


_WHO: Final = {"livekit": "LiveKit's SIP call", "sip": "Call-ID", "twilio": "Twilio's call"}


def _over(event: Fields) -> str:
    return f"over: {event['result']}/{event['reason']}"


_KINDS: Final[Mapping[str, tuple[str, Callable[[Fields], str]]]] = {
    "actor": ("actor", _actor),
    "leg": ("sip", lambda event: f"phone {event['state']}"),
    "phase": ("actor", lambda event: f"call {event['state'].replace('_', ' ')}"),
    "live": ("live", _live),
    "latency": ("speech", lambda event: LATENCIES.get(event["name"], event["name"])),
    "interrupted": ("speech", lambda event: f"the caller cut in, {event['unheard_ms']} ms were not heard"),
    "line": ("speech", _line),
    "tool": ("tool", _tool),
    "fault": ("live", _fault),
    "quality": ("line", _quality),
    "idle": ("speech", lambda event: f"nobody speaks, reminder {event['reminder']}"),
    "opt-out": ("tool", lambda _: "the caller wants no more calls"),
    "callback": ("tool", lambda event: f"the caller wants to be called back: {event['time']}"),
    "ids": ("sip", _ids),
    "end": ("actor", _over),
    ENDED: ("actor", lambda _: "recorded"),
}
