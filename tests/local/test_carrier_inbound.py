"""Phones that call in: answered by a published track, refused in time, and heard and understood both ways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from livekit import api, rtc
from livekit.protocol import sip as pb
from livekit.protocol.agent_dispatch import RoomAgentDispatch

from cluster.local.carrier import Carrier, Ending, Livekit, NoRoute
from cluster.local.livekit_server import LivekitServer
from cluster.local.recognizer import Recognizer
from cluster.local.scenario import Agent as ScriptedAgent
from cluster.local.scenario import BargeIn, HangUp, Press, Say, Scenario, Wait
from tests.fixtures.local import TRUNK_NUMBER, AgentIn, Exchange

CALLER = "+14155550123"
GREETING = "How can I help you today?"
ANSWER = "We open at eight in the morning."
LONG = "Our birthday cakes come in chocolate, vanilla and strawberry, and every one of them is baked fresh."


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the phone hears."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it comes over the network
            await asyncio.sleep(0.01)


async def test_rings_until_the_agent_publishes(exchange: Exchange, agent_in: AgentIn) -> None:
    """An agent that only joins does not answer; its published track does."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    agent = await agent_in(call.place.room, publish=False)
    await agent.until(lambda a: a.room.remote_participants and a.phone.track_publications)
    assert agent.statuses == ["ringing"]
    assert not call.answered.done()
    await agent.publish()
    await call.answered
    await agent.until(lambda a: a.statuses == ["ringing", "active"])


async def test_room_and_participant_come_from_the_rule(exchange: Exchange, agent_in: AgentIn) -> None:
    """The room is named by prefix and caller, and the rule gives metadata, attributes and the agent dispatch."""
    dispatch = RoomAgentDispatch(agent_name="gemini-sip-agent", metadata="profile=receptionist")
    await exchange.take_calls(agents=[dispatch], empty_timeout=30)
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    agent = await agent_in(call.place.room)
    await call.answered
    assert call.place.room.startswith(f"call-_{CALLER}_")
    phone = agent.phone
    assert (phone.kind, phone.identity, phone.name, phone.metadata) == (
        rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
        f"sip_{CALLER}",
        f"Phone {CALLER}",
        "from the rule",
    )
    (trunk,), (rule,) = exchange.carrier.registry.inbound_trunks, exchange.carrier.registry.rules
    expected = {
        "campaign": "spring",
        "sip.callID": call.call_id,
        "sip.phoneNumber": CALLER,
        "sip.trunkPhoneNumber": TRUNK_NUMBER,
        "sip.trunkID": trunk.sip_trunk_id,
        "sip.ruleID": rule.sip_dispatch_rule_id,
    }
    assert expected.items() <= dict(phone.attributes).items()
    (made,) = await exchange.rooms.agent_dispatch.list_dispatch(call.place.room)
    assert (made.agent_name, made.metadata) == (dispatch.agent_name, dispatch.metadata)
    (room,) = (await exchange.rooms.room.list_rooms(api.ListRoomsRequest(names=[call.place.room]))).rooms
    assert room.empty_timeout == 30


async def test_unanswered_call_is_rejected_in_time(exchange: Exchange) -> None:
    """With nobody audible the trunk's ringing timeout ends in a final 486, not in endless ringing."""
    await exchange.take_calls(ringing_ms=400)
    log = await exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=()).ended
    assert (log.sip_status, log.ending, log.answered_s) == (486, Ending.UNANSWERED, None)


async def test_number_without_a_rule_is_refused(exchange: Exchange) -> None:
    """Nothing takes the call, and the log says so."""
    with pytest.raises(NoRoute, match="No SIP Dispatch Rules defined"):
        exchange.carrier.call_in(CALLER, "+14155550199")
    assert exchange.carrier.calls[-1].ending is Ending.NO_ROUTE


async def test_caller_that_gives_up_while_ringing_leaves(exchange: Exchange, agent_in: AgentIn) -> None:
    """A CANCEL looks like a hang-up to those in the room."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    agent = await agent_in(call.place.room, publish=False)
    await agent.until(lambda a: a.statuses == ["ringing"])
    call.hang_up()
    log = await call.ended
    await agent.until(lambda a: a.left_for)
    assert agent.left_for == [rtc.DisconnectReason.CLIENT_INITIATED]
    assert (log.sip_status, log.ending) == (487, Ending.PHONE_HUNG_UP)


async def test_keys_go_both_ways(exchange: Exchange, agent_in: AgentIn) -> None:
    """The agent hears the phone's keys and the phone the agent's."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    agent = await agent_in(call.place.room)
    await call.answered
    await call.press("42#")
    await agent.room.local_participant.publish_dtmf(code=10, digit="*")
    await agent.until(lambda a: a.digits == "42#")
    await until(lambda: call.phone.digits_heard)
    call.hang_up()
    log = await call.ended
    assert (log.digits_heard, log.digits_pressed) == ("*", "42#")


async def test_conversation_is_heard_both_ways(exchange: Exchange, agent_in: AgentIn) -> None:
    """Each side hears the other's real speech; the phone waits for the end of a turn and times what follows."""
    await exchange.take_calls()
    steps = (Wait(wait="turn_end"), Say(say="When do you open?"), Wait(wait="turn_end"), HangUp(hang_up=True))
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=steps)
    await call.joined
    agent = await agent_in(call.place.room)
    await call.answered
    began = time.monotonic()
    greeting_s = await agent.say(GREETING)
    await agent.until(lambda a: a.loud_at)
    assert agent.loud_at[0] - began > greeting_s
    await asyncio.sleep(1.5)
    last_heard = agent.loud_at[-1]
    await agent.say(ANSWER)
    answered = time.monotonic()
    log = await call.ended
    heard = [Recognizer([GREETING, ANSWER]).transcribe(turn.pcm16) for turn in call.phone.ears.turns]
    assert heard == [GREETING, ANSWER]
    (response_ms,) = log.response_ms
    assert response_ms == pytest.approx((answered - last_heard) * 1000 + 100, abs=1_500)
    assert log.script_done
    assert log.loud_ms > 2000


