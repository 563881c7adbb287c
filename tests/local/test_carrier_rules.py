"""The carrier's deciding parts: the leg's table, the numbers, the limit per second, and where calls go."""

from __future__ import annotations

import pytest
from livekit.protocol import sip as pb

from cluster.local.carrier.leg import TRANSITIONS, Event, IllegalEvent, Status, after
from cluster.local.carrier.numbers import NUMBERS, ORDINARY, CallsPerSecond, Manner, callee_of
from cluster.local.carrier.phone import steps_of
from cluster.local.carrier.routing import NoRoute, inbound
from cluster.local.carrier.twirp import HTTP_STATUS, refused
from cluster.local.scenario import HangUp, Say

CALLER = "+14155550123"


@pytest.mark.parametrize(("status", "event"), [(s, e) for s in Status for e in Event if e not in TRANSITIONS[s]])
def test_event_that_the_table_lacks_is_illegal(status: Status, event: Event) -> None:
    """A leg never skips or repeats a step."""
    with pytest.raises(IllegalEvent, match=status):
        after(status, event)


def test_every_leg_can_end() -> None:
    """Whatever a leg does, it can be hung up, and that is its last state."""
    ends = {status: after(status, Event.ENDED) for status in Status if status is not Status.HANGUP}
    assert set(ends.values()) == {Status.HANGUP}
    assert not TRANSITIONS[Status.HANGUP]


@pytest.mark.parametrize("number", ["+14155550486", "tel:+14155550486", "<sip:+14155550486@pbx.example>", "0486"])
def test_last_four_digits_decide(number: str) -> None:
    """However the number is written."""
    assert callee_of(number) is NUMBERS["0486"]


def test_other_numbers_answer() -> None:
    """What is not in the table is an ordinary phone."""
    assert callee_of("+14155559999") is ORDINARY


@pytest.mark.parametrize("callee", [c for c in NUMBERS.values() if c.status >= 400])
def test_every_refusal_has_a_code_that_http_knows(callee: object) -> None:
    """No row of the table leads to an error that can't be sent."""
    status = callee.status  # type: ignore[attr-defined]
    assert refused("INVITE", status, "x").code in HTTP_STATUS


def test_calls_per_second_slide() -> None:
    """A second after the first call there is room for another; without a limit always."""
    recent = CallsPerSecond()
    assert [recent.allows("a", 2, now) for now in (0.0, 0.1, 0.2, 1.05, 1.06)] == [True, True, False, True, False]
    assert recent.allows("b", 2, 0.2)
    assert all(recent.allows("c", None, 0.0) for _ in range(5))


def test_manners_have_their_steps() -> None:
    """Voicemail speaks and hangs up, a script is played as it is, a silent phone does nothing."""
    script = (Say(say="Hello"),)
    assert steps_of(Manner.SCRIPT, script) == script
    assert steps_of(Manner.SILENT, script) == ()
    assert isinstance(steps_of(Manner.VOICEMAIL, script)[-1], HangUp)


def _trunk(identifier: str, *numbers: str, callers: tuple[str, ...] = ()) -> pb.SIPInboundTrunkInfo:
    return pb.SIPInboundTrunkInfo(sip_trunk_id=identifier, numbers=numbers, allowed_numbers=callers)


def _rule(
    identifier: str, kind: str = "individual", trunks: tuple[str, ...] = (), **fields: object
) -> pb.SIPDispatchRuleInfo:
    rules = {
        "individual": pb.SIPDispatchRule(dispatch_rule_individual=pb.SIPDispatchRuleIndividual(room_prefix="call-")),
        "direct": pb.SIPDispatchRule(dispatch_rule_direct=pb.SIPDispatchRuleDirect(room_name="lobby")),
        "callee": pb.SIPDispatchRule(dispatch_rule_callee=pb.SIPDispatchRuleCallee(room_prefix="to", randomize=True)),
        "pin": pb.SIPDispatchRule(dispatch_rule_direct=pb.SIPDispatchRuleDirect(room_name="vault", pin="1")),
    }
    info = pb.SIPDispatchRuleInfo(sip_dispatch_rule_id=identifier, rule=rules[kind], trunk_ids=trunks)
    info.MergeFrom(pb.SIPDispatchRuleInfo(**fields))  # type: ignore[arg-type]
    return info


@pytest.mark.parametrize(
    ("rules", "room"),
    [
        ([_rule("a")], f"call-_{CALLER}_x"),
        ([_rule("a"), _rule("b", "direct")], "lobby"),
        ([_rule("a", "callee")], "to_+14155550100_x"),
        ([_rule("a", "direct"), _rule("b", "callee", ("T1",))], "to_+14155550100_x"),
        ([_rule("a", "direct"), _rule("b", numbers=["+14155550100"])], f"call-_{CALLER}_x"),
        ([_rule("a", "pin"), _rule("b")], f"call-_{CALLER}_x"),
    ],
    ids=["individual", "direct-first", "callee", "trunk-first", "number-first", "pin-passed-over"],
)
def test_best_rule_names_the_room(rules: list[pb.SIPDispatchRuleInfo], room: str) -> None:
    """Rules of the trunk go before open ones, those that name a number before those that take any."""
    place = inbound([_trunk("T1", "+1 415 555-0100")], rules, from_=CALLER, to="+14155550100", call_id="C", suffix="x")
    assert place.room == room
    assert place.attributes["sip.trunkID"] == "T1"


@pytest.mark.parametrize(
    ("trunks", "rules"),
    [
        ([_trunk("T1", "+14155550100")], []),
        ([_trunk("T1", "+14155550199")], [_rule("a", trunks=("T1",))]),
        ([_trunk("T1", "+14155550100", callers=("+14155550000",))], [_rule("a", trunks=("T1",))]),
        ([], [_rule("a", "pin")]),
    ],
    ids=["no-rules", "other-number", "caller-not-allowed", "only-with-pin"],
)
def test_call_that_nothing_takes_has_no_route(
    trunks: list[pb.SIPInboundTrunkInfo], rules: list[pb.SIPDispatchRuleInfo]
) -> None:
    """It is refused, and the error names no number."""
    with pytest.raises(NoRoute) as failure:
        inbound(trunks, rules, from_=CALLER, to="+14155550100", call_id="C", suffix="x")
    assert "+1" not in str(failure.value)


def test_hidden_number_is_hashed() -> None:
    """A rule that hides numbers leaves the last four digits in the name and none in the attributes."""
    rule = _rule("a", hide_phone_number=True)
    place = inbound([], [rule], from_=CALLER, to="+14155550100", call_id="C", suffix="x")
    assert (place.name, place.room) == ("Phone 0123", "call-_0123_x")
    assert CALLER not in place.identity
    assert "sip.phoneNumber" not in place.attributes
