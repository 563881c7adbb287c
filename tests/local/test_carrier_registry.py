"""Trunks and dispatch rules through LiveKit's own client: made, changed, listed, deleted, rejected."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from livekit import api
from livekit.protocol import sip as pb
from livekit.protocol.models import ListUpdate

from tests.fixtures.local import Exchange


async def _rejected(wish: Coroutine[Any, Any, object]) -> tuple[str, str]:
    with pytest.raises(api.ServerError) as failure:
        await wish
    return failure.value.code, failure.value.message


def _in(*numbers: str, **fields: Any) -> pb.CreateSIPInboundTrunkRequest:
    return pb.CreateSIPInboundTrunkRequest(trunk=pb.SIPInboundTrunkInfo(name="in", numbers=numbers, **fields))


def _out(**fields: Any) -> pb.CreateSIPOutboundTrunkRequest:
    return pb.CreateSIPOutboundTrunkRequest(trunk=pb.SIPOutboundTrunkInfo(name="out", **fields))


def _rule(**fields: Any) -> pb.SIPDispatchRuleInfo:
    individual = pb.SIPDispatchRuleIndividual(room_prefix="call-")
    return pb.SIPDispatchRuleInfo(rule=pb.SIPDispatchRule(dispatch_rule_individual=individual), **fields)


async def test_inbound_trunk_lives_its_life(exchange: Exchange) -> None:
    """Create, list by number, update fields, replace, delete."""
    sip = exchange.sip
    made = await sip.create_inbound_trunk(_in("+1 415 555 0100", metadata="a"))
    assert made.sip_trunk_id.startswith("ST_")
    listed = await sip.list_inbound_trunk(pb.ListSIPInboundTrunkRequest(numbers=["+14155550100"]))
    assert [trunk.sip_trunk_id for trunk in listed.items] == [made.sip_trunk_id]
    assert not (await sip.list_inbound_trunk(pb.ListSIPInboundTrunkRequest(numbers=["+14155550199"]))).items
    changed = await sip.update_inbound_trunk_fields(
        made.sip_trunk_id, numbers=ListUpdate(add=["+14155550101"], remove=["+1 415 555 0100"]), name="new"
    )
    assert (list(changed.numbers), changed.name, changed.metadata) == (["+14155550101"], "new", "a")
    whole = pb.SIPInboundTrunkInfo(numbers=["+14155550102"])
    replaced = await sip.update_inbound_trunk(made.sip_trunk_id, whole)
    assert (list(replaced.numbers), replaced.name, replaced.sip_trunk_id) == (["+14155550102"], "", made.sip_trunk_id)
    await sip.delete_trunk(pb.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))
    assert not (await sip.list_inbound_trunk(pb.ListSIPInboundTrunkRequest())).items


async def test_outbound_trunk_lives_its_life(exchange: Exchange) -> None:
    """Create, list by id, update, delete; a deleted trunk dials no more."""
    sip = exchange.sip
    made = await sip.create_outbound_trunk(_out(address="sip.example.com", numbers=["+14155550100"]))
    changed = await sip.update_outbound_trunk_fields(
        made.sip_trunk_id, address="sip2.example.com", numbers=["+14155550101"]
    )
    assert (changed.address, list(changed.numbers)) == ("sip2.example.com", ["+14155550101"])
    listed = await sip.list_outbound_trunk(pb.ListSIPOutboundTrunkRequest(trunk_ids=[made.sip_trunk_id]))
    assert [trunk.address for trunk in listed.items] == ["sip2.example.com"]
    await sip.delete_trunk(pb.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))
    wish = exchange.wish("+14155550204", "room", sip_trunk_id=made.sip_trunk_id)
    assert await _rejected(sip.create_sip_participant(wish)) == ("not_found", "requested sip trunk does not exist")


async def test_rule_lives_its_life(exchange: Exchange) -> None:
    """Create in both forms of the request, list by trunk, update, delete."""
    sip = exchange.sip
    made = await sip.create_dispatch_rule(pb.CreateSIPDispatchRuleRequest(dispatch_rule=_rule(trunk_ids=["ST_1"])))
    assert made.sip_dispatch_rule_id.startswith("SDR_")
    direct = pb.SIPDispatchRule(dispatch_rule_direct=pb.SIPDispatchRuleDirect(room_name="lobby"))
    old_form = pb.CreateSIPDispatchRuleRequest(rule=direct, trunk_ids=["ST_2"], name="old", attributes={"a": "1"})
    other = await sip.create_dispatch_rule(old_form)
    assert (other.rule.dispatch_rule_direct.room_name, list(other.trunk_ids), dict(other.attributes)) == (
        "lobby",
        ["ST_2"],
        {"a": "1"},
    )
    listed = await sip.list_dispatch_rule(pb.ListSIPDispatchRuleRequest(trunk_ids=["ST_1"]))
    assert [rule.sip_dispatch_rule_id for rule in listed.items] == [made.sip_dispatch_rule_id]
    changed = await sip.update_dispatch_rule_fields(made.sip_dispatch_rule_id, metadata="m", attributes={"b": "2"})
    assert (changed.metadata, dict(changed.attributes), list(changed.trunk_ids)) == ("m", {"b": "2"}, ["ST_1"])
    await sip.delete_dispatch_rule(pb.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made.sip_dispatch_rule_id))
    assert len((await sip.list_dispatch_rule(pb.ListSIPDispatchRuleRequest())).items) == 1


async def test_trunks_and_rules_that_clash_or_are_open_are_rejected(exchange: Exchange) -> None:
    """Nothing is stored of what is rejected."""
    sip = exchange.sip
    made = await sip.create_inbound_trunk(_in("+14155550100"))
    code, message = await _rejected(sip.create_inbound_trunk(_in()))
    assert (code, message.startswith("for security, one of the fields must be set")) == ("invalid_argument", True)
    code, message = await _rejected(sip.create_inbound_trunk(_in("+14155550100")))
    assert message.startswith(f'Conflicting inbound SIP Trunks: "<new>" and "{made.sip_trunk_id}"')
    await sip.create_inbound_trunk(_in("+14155550100", allowed_numbers=["+14155550999"]))
    request = pb.CreateSIPDispatchRuleRequest(dispatch_rule=_rule(trunk_ids=[made.sip_trunk_id]))
    await sip.create_dispatch_rule(request)
    code, message = await _rejected(sip.create_dispatch_rule(request))
    assert message.startswith(
        "Dispatch rule for the same trunk, inbound number, number, and PIN combination already exists"
    )
    empty = pb.CreateSIPDispatchRuleRequest(dispatch_rule=pb.SIPDispatchRuleInfo())
    assert (await _rejected(sip.create_dispatch_rule(empty)))[1] == "missing rule"
    assert len(exchange.carrier.registry.inbound_trunks) == 2
    assert len(exchange.carrier.registry.rules) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"address": "sip.example.com"}, "no trunk numbers specified"),
        ({"numbers": ["+1"]}, "no outbound address specified"),
        (
            {"numbers": ["+1"], "address": "sip:sip.example.com"},
            "trunk address should be a hostname or IP, not SIP URI",
        ),
        (
            {"numbers": ["+1"], "address": "h;transport=tcp"},
            "trunk address should not contain transport parameter",
        ),
        ({"numbers": ["+1"], "address": "h", "sip_trunk_id": "ST_1"}, "trunk id must not be set"),
    ],
)
async def test_outbound_trunk_needs_number_and_host(exchange: Exchange, fields: dict[str, Any], message: str) -> None:
    """Each mistake has the real service's words."""
    assert await _rejected(exchange.sip.create_outbound_trunk(_out(**fields))) == ("invalid_argument", message)


