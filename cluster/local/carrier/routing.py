"""Where a call goes: which room, under which name and with which ``sip.*`` attributes. Pure.

Inbound calls are matched to a trunk and a dispatch rule as livekit-server does it; rules guarded by a PIN are passed
over, since no phone here answers a voice that asks for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message
from livekit.protocol import sip as pb
from livekit.protocol.room import RoomConfiguration

from cluster.local.carrier.registry import normalized, pin_of

CALLER_HOST: Final = "carrier.example"
RINGING_S: Final = 180.0
"""livekit-sip's own limit for an inbound call that no trunk limits."""
_VISIBLE_DIGITS: Final = 4


class NoRoute(LookupError):
    """No trunk or dispatch rule takes the call; the message is livekit-server's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A phone's place in a room."""

    room: str
    identity: str = field(repr=False)  # pii
    name: str = field(repr=False)  # pii
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii
    room_config: RoomConfiguration | None = None
    ringing_s: float = RINGING_S
    max_call_s: float | None = None


def inbound(
    trunks: Sequence[pb.SIPInboundTrunkInfo],
    rules: Sequence[pb.SIPDispatchRuleInfo],
    *,
    from_: str,
    to: str,
    call_id: str,
    suffix: str,
) -> Place:
    """The place of a call from ``from_`` to ``to``; ``suffix`` makes its room's name unique. Raises NoRoute."""
    trunk = _trunk_for(trunks, from_, to)
    rule = _rule_for(rules, trunk, from_, to)
    caller, identity = from_, f"sip_{from_}"
    attributes = dict(rule.attributes)
    attributes |= {"sip.callID": call_id, "sip.trunkID": trunk.sip_trunk_id if trunk else ""}
    attributes |= {"sip.ruleID": rule.sip_dispatch_rule_id}
    if rule.hide_phone_number:
        identity = f"sip_{hashlib.sha256(from_.encode()).hexdigest()[:16]}"
        caller = from_[-_VISIBLE_DIGITS:]
    else:
        attributes |= {"sip.phoneNumber": from_, "sip.trunkPhoneNumber": to, "sip.hostname": CALLER_HOST}
    return Place(
        room=_room_of(rule, caller, to, suffix),
        identity=identity,
        name=f"Phone {caller}",
        metadata=rule.metadata,
        attributes=attributes,
        room_config=rule.room_config if rule.HasField("room_config") else None,
        ringing_s=seconds(trunk, "ringing_timeout") or RINGING_S,
        max_call_s=seconds(trunk, "max_call_duration"),
    )


def outbound(
    request: pb.CreateSIPParticipantRequest, trunk: pb.SIPOutboundTrunkInfo | None, call_id: str, ringing_s: float
) -> Place:
    """The place of a call that the API asked for; ``trunk`` is None where the request brings its own."""
    number = request.sip_number or (trunk.numbers[0] if trunk and trunk.numbers else "")
    attributes = dict(request.participant_attributes)
    attributes |= {"sip.callID": call_id, "sip.trunkID": trunk.sip_trunk_id if trunk else ""}
    if not request.hide_phone_number:
        host = trunk.address if trunk else request.trunk.hostname
        attributes |= {"sip.phoneNumber": request.sip_call_to, "sip.hostname": host, "sip.trunkPhoneNumber": number}
    return Place(
        room=request.room_name,
        identity=request.participant_identity or f"sip_{request.sip_call_to}",
        name=request.participant_name or f"Phone {request.sip_call_to}",
        metadata=request.participant_metadata,
        attributes=attributes,
        ringing_s=seconds(request, "ringing_timeout") or ringing_s,
        max_call_s=seconds(request, "max_call_duration"),
    )


def seconds(message: Message | None, name: str) -> float | None:
    """The duration field ``name`` in seconds, None where it is not set."""
    if message is None or not message.HasField(name):
        return None
    return float(getattr(message, name).ToMilliseconds()) / 1000


def _trunk_for(trunks: Sequence[pb.SIPInboundTrunkInfo], from_: str, to: str) -> pb.SIPInboundTrunkInfo | None:
    """The trunk that has the number called, else the one without numbers."""
    caller, called = normalized(from_), normalized(to)
    open_to_caller = [t for t in trunks if not t.allowed_numbers or caller in map(normalized, t.allowed_numbers)]
    own = [t for t in open_to_caller if called in map(normalized, t.numbers)]
    default = [t for t in open_to_caller if not t.numbers]
    return next(iter(own or default), None)


def _rule_for(
    rules: Sequence[pb.SIPDispatchRuleInfo], trunk: pb.SIPInboundTrunkInfo | None, from_: str, to: str
) -> pb.SIPDispatchRuleInfo:
    fitting = [
        rule
        for rule in rules
        if not pin_of(rule)
        and (not rule.inbound_numbers or from_ in rule.inbound_numbers)
        and (not rule.numbers or to in rule.numbers)
    ]
    own = [rule for rule in fitting if trunk is not None and trunk.sip_trunk_id in rule.trunk_ids]
    default = [rule for rule in fitting if not rule.trunk_ids]
    if not own and not default:
        what = "SIP Dispatch Rules" if trunk is not None else "SIP Trunk or Dispatch Rules"
        raise NoRoute(f"No {what} matched" if rules else "No SIP Dispatch Rules defined")
    return min(own or default, key=_priority)


def _priority(rule: pb.SIPDispatchRuleInfo) -> int:
    """Lower goes first: direct, individual, callee; a rule that names numbers before one that takes any."""
    kinds = ("dispatch_rule_direct", "dispatch_rule_individual", "dispatch_rule_callee")
    kind = kinds.index(rule.rule.WhichOneof("rule") or kinds[-1])
    return kind + 1000 * (not rule.inbound_numbers) + 1000 * (not rule.numbers)


def _room_of(rule: pb.SIPDispatchRuleInfo, caller: str, called: str, suffix: str) -> str:
    match rule.rule.WhichOneof("rule"):
        case "dispatch_rule_direct":
            return rule.rule.dispatch_rule_direct.room_name
        case "dispatch_rule_callee":
            callee = rule.rule.dispatch_rule_callee
            return _joined(callee.room_prefix, called, suffix if callee.randomize else "")
        case _:
            individual = rule.rule.dispatch_rule_individual
            return _joined(individual.room_prefix, caller, "" if individual.no_randomness else suffix)


def _joined(*parts: str) -> str:
    return "_".join(part for part in parts if part)
