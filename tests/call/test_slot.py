"""A call process on real parts: livekit-server, the real google-genai client, the local Live endpoint."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from livekit import api

from cluster import outcome as o
from cluster.call.phone import DIAL_TRIES
from cluster.call.room import RoomLink
from cluster.call.slot import CallSlot
from cluster.local.carrier.record import Ending
from cluster.local.live import LiveEndpoint
from cluster.local.livekit_server import LivekitServer
from cluster.messages import Assignment, CallEvent, CallRequest, Checkpoint, Direction, Line, Renewal, Verdict
from cluster.outcome import Outcome
from cluster.settings import Settings, load_settings
from tests.fixtures import web_caller
from tests.fixtures.local import TRUNK_NUMBER, Exchange, room_name
from tests.fixtures.prices import TARIFF
from tests.fixtures.web_caller import WebCaller
from tests.fixtures.web_service import Service
from tests.local.live_line import SCENARIO, scenario, scripted

PROFILE = {"instructions": "You are a baker.", "limits": {"idle_reminder_s": 30, "silence_s": 60}}
SECRET = "lamb-" * 3
"""Joined, so that it stands in no source line that Python keeps."""


@dataclass
class Desk:
    """Where a slot reports to, in this process."""

    events: list[CallEvent] = field(default_factory=list)
    renewals: list[Renewal] = field(default_factory=list)
    verdict: Verdict | None = Verdict.CONTINUE
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """Keep the heartbeat, give the answer that the test wants."""
        self.renewals.append(renewal)
        self.changed.set()
        return self.verdict

    async def report(self, events: list[CallEvent]) -> bool:
        """Keep the events."""
        self.events += events
        self.changed.set()
        return True

    async def until(self, what: Callable[[CallEvent], bool]) -> CallEvent:
        """Wait for an event."""
        async with asyncio.timeout(30):
            while True:
                for event in self.events:
                    if what(event):
                        return event
                self.changed.clear()
                await self.changed.wait()

    async def until_resumable(self) -> Checkpoint:
        """Wait for a checkpoint from which the conversation can be resumed."""
        async with asyncio.timeout(30):
            while not self.renewals[-1].checkpoint.resumption_handle:
                self.changed.clear()
                await self.changed.wait()
        return self.renewals[-1].checkpoint

    async def until_line(self, who: str) -> CallEvent:
        """Wait for a whole line of the transcript."""
        return await self.until(lambda e: e.kind == "line" and e.fields["who"] == who)


@dataclass
class Rig:
    """One slot and what it works with."""

    slot: CallSlot
    desk: Desk
    livekit: LivekitServer
    settings: Settings
    callers: list[WebCaller] = field(default_factory=list)

    def assignment(self, room: str, **changes: Any) -> Assignment:
        """An inbound call for the profile `baker`."""
        wish = {
            "request_id": "r", "call_id": f"call_{room}", "tenant": "t", "direction": Direction.INBOUND,
            "profile": "baker", "room": room, "identity": f"agent-{room}",
        }  # fmt: skip
        request = CallRequest(**wish | {k: v for k, v in changes.items() if k in CallRequest.__dataclass_fields__})
        terms = Assignment(
            request=request, lease_id="lease", fencing_token=1, max_duration_s=60, max_cost_usd_micros=1_000_000,
            reserved_usd_micros=1_000_000, renew_every_s=0.2, lease_ttl_s=10,
            tariff=TARIFF,
        )  # fmt: skip
        return replace(terms, **{k: v for k, v in changes.items() if k in Assignment.__dataclass_fields__})

    async def caller(self, room: str) -> WebCaller:
        """Somebody joins the room with a microphone."""
        caller = WebCaller()
        self.callers.append(caller)
        await caller.join(self.livekit, room)
        return caller

    async def greeted(self, **changes: Any) -> WebCaller:
        """A call in which the agent has just said its greeting; returns its caller."""
        room = room_name()
        caller = await self.caller(room)
        await self.slot.start(self.assignment(room, **changes))
        await self.desk.until_line("agent")
        return caller

    async def rooms(self) -> set[str]:
        """The rooms that exist."""
        async with api.LiveKitAPI(self.livekit.url, self.livekit.api_key, self.livekit.api_secret) as client:
            return {r.name for r in (await client.room.list_rooms(api.ListRoomsRequest())).rooms}


Rigs = Callable[..., Any]


@pytest.fixture
async def rig(livekit: LivekitServer, tmp_path: Path) -> AsyncIterator[Rigs]:
    """Makes slots for an endpoint and a profile, and releases them when the test is over."""
    made: list[Rig] = []

    async def make(
        endpoint: LiveEndpoint | None,
        exchange: Exchange | None = None,
        also: str = "baker",
        setup_s: str = "20",
        **profile: Any,
    ) -> Rig:
        for name in ("baker", also):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(PROFILE | profile), encoding="utf-8")
        environ = {
            "LIVEKIT_URL": livekit.url,
            "LIVEKIT_API_KEY": livekit.api_key,
            "LIVEKIT_API_SECRET": livekit.api_secret,
            "GEMINI_API_KEY": "key",
            "GOOGLE_GEMINI_BASE_URL": endpoint.url if endpoint else "https://127.0.0.1:9",
            "RINGMASTER_PROFILES_DIR": str(tmp_path),
            "RINGMASTER_LIVE_SETUP_TIMEOUT_S": setup_s,
        }
        if exchange:
            environ |= {"RINGMASTER_SIP_URL": exchange.url, "RINGMASTER_OUTBOUND_TRUNK_ID": exchange.trunk_id}
        if endpoint:
            environ["SSL_CERT_FILE"] = str(endpoint.ca_file)
        settings = load_settings(environ)
        desk = Desk()
        made.append(Rig(CallSlot("slot-1", "node-1", settings, desk), desk, livekit, settings))
        return made[-1]

    yield make
    for each in made:
        await each.slot.release()
        for caller in each.callers:
            await caller.leave()


async def test_a_conversation_from_the_greeting_to_the_goodbye(rig: Rigs) -> None:
    """The caller hears the greeting, is understood and answered, and the model ends the call; the room is gone."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        assert not (await at.slot.prepare("baker")).error
        assert at.slot.status().state == "parked"
        room = room_name()
        caller = await at.caller(room)
        await at.slot.start(at.assignment(room))
        await at.desk.until_line("agent")
        await caller.say("What time do you open?")
        await at.desk.until(lambda e: e.fields.get("text") == "We open at eight.")
        await caller.say("Goodbye.")
        record = await at.slot.wait()
        assert record.outcome == o.AGENT_ENDED
        assert record.from_ == web_caller.NUMBER
        assert [(line.who, line.text) for line in record.transcript] == [
            ("agent", "Hello."),
            ("caller", "What time do you open?"),
            ("agent", "We open at eight."),
            ("caller", "Goodbye."),
            ("agent", "Bye."),
        ]
        assert record.timings_ms.keys() >= {"joined", "published", "audible", "first_audio_p50", "turn_p50"}
        assert caller.loud_ms > 1_000
        await caller.until_put_out()
        assert room not in await at.rooms()
        (meter,) = endpoint.meter.values()
        usage = record.usage
        assert (usage.audio_in, usage.audio_out) == (meter.prompt_audio, meter.response_audio)
        assert at.desk.renewals[-1].cost_usd_micros <= record.cost_usd_micros