async def test_rejected_update_changes_nothing(exchange: Exchange) -> None:
    """An update that would break the trunk leaves it as it was; one of nothing is not found."""
    sip = exchange.sip
    open_trunk = sip.update_outbound_trunk_fields(exchange.trunk_id, address="sip:x")
    assert (await _rejected(open_trunk))[0] == "invalid_argument"
    listed = await sip.list_outbound_trunk(pb.ListSIPOutboundTrunkRequest())
    assert [trunk.address for trunk in listed.items] == ["sip.example.com"]
    missing = sip.update_inbound_trunk_fields("ST_none", name="x")
    assert await _rejected(missing) == ("not_found", "requested sip trunk does not exist")
    gone = sip.delete_dispatch_rule(pb.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id="SDR_none"))
    assert await _rejected(gone) == ("not_found", "requested sip dispatch rule does not exist")


def test_single_trunks_can_be_read(exchange: Exchange) -> None:
    """Get… gives the stored trunk, which the Python client has no method for."""
    registry = exchange.carrier.registry
    found = registry.get_outbound_trunk(pb.GetSIPOutboundTrunkRequest(sip_trunk_id=exchange.trunk_id))
    assert found.trunk.address == "sip.example.com"
    made = registry.create_inbound_trunk(_in("+14155550100"))
    assert registry.get_inbound_trunk(pb.GetSIPInboundTrunkRequest(sip_trunk_id=made.sip_trunk_id)).trunk == made
