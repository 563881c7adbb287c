"""Trunks and dispatch rules: made, changed and found as livekit-server does it.

Rule 1: nothing here reads a clock or waits.
Rule 2: what is rejected changes nothing.
Rule 3: conditions and texts of rejections are those of livekit-server 1.11 (its ``sip`` package).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar, cast

from google.protobuf.message import Message
from livekit.protocol import sip as pb
from livekit.protocol.models import ListUpdate

from cluster.local.carrier.twirp import TwirpError, invalid

_NUMBER: Final = re.compile(r"\+?[\d\- ()]+")
_UNDIALLED: Final = str.maketrans("", "", " -()")
_OPEN_TRUNK: Final = (
    "for security, one of the fields must be set: AuthUsername+AuthPassword, AllowedAddresses or Numbers"
)

M = TypeVar("M", bound=Message)


class _Update(Protocol):
    """What all update requests share: a whole new record, or a change of some fields."""

    @property
    def replace(self) -> Message: ...

    @property
    def update(self) -> Message: ...

    def WhichOneof(self, oneof_group: str) -> str | None: ...  # noqa: N802 - protobuf's own name


def normalized(number: str) -> str:
    """The number as trunks compare it: without spaces, dashes and brackets, with a plus."""
    if not _NUMBER.fullmatch(number):
        return number
    bare = number.translate(_UNDIALLED)
    return bare if bare.startswith("+") else f"+{bare}"


class Registry:
    """All trunks and dispatch rules of one carrier. ``new_id`` makes an id from a prefix."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._inbound: dict[str, pb.SIPInboundTrunkInfo] = {}
        self._outbound: dict[str, pb.SIPOutboundTrunkInfo] = {}
        self._rules: dict[str, pb.SIPDispatchRuleInfo] = {}

    @property
    def inbound_trunks(self) -> Sequence[pb.SIPInboundTrunkInfo]:
        """In the order of their making."""
        return tuple(self._inbound.values())

    @property
    def rules(self) -> Sequence[pb.SIPDispatchRuleInfo]:
        """In the order of their making."""
        return tuple(self._rules.values())

    def create_inbound_trunk(self, request: pb.CreateSIPInboundTrunkRequest) -> pb.SIPInboundTrunkInfo:
        """Raises TwirpError for an open trunk or one whose number another trunk has."""
        trunk = _new(
            request.trunk, present=request.HasField("trunk"), what="trunk", given_id=request.trunk.sip_trunk_id
        )
        self._check_inbound(trunk)
        trunk.sip_trunk_id = self._new_id("ST_")
        return self._inbound.setdefault(trunk.sip_trunk_id, trunk)

    def update_inbound_trunk(self, request: pb.UpdateSIPInboundTrunkRequest) -> pb.SIPInboundTrunkInfo:
        """Raises TwirpError as for a new trunk, or if there is none of this id."""
        trunk = _changed(_found(self._inbound, request.sip_trunk_id, "trunk"), request)
        trunk.sip_trunk_id = request.sip_trunk_id
        self._check_inbound(trunk)
        self._inbound[trunk.sip_trunk_id] = trunk
        return trunk

    def get_inbound_trunk(self, request: pb.GetSIPInboundTrunkRequest) -> pb.GetSIPInboundTrunkResponse:
        """Raises TwirpError if there is none of this id."""
        return pb.GetSIPInboundTrunkResponse(trunk=_found(self._inbound, request.sip_trunk_id, "trunk"))

    def list_inbound_trunks(self, request: pb.ListSIPInboundTrunkRequest) -> pb.ListSIPInboundTrunkResponse:
        """Those with one of the ids and one of the numbers asked for; a trunk without numbers fits any."""
        wanted = {normalized(number) for number in request.numbers}
        items = _with_ids(self._inbound, request.trunk_ids)
        return pb.ListSIPInboundTrunkResponse(
            items=[trunk for trunk in items if _overlap(wanted, map(normalized, trunk.numbers))]
        )

    def create_outbound_trunk(self, request: pb.CreateSIPOutboundTrunkRequest) -> pb.SIPOutboundTrunkInfo:
        """Raises TwirpError for a trunk without number or address, or with a URI for an address."""
        trunk = _new(
            request.trunk, present=request.HasField("trunk"), what="trunk", given_id=request.trunk.sip_trunk_id
        )
        _check_outbound(trunk)
        trunk.sip_trunk_id = self._new_id("ST_")
        return self._outbound.setdefault(trunk.sip_trunk_id, trunk)

    def update_outbound_trunk(self, request: pb.UpdateSIPOutboundTrunkRequest) -> pb.SIPOutboundTrunkInfo:
        """Raises TwirpError as for a new trunk, or if there is none of this id."""
        trunk = _changed(_found(self._outbound, request.sip_trunk_id, "trunk"), request)
        trunk.sip_trunk_id = request.sip_trunk_id
        _check_outbound(trunk)
        self._outbound[trunk.sip_trunk_id] = trunk
        return trunk

    def get_outbound_trunk(self, request: pb.GetSIPOutboundTrunkRequest) -> pb.GetSIPOutboundTrunkResponse:
        """Raises TwirpError if there is none of this id."""
        return pb.GetSIPOutboundTrunkResponse(trunk=_found(self._outbound, request.sip_trunk_id, "trunk"))

    def list_outbound_trunks(self, request: pb.ListSIPOutboundTrunkRequest) -> pb.ListSIPOutboundTrunkResponse:
        """Those with one of the ids and one of the numbers asked for."""
        items = _with_ids(self._outbound, request.trunk_ids)
        return pb.ListSIPOutboundTrunkResponse(
            items=[trunk for trunk in items if _overlap(set(request.numbers), trunk.numbers)]
        )

    def delete_trunk(self, request: pb.DeleteSIPTrunkRequest) -> pb.SIPTrunkInfo:
        """Raises TwirpError if there is none of this id."""
        if self._outbound.pop(request.sip_trunk_id, None) is None:
            _found(self._inbound, request.sip_trunk_id, "trunk")
            del self._inbound[request.sip_trunk_id]
        return pb.SIPTrunkInfo(sip_trunk_id=request.sip_trunk_id)

    def create_rule(self, request: pb.CreateSIPDispatchRuleRequest) -> pb.SIPDispatchRuleInfo:
        """Raises TwirpError for a rule without a kind, or if another has the same trunk, numbers and PIN."""
        if request.HasField("dispatch_rule"):
            given = request.dispatch_rule
            rule = _new(given, present=True, what="rule", given_id=given.sip_dispatch_rule_id)
        else:
            rule = _rule_of(request)
        self._check_rule(rule)
        rule.sip_dispatch_rule_id = self._new_id("SDR_")
        return self._rules.setdefault(rule.sip_dispatch_rule_id, rule)

    def update_rule(self, request: pb.UpdateSIPDispatchRuleRequest) -> pb.SIPDispatchRuleInfo:
        """Raises TwirpError as for a new rule, or if there is none of this id."""
        rule = _changed(_found(self._rules, request.sip_dispatch_rule_id, "dispatch rule"), request)
        rule.sip_dispatch_rule_id = request.sip_dispatch_rule_id
        self._check_rule(rule)
        self._rules[rule.sip_dispatch_rule_id] = rule
        return rule

    def list_rules(self, request: pb.ListSIPDispatchRuleRequest) -> pb.ListSIPDispatchRuleResponse:
        """Those with one of the ids and one of the trunks asked for; a rule without trunks fits any."""
        items = _with_ids(self._rules, request.dispatch_rule_ids)
        return pb.ListSIPDispatchRuleResponse(
            items=[rule for rule in items if _overlap(set(request.trunk_ids), rule.trunk_ids)]
        )

    def delete_rule(self, request: pb.DeleteSIPDispatchRuleRequest) -> pb.SIPDispatchRuleInfo:
        """Raises TwirpError if there is none of this id."""
        rule = _found(self._rules, request.sip_dispatch_rule_id, "dispatch rule")
        return self._rules.pop(rule.sip_dispatch_rule_id)

    def _check_inbound(self, trunk: pb.SIPInboundTrunkInfo) -> None:
        if not (trunk.auth_username or trunk.auth_password or trunk.allowed_addresses or trunk.numbers):
            raise invalid(_OPEN_TRUNK)
        for other in self._inbound.values():
            numbers = set(trunk.numbers or [""]) & set(other.numbers or [""])
            callers = set(map(normalized, trunk.allowed_numbers)) or {""}
            shared = callers & (set(map(normalized, other.allowed_numbers)) or {""})
            if numbers and shared and other.sip_trunk_id != trunk.sip_trunk_id:
                raise invalid(
                    f'Conflicting inbound SIP Trunks: "{trunk.sip_trunk_id or "<new>"}" and "{other.sip_trunk_id}", '
                    f"using the same number(s) {list(trunk.numbers) or '<any>'} without AllowedNumbers set"
                )

    def _check_rule(self, rule: pb.SIPDispatchRuleInfo) -> None:
        if not rule.HasField("rule") or rule.rule.WhichOneof("rule") is None:
            raise invalid("missing rule")
        for other in self._rules.values():
            if other.sip_dispatch_rule_id != rule.sip_dispatch_rule_id and _keys(rule) & _keys(other):
                raise invalid(
                    "Dispatch rule for the same trunk, inbound number, number, and PIN combination already exists in "
                    f'dispatch rule "{other.sip_dispatch_rule_id}" "{other.name or "<blank name>"}"'
                )