async def test_barge_in_silences_the_agent_and_the_line_says_what_was_heard(rig: Rigs) -> None:
    """The reply stops, and the transcript keeps only the part that was heard."""
    async with LiveEndpoint(scripted("Tell me a long story.", "Goodbye.")) as endpoint:
        at = await rig(endpoint)
        caller = await at.greeted()
        await caller.say("Tell me a long story.")
        await at.desk.until(lambda e: e.kind == "latency" and e.fields["name"] == "turn")
        await caller.say("Goodbye.")
        await at.desk.until(lambda e: e.kind == "interrupted")
        record = await at.slot.wait()
        (cut,) = [line.text for line in record.transcript if not line.heard]
        assert "Once upon a time there was a baker who baked bread every day.".startswith(cut)
        assert "barge_in_p50" in record.timings_ms


async def the_endpoint_is_dead(rig: Rigs) -> None:
    """Nobody is left in silence: the recorded sentence is played, then the line is closed."""
    at = await rig(None)
    prepared = await at.slot.prepare("baker")
    assert "refused" in prepared.error.lower()
    assert (prepared.fault, prepared.blames_provider) == ("unreachable", True)
    room = room_name()
    caller = await at.caller(room)
    await at.slot.start(at.assignment(room))
    record = await at.slot.wait()
    assert record.outcome == o.LIVE_UNREACHABLE
    await caller.until_put_out()
    assert caller.loud_ms > 3_000


