"""Wishes for calls, from bytes to `CallRequest`: the HTTP body, and what LiveKit tells about a room.

Rules of this file:
1. It is pure: ids take their time and their randomness as arguments.
2. What means the same call gets the same `request_id`: a client's `Idempotency-Key`, or the room an inbound call is in,
   by whatever way it is heard of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cluster.messages import CallRequest, Direction
from cluster.outcome import Outcome, Result
from cluster.telephony.hours import checked_hours
from cluster.telephony.numbers import parse_e164

DEFAULT_TENANT: Final = "default"
"""Whom inbound calls belong to."""
PROFILE_ATTRIBUTE: Final = "ringmaster.profile"
FROM_ATTRIBUTE: Final = "sip.phoneNumber"
TO_ATTRIBUTE: Final = "sip.trunkPhoneNumber"
TRUNK_ATTRIBUTE: Final = "sip.trunkID"
BAD_METADATA: Final = Outcome(Result.OURS, "bad-dispatch-metadata")
UNKNOWN_PROFILE: Final = Outcome(Result.OURS, "unknown-profile")

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, in lower case: sorts as its value does
_ID_CHARS: Final = 26
_ENTROPY_BYTES: Final = 10

Number = Annotated[str, AfterValidator(parse_e164)]
Hours = Annotated[str, AfterValidator(checked_hours)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
VariableText = Annotated[str, Field(max_length=4000)]


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character, which PostgreSQL takes in no text")
    return text


Storable = Annotated[str, AfterValidator(_storable)]


class CallBody(BaseModel):
    """What `POST /v1/calls` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    to: Number = Field(description="Number to dial, E.164", examples=["+15551230001"])  # pii
    from_: Number | None = Field(None, alias="from", description="Number to show, one of the trunk's, E.164")  # pii
    profile: str = Field(min_length=1, max_length=64, description="Name of the agent's profile")
    context: dict[VariableName, VariableText] = Field(
        default_factory=dict, max_length=50, description="Fills the {variables} of the profile"
    )  # pii
    priority: int = Field(0, ge=0, le=9, description="Higher is served first")
    campaign: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Id of the campaign that the call belongs to"
    )
    calling_hours: Hours | None = Field(
        None, description="When the callee may be dialled, in the callee's time", examples=["Mo-Fr 09:00-20:00"]
    )
    max_duration_s: float | None = Field(None, gt=0, le=14_400, description="Tightens the profile's limit, in seconds")
    max_cost_usd: Decimal | None = Field(
        None, gt=0, le=1000, decimal_places=6, description="Tightens the profile's limit, in US dollars"
    )

    def sha256(self) -> str:
        """The same for two bodies that ask for the same."""
        canonical = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


class BadDispatch(Exception):
    """A dispatch that cannot become a call; the message says what to mend and holds no personal data."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An inbound call as LiveKit tells of it: a room that wants our agent."""

    room: str = field(repr=False)  # pii: SIP rules put the caller's number into it
    room_sid: str
    metadata: str = field(default="", repr=False)  # pii: the dispatch's, not the room's
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii


def new_call_id(now_s: float, entropy: bytes) -> str:
    """`call_` and 26 characters: 48 bits of UTC milliseconds, then `entropy` (10 bytes). Later ids sort higher."""
    value = int(now_s * 1000) << 80 | int.from_bytes(entropy[:_ENTROPY_BYTES].rjust(_ENTROPY_BYTES, b"\0"))
    return _call_id(value)


def call_id_of_room(room_sid: str) -> str:
    """The id of the call in an inbound room, the same for whoever asks."""
    return _call_id(int.from_bytes(hashlib.sha256(room_sid.encode()).digest()[:16]))


def call_id_of_request(tenant: str, request_id: str) -> str:
    """The id of the call that a request asks for, where whoever repeats it must find the same one."""
    return _call_id(int.from_bytes(hashlib.sha256(f"{tenant}/{request_id}".encode()).digest()[:16]))


def outbound_request(
    body: CallBody, *, call_id: str, tenant: str, idempotency_key: str | None, room_prefix: str
) -> CallRequest:
    """The request behind an HTTP body. Without an idempotency key it is like no other."""
    return CallRequest(
        request_id=idempotency_key or call_id,
        call_id=call_id,
        tenant=tenant,
        direction=Direction.OUTBOUND,
        profile=body.profile,
        room=room_prefix + call_id,
        identity=agent_identity(call_id),
        to=body.to,
        from_=body.from_ or "",
        context=body.context,
        priority=body.priority,
        campaign=body.campaign or "",
        calling_hours=body.calling_hours or "",
        max_duration_s=body.max_duration_s,
        max_cost_usd_micros=None if body.max_cost_usd is None else int(body.max_cost_usd * 1_000_000),
        body_sha256=body.sha256(),
    )


def inbound_request(arrival: Arrival, profile: str, context: Mapping[str, str]) -> CallRequest:
    """The request behind a room that wants our agent; the same room is the same request."""
    call_id = call_id_of_room(arrival.room_sid)
    return CallRequest(
        request_id=f"room:{arrival.room_sid}",
        call_id=call_id,
        tenant=DEFAULT_TENANT,
        direction=Direction.INBOUND,
        profile=profile,
        room=arrival.room,
        identity=agent_identity(call_id),
        to=arrival.attributes.get(TO_ATTRIBUTE, ""),
        from_=arrival.attributes.get(FROM_ATTRIBUTE, ""),
        context=context,
        trunk=arrival.attributes.get(TRUNK_ATTRIBUTE, ""),
    )


def wish_of(arrival: Arrival, default_profile: str) -> tuple[str, dict[str, str]]:
    """The profile and the context that an inbound call asks for.

    The profile is the one that the dispatch's metadata names (`{"profile": ..., "context": {...}}`), else the attribute
    `ringmaster.profile`, else `default_profile`. Metadata that is no JSON object is somebody's own and not read.
    Raises `BadDispatch`.
    """
    wish = _metadata(arrival.metadata)
    profile = wish.get("profile", arrival.attributes.get(PROFILE_ATTRIBUTE) or default_profile)
    if not isinstance(profile, str):
        raise BadDispatch(BAD_METADATA, "the dispatch metadata's `profile` is not a text; name a profile")
    context = wish.get("context", {})
    if not isinstance(context, dict) or not all(isinstance(text, str | int | float) for text in context.values()):
        raise BadDispatch(BAD_METADATA, "the dispatch metadata's `context` is not an object of texts; mend it")
    return profile, {name: str(text) for name, text in context.items()}


def agent_identity(call_id: str) -> str:
    """The identity under which a call's agent is in its room, whichever process it is."""
    return f"agent-{call_id}"


def _call_id(value: int) -> str:
    return "call_" + "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_ID_CHARS)))


def _metadata(text: str) -> dict[str, Any]:
    try:
        wish = json.loads(text)
    except ValueError:
        return {}
    return wish if isinstance(wish, dict) else {}