def pin_of(rule: pb.SIPDispatchRuleInfo) -> str:
    """The PIN that guards this rule's rooms, or ""."""
    kind = rule.rule.WhichOneof("rule")
    return str(getattr(rule.rule, kind).pin) if kind else ""


def _keys(rule: pb.SIPDispatchRuleInfo) -> set[tuple[str, str, str, str]]:
    return {
        (pin_of(rule), trunk, normalized(caller) if caller else "", normalized(number) if number else "")
        for trunk in rule.trunk_ids or [""]
        for caller in rule.inbound_numbers or [""]
        for number in rule.numbers or [""]
    }


def _check_outbound(trunk: pb.SIPOutboundTrunkInfo) -> None:
    if not trunk.numbers:
        raise invalid("no trunk numbers specified")
    if not trunk.address:
        raise invalid("no outbound address specified")
    check_hostname(trunk.address, "trunk address")
    check_hostname(trunk.from_host, "from_host")


def check_hostname(value: str, field: str) -> None:
    """Raises TwirpError where ``value`` is a SIP URI instead of a host."""
    if "transport=" in value:
        raise invalid(f"{field} should not contain transport parameter")
    if set("@;") & set(value) or value.startswith(("sip:", "sips:")):
        raise invalid(f"{field} should be a hostname or IP, not SIP URI")