async def no_session_comes_back(rig: Rigs) -> None:
    """The session dies, and every new one is refused: a filler, then the truth."""
    faults = [
        {"at": "turn", "turn": 2, "do": "abort"},
        {"at": "setup", "do": "close", "sessions": list(range(2, 60))},
    ]
    async with LiveEndpoint(scenario(faults=faults)) as endpoint:
        at = await rig(endpoint)
        await at.slot.prepare("baker")
        caller = await at.greeted()
        await caller.say("What time do you open?")
        record = await at.slot.wait()
        assert record.outcome == o.LIVE_LOST
        assert "could not be kept: provider-down" in record.detail
        await caller.until_put_out()
        assert caller.loud_ms > 3_000


async def the_model_has_no_voice(rig: Rigs) -> None:
    """No turn brings audio: step by step everything is tried, then the caller hears the sentence."""
    faults = [{"at": "turn", "turn": n, "do": "silent"} for n in range(2, 9)]
    faults.append({"at": "turn", "turn": 1, "do": "silent", "sessions": list(range(2, 9))})
    async with LiveEndpoint(scenario(faults=faults)) as endpoint:
        at = await rig(endpoint)
        caller = await at.greeted()
        await caller.say("What time do you open?")
        assert (await at.slot.wait()).outcome == o.LIVE_LOST
        cures = [e.fields["cure"] for e in at.desk.events if e.kind == "fault" and e.fields["what"] == "stall"]
        assert cures == ["nudge", "resume", "fresh", "fresh", "give-up"]
        await caller.until_put_out()
        assert caller.loud_ms > 3_000


async def test_a_caller_hears_a_sentence_when_there_is_no_model_to_talk_to(rig: Rigs) -> None:
    """Whatever is the matter with it. Each waits for what may come yet, so they are held at the same time."""
    async with asyncio.TaskGroup() as calls:
        for hold in (the_endpoint_is_dead, no_session_comes_back, the_model_has_no_voice):
            calls.create_task(hold(rig))


@pytest.mark.parametrize(
    "fault", [{"do": "close", "code": 1011, "reason": "Internal error encountered."}, {"do": "abort"}]
)
async def test_a_session_that_dies_is_resumed_and_the_question_answered(rig: Rigs, fault: dict[str, Any]) -> None:
    """In the middle of the conversation, by close or by a lost connection: the caller need not ask again."""
    async with LiveEndpoint(scenario(faults=[{"at": "turn", "turn": 2, "sessions": [1]} | fault])) as endpoint:
        at = await rig(endpoint)
        await at.slot.prepare("baker")
        caller = await at.greeted()
        await caller.say("What time do you open?")
        await at.desk.until(lambda e: e.kind == "line" and e.fields["text"] == "We open at eight.")
        assert [session.resumed for session in endpoint.sessions] == [False, True]
        at.slot.hang_up(o.HUNG_UP_BY_API)
        assert (await at.slot.wait()).outcome == o.HUNG_UP_BY_API


async def test_a_setup_that_hangs_is_given_up_in_time(rig: Rigs) -> None:
    """The SDK would wait for ever; the slot waits for as long as the settings say."""
    async with LiveEndpoint(scenario(faults=[{"at": "setup", "do": "hang"}])) as endpoint:
        at = await rig(endpoint, setup_s="3")
        assert "within 3 s" in (await at.slot.prepare("baker")).error


async def test_a_session_that_carried_a_caller_serves_no_other(rig: Rigs) -> None:
    """After a call the process parks with a new session; one that heard nobody stays."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        for _ in range(2):
            await at.slot.prepare("baker")
            await at.slot.prepare("baker")
            await at.greeted()
            at.desk.events.clear()
            at.slot.hang_up(o.HUNG_UP_BY_API)
            await at.slot.wait()
        assert len(endpoint.sessions) == 2


@pytest.mark.parametrize(("number", "outcome"), [("+14155550486", o.BUSY), ("+14155550404", o.NOT_FOUND)])
async def test_a_session_that_heard_nobody_waits_for_another_call(
    rig: Rigs, exchange: Exchange, number: str, outcome: Outcome
) -> None:
    """The phone was not answered, so the parked session is as good as new."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint, exchange=exchange)
        await at.slot.prepare("baker")
        await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to=number))
        assert (await at.slot.wait()).outcome == outcome
        assert not (await at.slot.prepare("baker")).error
        assert len(endpoint.sessions) == 1