async def test_barge_in_is_timed_to_the_last_sound(exchange: Exchange, agent_in: AgentIn) -> None:
    """The phone speaks over the agent when it was told to, and knows when the agent fell silent."""
    await exchange.take_calls()
    steps = (BargeIn(barge_in="Chocolate, please.", after_ms=1500), HangUp(hang_up=True))
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=steps)
    await call.joined
    agent = await agent_in(call.place.room)
    await call.answered
    await agent.say(LONG)
    await agent.until(lambda a: a.loud_at)
    agent.hush()
    log = await call.ended
    first = call.phone.ears.turns[0]
    assert log.lines[0].at_s - (log.first_sound_s or 0) == pytest.approx(1.5, abs=0.06)
    (silence_ms,) = log.barge_in_ms
    assert 20 <= silence_ms <= 400
    assert LONG.startswith(Recognizer([LONG]).transcribe(first.pcm16).rstrip(",."))


async def test_steady_tone_has_no_gap_and_no_early_start(exchange: Exchange, agent_in: AgentIn) -> None:
    """What is said before the answer is not heard, what is said after it is heard whole and without a hole."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    agent = await agent_in(call.place.room)
    await call.answered
    seconds = await agent.tone(2.0)
    await until(lambda: call.phone.ears.turns)
    call.hang_up()
    log = await call.ended
    (turn,) = call.phone.ears.turns
    assert turn.ended - turn.began == pytest.approx(seconds, abs=0.3)
    assert log.loud_ms == pytest.approx(2000, abs=200)


async def test_phone_hears_the_agent_that_takes_over(exchange: Exchange, agent_in: AgentIn) -> None:
    """When another process joins as the same agent, the phone hears its track and not the old one."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
    await call.joined
    first = await agent_in(call.place.room)
    await call.answered
    await first.tone(0.3)
    await until(lambda: call.phone.ears.turns)
    second = await agent_in(call.place.room)
    await second.until(lambda a: a.room.remote_participants)
    await second.say(GREETING)
    await until(lambda: len(call.phone.ears.turns) > 1)
    call.hang_up()
    await call.ended
    heard = [Recognizer([GREETING]).transcribe(turn.pcm16) for turn in call.phone.ears.turns]
    assert heard[-1] == GREETING


async def test_carrier_writes_down_what_its_phones_hear(livekit: LivekitServer, agent_in: AgentIn) -> None:
    """With transcription the record of a call holds both sides' words in order."""
    scenario = Scenario(agents=(ScriptedAgent(name="bakery", greeting=GREETING, exchanges=()),))
    link = Livekit(livekit.url, livekit.api_key, livekit.api_secret)
    async with Carrier(link, scenario=scenario, transcribe=True) as carrier:
        individual = pb.SIPDispatchRuleIndividual(room_prefix="call-")
        rule = pb.SIPDispatchRuleInfo(rule=pb.SIPDispatchRule(dispatch_rule_individual=individual))
        carrier.registry.create_rule(pb.CreateSIPDispatchRuleRequest(dispatch_rule=rule))
        steps = (Wait(wait="turn_end"), Say(say="Goodbye."), HangUp(hang_up=True))
        call = carrier.call_in(CALLER, TRUNK_NUMBER, steps=steps)
        await call.joined
        agent = await agent_in(call.place.room)
        await call.answered
        await agent.say(GREETING)
        log = await call.ended
    assert [(line.who, line.text) for line in log.lines] == [("agent", GREETING), ("caller", "Goodbye.")]


async def test_stopped_carrier_leaves_nobody_behind(livekit: LivekitServer, exchange: Exchange) -> None:
    """Calls in progress end with it, and their phones leave their rooms."""
    async with Carrier(Livekit(livekit.url, livekit.api_key, livekit.api_secret)) as carrier:
        individual = pb.SIPDispatchRuleIndividual(room_prefix="call-")
        rule = pb.SIPDispatchRuleInfo(rule=pb.SIPDispatchRule(dispatch_rule_individual=individual))
        carrier.registry.create_rule(pb.CreateSIPDispatchRuleRequest(dispatch_rule=rule))
        call = carrier.call_in(CALLER, TRUNK_NUMBER, steps=())
        await call.joined
    assert [log.ending for log in carrier.calls] == [Ending.CARRIER_STOPPED]
    room = api.ListParticipantsRequest(room=call.place.room)
    async with asyncio.timeout(60):
        # The server takes note of a leaving on its own time, and of one that came to it too early by the silence alone.
        while (await exchange.rooms.room.list_participants(room)).participants:  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)


async def test_phone_without_media_is_answered_too(exchange: Exchange, agent_in: AgentIn) -> None:
    """A load test's phone publishes a silent track, is answered by the agent's, and plays keys and pauses only."""
    await exchange.take_calls()
    call = exchange.carrier.call_in(CALLER, TRUNK_NUMBER, media=False, steps=(Press(press="1"), HangUp(hang_up=True)))
    await call.joined
    agent = await agent_in(call.place.room)
    await agent.until(lambda a: a.digits == "1")
    log = await call.ended
    assert (log.heard_ms, log.ending) == (0, Ending.PHONE_HUNG_UP)
    with pytest.raises(ValueError, match="without media"):
        exchange.carrier.call_in(CALLER, TRUNK_NUMBER, media=False, steps=(Say(say="Hello"),))