def _new(given: M, *, present: bool, what: str, given_id: str) -> M:
    if not present:
        raise invalid(f"missing {what}")
    if given_id:
        raise invalid(f"{what} id must not be set")
    return _copy(given)


def _copy(message: M) -> M:
    duplicate = type(message)()
    duplicate.CopyFrom(message)
    return duplicate


def _found(store: dict[str, M], identifier: str, what: str) -> M:
    if not identifier:
        raise invalid(f"{what} ID is required")
    if identifier not in store:
        raise TwirpError("not_found", f"requested sip {what} does not exist")
    return store[identifier]


def _with_ids(store: dict[str, M], identifiers: Sequence[str]) -> Iterable[M]:
    return [item for identifier, item in store.items() if not identifiers or identifier in identifiers]


def _overlap(wanted: set[str], present: Iterable[str]) -> bool:
    present = set(present)
    return not wanted or not present or bool(wanted & present)


def _changed(current: M, request: _Update) -> M:
    """A changed copy of ``current``, so that a rejection afterwards changes nothing."""
    match request.WhichOneof("action"):
        case "replace":
            return cast("M", _copy(request.replace))
        case "update":
            changed = _copy(current)
            for field, value in request.update.ListFields():
                _apply(changed, field.name, value)
            return changed
        case _:
            raise invalid("missing or unsupported update action")


def _apply(message: Message, name: str, value: object) -> None:
    target = getattr(message, name)
    if isinstance(value, ListUpdate):
        kept = list(value.set) or [item for item in target if item not in value.remove]
        kept.extend(item for item in value.add if item not in kept)
        del target[:]
        target.extend(kept)
    elif isinstance(value, Message):
        target.CopyFrom(value)
    elif hasattr(target, "update"):
        target.update(value)
    elif hasattr(target, "extend"):
        target.extend(value)
    else:
        setattr(message, name, value)


def _rule_of(request: pb.CreateSIPDispatchRuleRequest) -> pb.SIPDispatchRuleInfo:
    """The rule in the request's own fields, as clients older than ``dispatch_rule`` send it."""
    rule = pb.SIPDispatchRuleInfo()
    for field, value in request.ListFields():
        _apply(rule, field.name, value)
    return rule