async def test_a_session_that_waited_for_another_profile_serves_no_call_of_this_one(
    rig: Rigs, exchange: Exchange
) -> None:
    """Nobody talks to an agent with another one's instructions."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint, exchange=exchange, also="butcher")
        await at.slot.prepare("butcher")
        await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to="+14155550486"))
        assert (await at.slot.wait()).outcome == o.BUSY
        assert at.slot.status().profile == "butcher"
        assert not (await at.slot.prepare("baker")).error
        assert len(endpoint.sessions) == 3


async def test_a_session_that_was_resumed_serves_no_other_call(rig: Rigs) -> None:
    """It knows what a caller has said, though nothing was sent to it: the phone had gone when the call was taken."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        await at.greeted()
        left = await at.desk.until_resumable()
        at.slot.hang_up(o.HUNG_UP_BY_API)
        await at.slot.wait()
        told = Line(who="agent", text="Hello.", at_s=1.0)
        left = replace(left, transcript=(told,), unknown=0, agent_is_cut=False, caller_waits=False)
        await at.slot.start(at.assignment(room_name(), takeover=left))
        assert (await at.slot.wait()).outcome == o.CALLER_HUNG_UP
        assert endpoint.sessions[-1].resumed
        assert at.slot.status().profile == ""


async def test_a_connection_that_is_cut_before_it_is_one_is_tried_again(rig: Rigs) -> None:
    """In the middle of the HTTP upgrade: the caller is greeted a moment later."""
    async with LiveEndpoint(scenario(faults=[{"at": "upgrade", "do": "abort", "sessions": [1]}])) as endpoint:
        at = await rig(endpoint)
        caller = await at.greeted()
        await caller.until_agent_speaks()
        at.slot.hang_up(o.HUNG_UP_BY_API)
        assert (await at.slot.wait()).outcome == o.HUNG_UP_BY_API
        assert len(endpoint.sessions) == 2


async def test_nothing_of_a_caller_is_left_when_the_next_one_comes(rig: Rigs) -> None:
    """Numbers, words and variables of one call are nowhere in the process once it is prepared for another."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        room = room_name()
        caller = await at.caller(room)
        await at.slot.start(at.assignment(room, from_=f"+1{SECRET}", context={"name": SECRET}))
        await at.desk.until_line("agent")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        await at.slot.wait()
        await caller.leave()
        at.desk.events.clear()
        at.desk.renewals.clear()
        await at.slot.prepare("baker")
        assert _strings_with(SECRET) == []


def _strings_with(secret: str) -> list[str]:
    """Every string that holds the secret and is reachable from a living object, but for this module's own."""
    own = {id(SECRET), id(globals())}
    found = []
    for holder in gc.get_objects():
        if id(holder) in own or not isinstance(holder, dict | list | tuple | set):
            continue
        values = list(holder.values()) if isinstance(holder, dict) else list(holder)
        found += [v for v in values if isinstance(v, str) and secret in v and v is not SECRET]
    return found


async def test_the_one_who_is_put_out_falls_silent_and_leaves_the_room_alone(rig: Rigs) -> None:
    """A second process takes the identity over: the first ends as `lease-lost`, and the caller stays on the line."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        room = room_name()
        await at.caller(room)
        await at.slot.start(at.assignment(room))
        await at.desk.until_line("agent")
        other = RoomLink(lambda _: None, lambda: None)
        await other.join(at.settings.livekit, room, f"agent-{room}")
        assert (await at.slot.wait()).outcome == o.LEASE_LOST
        assert room in await at.rooms()
        await other.leave()


async def test_a_void_lease_ends_the_call_the_same_way(rig: Rigs) -> None:
    """The answer to a heartbeat says that somebody else holds the call."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        room = room_name()
        await at.caller(room)
        at.desk.verdict = Verdict.VOID
        await at.slot.start(at.assignment(room))
        assert (await at.slot.wait()).outcome == o.LEASE_LOST


async def test_out_of_money_the_agent_says_goodbye(rig: Rigs) -> None:
    """`wind-down` as the answer to a heartbeat: a goodbye, then the end."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        await at.greeted()
        at.desk.verdict = Verdict.WIND_DOWN
        record = await at.slot.wait()
        assert record.outcome == o.MAX_COST
        assert len(record.transcript) == 2


async def test_nobody_answering_the_heartbeat_does_not_end_a_call(rig: Rigs) -> None:
    """`BudgetPool` is away: the call goes on."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        at.desk.verdict = None
        caller = await at.greeted(lease_ttl_s=60)
        await caller.say("What time do you open?")
        await at.desk.until(lambda e: e.fields.get("text") == "We open at eight.")
        await caller.leave()
        assert (await at.slot.wait()).outcome == o.CALLER_HUNG_UP


