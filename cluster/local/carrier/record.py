"""The carrier's own record of each call, by which tests and benches judge what a phone went through."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Direction(StrEnum):
    """Who placed the call, seen from the trunk."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Ending(StrEnum):
    """Why a call ended."""

    PHONE_HUNG_UP = "phone-hung-up"
    GAVE_UP = "phone-gave-up"
    """The phone hung up because it heard nothing for too long."""
    REMOVED = "participant-removed"
    ROOM_DELETED = "room-deleted"
    LINE_LOST = "line-lost"
    """The room connection broke for another reason."""
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    NO_ROUTE = "no-route"
    TRANSFERRED = "transferred"
    MAX_DURATION = "max-call-duration"
    ROOM_UNREACHABLE = "room-unreachable"
    CARRIER_STOPPED = "carrier-stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One line of a phone's conversation: what it said, or what it understood of the agent."""

    who: str
    """`caller` or `agent`."""
    text: str = field(repr=False)  # pii
    at_s: float
    """Seconds since the call began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLog:
    """One call. Times `*_s` are seconds since it began; None is "never"."""

    call_id: str
    """LiveKit's SIP call id, `SCL_…`."""
    direction: Direction
    number: str = field(repr=False)  # pii
    """The phone's number."""
    trunk_number: str = field(repr=False)  # pii
    room: str = field(repr=False)  # pii: an inbound call's room is named by its caller
    status: str = "dialing"
    """As in `sip.callStatus`: dialing, ringing, automation, active, hangup."""
    started_at: float
    """UTC seconds."""
    joined_s: float | None = None
    ringing_s: float | None = None
    answered_s: float | None = None
    ended_s: float | None = None
    sip_status: int = 0
    """Final SIP status of the INVITE; 0 while there is none, and where none ever came."""
    ending: Ending | None = None
    digits_heard: str = field(default="", repr=False)  # pii
    digits_pressed: str = field(default="", repr=False)  # pii
    heard_ms: int = 0
    loud_ms: int = 0
    longest_silence_ms: int = 0
    """The longest stretch after the answer in which neither side made a sound."""
    subscribed_s: float | None = None
    """When the agent's track was subscribed."""
    first_sound_s: float | None = None
    """When the agent was first heard."""
    response_ms: tuple[float, ...] = ()
    """From the end of each of the phone's utterances to the first sound after it."""
    barge_in_ms: tuple[float, ...] = ()
    """From the first sound of each barge-in to the end of the agent's last sound."""
    script_done: bool = False
    """Whether the script was played to its end."""
    lines: tuple[Utterance, ...] = field(default=(), repr=False)  # pii

    def as_json(self) -> dict[str, Any]:
        """As the HTTP API serves it."""
        return asdict(self)