async def test_a_recording_has_the_caller_left_and_the_agent_right(rig: Rigs, tmp_path: Path) -> None:
    """Stereo FLAC at 16 kHz, both sides in it, as long as the talk."""
    async with LiveEndpoint(scenario()) as endpoint:
        folder = tmp_path / "recordings"
        at = await rig(endpoint, audio={"recording": {"enabled": True, "url": str(folder)}})
        caller = await at.greeted()
        await caller.say("What time do you open?")
        await at.desk.until(lambda e: e.fields.get("text") == "We open at eight.")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        record = await at.slot.wait()
        samples, hz = soundfile.read(record.recording_url)
        assert hz == 16_000
        assert abs(len(samples) / hz - record.talk_s) < 1.0
        assert all(abs(samples[:, side]).max() > 0.05 for side in (0, 1))


async def test_calls_that_end_in_mid_sentence_do_not_crash_the_process(rig: Rigs) -> None:
    """The native track is taken back before its peer connection goes; otherwise one call of three crashed."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        for _ in range(8):
            room = room_name()
            caller = await at.caller(room)
            await at.slot.start(at.assignment(room))
            await caller.until_agent_speaks()
            at.slot.hang_up(o.HUNG_UP_BY_API)
            await at.slot.wait()
            await caller.leave()
            await at.slot.prepare("baker")
        assert at.slot.status().calls_served == 8


async def test_a_dial_that_reached_nobody_is_repeated_and_one_that_rang_is_not(rig: Rigs, exchange: Exchange) -> None:
    """A trunk over its limit sent no call on, so it is tried again; a busy phone has rung and is left alone."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint, exchange=exchange)
        for number, tries in (("+14155550503", DIAL_TRIES), ("+14155550486", 1)):
            await at.slot.prepare("baker")
            await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to=number))
            await at.slot.wait()
            assert sum(log.number == number for log in exchange.carrier.calls) == tries


async def test_whoever_answers_the_second_dial_is_talked_to(
    rig: Rigs, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trunk was over its limit at first: the phone of that try left the room, and nobody had hung up."""
    allowed = iter((False, True))
    monkeypatch.setattr(exchange.carrier._recent, "allows", lambda *_: next(allowed))
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint, exchange=exchange)
        await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to="+14155550204"))
        await at.desk.until_line("agent")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        assert (await at.slot.wait()).outcome == o.HUNG_UP_BY_API
        assert next(log.ending for log in exchange.carrier.calls) is Ending.REFUSED


BOOK = {
    "name": "book",
    "description": "Book a table.",
    "parameters": {"type": "object", "properties": {"party_of": {"type": "integer"}}, "required": ["party_of"]},
    "allow_private": True,
}


@pytest.mark.parametrize(
    ("model", "blocking"),
    [
        ("gemini-3.8-live", False),
        ("gemini-3.8-live", True),
        ("gemini-2.5-flash-native-audio-preview-12-2025", True),
    ],
)
async def test_the_model_calls_a_web_service_and_speaks_about_its_answer(
    rig: Rigs, service: Service, *, model: str, blocking: bool
) -> None:
    """From the words of the caller to a request, and from its result to the agent's voice.

    The caller's line is open all the time, which the last model takes for an offence while it waits for a tool.
    """
    tool = BOOK | {"url": f"http://127.0.0.1:{service.port}/tables", "blocking": blocking}
    async with LiveEndpoint(scripted("Book a table.", "Goodbye.")) as endpoint:
        at = await rig(endpoint, model=model, tools=["end_call", tool])
        caller = await at.greeted()
        await caller.say("Book a table.")
        await at.desk.until(lambda e: e.kind == "line" and e.fields["text"] == "It is booked.")
        await caller.say("Goodbye.")
        assert (await at.slot.wait()).outcome == o.AGENT_ENDED
        assert [json.loads(body) for _, body in service.asked] == [{"party_of": 2}]


@pytest.mark.parametrize(("digits", "outcome"), [("0183", o.TRANSFERRED), ("0486", o.HUNG_UP_BY_API)])
async def test_a_phone_is_transferred_or_stays_with_the_agent(
    rig: Rigs, exchange: Exchange, digits: str, outcome: Outcome
) -> None:
    """The other side answers after six seconds, or is busy and the model is told."""
    wish = {"contains": "nothing was heard", "call": {"tool": "transfer_call", "args": {"to": "sales"}}}
    agents = [SCENARIO["agents"][0] | {"prompts": [wish | {"after_tool": "Nobody is there."}]}]
    limits = {"idle_reminder_s": 0.5, "silence_s": 60}
    async with LiveEndpoint(scenario(agents=agents)) as endpoint:
        transfer = {"sales": f"tel:+1415555{digits}"}
        at = await rig(endpoint, exchange=exchange, tools=["transfer_call"], transfer=transfer, limits=limits)
        await at.slot.prepare("baker")
        await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to="+14155550204"))
        if outcome != o.TRANSFERRED:
            await at.desk.until(lambda e: e.kind == "line" and e.fields["text"] == "Nobody is there.")
            at.slot.hang_up(outcome)
        assert (await at.slot.wait()).outcome == outcome
        (log,) = exchange.carrier.calls
        assert (log.ending is Ending.TRANSFERRED) == (outcome == o.TRANSFERRED)


async def test_the_model_presses_keys_that_the_other_side_hears(rig: Rigs, exchange: Exchange) -> None:
    """As tones of the telephone, in order."""
    wish = {"contains": "nothing was heard", "call": {"tool": "send_dtmf", "args": {"digits": "1w2#"}}}
    agents = [SCENARIO["agents"][0] | {"prompts": [wish]}]
    limits = {"idle_reminder_s": 0.5, "silence_s": 60}
    async with LiveEndpoint(scenario(agents=agents)) as endpoint:
        at = await rig(endpoint, exchange=exchange, tools=["send_dtmf"], limits=limits)
        await at.slot.start(at.assignment(room_name(), direction=Direction.OUTBOUND, to="+14155550204"))
        await at.desk.until(lambda e: e.kind == "tool" and e.fields["state"] == "answered")
        async with asyncio.timeout(20):
            while len(exchange.carrier.calls[0].digits_heard) < 3:  # noqa: ASYNC110 - they come over the network
                await asyncio.sleep(0.01)
        at.slot.hang_up(o.HUNG_UP_BY_API)
        await at.slot.wait()
        assert exchange.carrier.calls[0].digits_heard == "12#"


async def test_an_inbound_call_is_answered_by_being_audible(rig: Rigs) -> None:
    """The greeting is not asked for only when the phone says that it was answered: that is a moment of silence more."""
    async with LiveEndpoint(scenario()) as endpoint:
        at = await rig(endpoint)
        room = room_name()
        caller = WebCaller()
        at.callers.append(caller)
        await caller.join(at.livekit, room, attributes={"sip.callStatus": "ringing"})
        await at.slot.start(at.assignment(room))
        await at.desk.until_line("agent")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        assert (await at.slot.wait()).answered_s is not None


async def test_what_the_caller_enters_is_answered(rig: Rigs, exchange: Exchange) -> None:
    """The keys of a telephone, as one number."""
    agents = [SCENARIO["agents"][0] | {"prompts": [{"contains": "keypad: 4 2.", "say": "Forty-two."}]}]
    async with LiveEndpoint(scenario(agents=agents)) as endpoint:
        at = await rig(endpoint, exchange=exchange)
        await exchange.take_calls()
        call = exchange.carrier.call_in("+14155550123", TRUNK_NUMBER, steps=())
        await call.joined
        await at.slot.start(at.assignment(call.place.room))
        await at.desk.until_line("agent")
        await call.press("42#")
        await at.desk.until(lambda e: e.kind == "line" and e.fields["text"] == "Forty-two.")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        await at.slot.wait()
        assert [e.fields["text"] for e in at.desk.events if e.kind == "line"][1:] == ["[42]", "Forty-two."]


async def test_a_fallback_model_is_spoken_to_in_its_own_way(rig: Rigs) -> None:
    """The main model takes client content; the fallback refuses that, and is reached by realtime text instead."""
    other = "gemini-3.1-flash-live-preview"
    down = [{"at": "upgrade", "do": "http_status", "sessions": [1]}]
    async with LiveEndpoint(scenario(faults=down)) as endpoint:
        at = await rig(endpoint, fallback=[{"model": other}], limits={"idle_reminder_s": 1, "silence_s": 60})
        await at.greeted()
        await at.desk.until(lambda e: e.kind == "line" and e.fields["text"] == "Hello?")
        at.slot.hang_up(o.HUNG_UP_BY_API)
        record = await at.slot.wait()
        assert record.metered.usage_by_model[other].audio_out > 0
        assert not [e for e in at.desk.events if e.kind == "fault" and "1007" in str(e.fields)]
