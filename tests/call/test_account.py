"""The books of one call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import outcome as o
from cluster.budget.pricing import PerMinute
from cluster.call import events as ev
from cluster.call.account import MAX_EVENTS, MAX_FAULTS, Account
from cluster.call.core import CallCore
from cluster.call.faults import Fault, Stage
from cluster.call.live_messages import Audio
from cluster.call.prompts import Prompts
from cluster.call.quality import LineStats
from cluster.call.rules import Rules
from cluster.call.usage import UsageReport
from cluster.messages import Assignment, CallRequest, Direction, LiveFault, Usage
from cluster.profiles import Target
from tests.fixtures.prices import TARIFF

MAIN, SPARE = Target("gemini-3.8-live"), Target("gemini-live-2.5-flash", "europe-west4")
REQUEST = CallRequest(
    request_id="r",
    call_id="call_1",
    tenant="t",
    direction=Direction.INBOUND,
    profile="p",
    room="room",
    identity="agent",
)
ASSIGNMENT = Assignment(
    request=REQUEST,
    lease_id="lease",
    fencing_token=3,
    max_duration_s=600,
    max_cost_usd_micros=1_000_000,
    reserved_usd_micros=500_000,
    renew_every_s=2,
    lease_ttl_s=10,
    tariff=replace(TARIFF, trunk=PerMinute(60_000, 6), livekit=PerMinute(6_000), tools={"look_up": 50}),
)
RULES = Rules(max_duration_s=600, idle_reminder_s=10, idle_reminders=2, silence_s=30, speak_first=True, inbound=True)


@pytest.fixture
def core() -> CallCore:
    """A call that began at 100 s."""
    return CallCore(RULES, Prompts("Greet."), 100.0)


@pytest.fixture
def account() -> Account:
    """Its books."""
    return Account(ASSIGNMENT, "gemini-3.8-live", "slot", "node", began=100.0)


def test_a_call_that_was_never_answered(core: CallCore, account: Account) -> None:
    """No talk, no money but for the room, no quality, one record."""
    record = account.record(core, o.BUSY, started_at=1_000.0, now=112.5)
    assert (record.answered_s, record.talk_s, record.duration_s) == (None, 0.0, 12.5)
    assert (record.charges_usd_micros, record.cost_usd_micros) == ({"livekit": 6_000}, 6_000)
    assert (record.quality, record.outcome) == ({}, o.BUSY)


def test_an_answered_call_adds_up(core: CallCore, account: Account) -> None:
    """Tokens, transcripts, times and the line's quality are in the record and in the heartbeat."""
    core.handle(ev.CallBegins(), 100.0)
    core.handle(ev.LiveOpened(), 100.0)
    core.handle(ev.PhoneAnswered(), 101.0)
    core.handle(ev.AgentAudio(100), 101.2)
    core.handle(ev.AgentText("Hello."), 101.3)
    core.handle(ev.TurnDone(), 102.0)
    account.took("joined", 100.06)
    account.live_opened(1, MAIN, 99.0)
    account.sent(1, 1.0)
    account.see(1, ev.AgentText("Hello."))
    account.see(1, ev.TurnDone())
    account.see(1, UsageReport(100, {"AUDIO": 100}, 50, {"AUDIO": 50}))
    core.handle(ev.Resumable("handle"), 102.0)
    assert account.line(LineStats(loss=0.0, jitter_ms=1.0, rtt_ms=10.0)) > 4
    record = account.record(core, o.AGENT_ENDED, started_at=1_000.0, now=111.0)
    assert (record.answered_s, record.talk_s) == (1.0, 10.0)
    assert record.timings_ms == {"joined": 60.0, "first_audio_p50": 200.0}
    assert record.usage.audio_in == 100
    assert record.usage.transcript_chars == 6
    assert record.charges_usd_micros["model"] > 100 * 3 + 50 * 12
    assert record.quality["mos"] > 4
    assert (record.metered.line_s, record.metered.room_s) == (10.0, 11.0)
    renewal = account.renewal(core, 0.0, 111.0)
    assert (renewal.cost_usd_micros, renewal.metered) == (record.cost_usd_micros, record.metered)
    assert renewal.fencing_token == 3
    assert renewal.checkpoint.resumption_handle == "handle"
    assert [line.text for line in renewal.checkpoint.transcript] == ["Hello."]


def test_every_kind_of_charge_is_in_the_cost(core: CallCore, account: Account) -> None:
    """The leg by its increments, the room by the minute, each tool that was started; the cost is their sum."""
    core.handle(ev.CallBegins(), 100.0)
    core.handle(ev.LiveOpened(), 100.0)
    core.handle(ev.PhoneAnswered(), 101.0)
    for name in ("look_up", "look_up", "end_call"):
        account.tool_ran(name)
    renewal = account.renewal(core, 0.0, 162.0)
    assert renewal.charges_usd_micros == {"trunk": 66_000, "livekit": 12_000, "tools": 100}
    assert renewal.cost_usd_micros == 78_100
    assert renewal.metered.tool_calls == {"look_up": 2, "end_call": 1}


def test_a_call_of_two_models_is_priced_by_model(core: CallCore, account: Account) -> None:
    """Each has its own rates; the turn that was cut off is estimated."""
    account.live_opened(1, MAIN, 101.0)
    account.see(1, Audio(b"\0" * 48_000, 24_000))
    account.live_closed(1)
    account.live_opened(2, SPARE, 102.0)
    account.see(2, ev.TurnDone())
    account.see(2, UsageReport(0, {}, 1_000_000, {"TEXT": 1_000_000}))
    record = account.record(core, o.AGENT_ENDED, started_at=1_000.0, now=111.0)
    assert record.charges_usd_micros["model"] == 25 * 12 + 2_000_000
    assert record.metered.usage_by_model == {
        MAIN.model: Usage(audio_out=25, missing_generations=1, estimated_tokens=25),
        SPARE.model: Usage(text_out=1_000_000),
    }
    assert (record.usage.audio_out, record.usage.text_out) == (25, 1_000_000)


def test_a_long_turn_is_paid_for_before_it_is_reported(core: CallCore, account: Account) -> None:
    """It is on no bill yet, and what it will cost can't be spent on anything else."""
    account.live_opened(1, MAIN, 101.0)
    assert account.renewal(core, 0.0, 101.0).running_usd_micros == 0
    account.see(1, Audio(b"\0" * 48_000 * 60, 24_000))
    renewal = account.renewal(core, 0.0, 161.0)
    assert "model" not in renewal.charges_usd_micros
    assert renewal.running_usd_micros == 60 * 25 * 12
    assert renewal.spent_usd_micros == renewal.cost_usd_micros + renewal.running_usd_micros
    account.see(1, ev.TurnDone())
    account.see(1, UsageReport(0, {}, 1_500, {"AUDIO": 1_500}))
    done = account.renewal(core, 0.0, 161.0)
    assert (done.running_usd_micros, done.charges_usd_micros["model"]) == (0, 60 * 25 * 12)


def test_faults_of_the_connection_are_told_once(core: CallCore, account: Account) -> None:
    """With the heartbeat, and what came after the last one with the record. Only a new connection says all is well."""
    down, fresh = Fault(Stage.UPGRADE, 503), Fault(Stage.SETUP, 1007, "API key not valid")
    account.live_failed(MAIN, down)
    account.live_opened(1, MAIN, 99.0)
    first = account.renewal(core, 0.0, 102.0)
    told = LiveFault(model=MAIN.model, name="provider-down", blames_provider=True)
    assert (first.live_faults, first.live_ok, first.live_model) == ((told,), False, MAIN.model)
    account.live_opened(1, SPARE, 103.0)
    second = account.renewal(core, 0.0, 104.0)
    assert (second.live_faults, second.live_ok, second.live_model) == ((), True, "gemini-live-2.5-flash@europe-west4")
    assert not account.renewal(core, 0.0, 105.0).live_ok
    account.live_opened(1, MAIN, 106.0)
    for _ in range(MAX_FAULTS + 1):
        account.live_failed(SPARE, fresh)
    assert not account.renewal(core, 0.0, 107.0).live_ok
    account.live_failed(SPARE, fresh)
    record = account.record(core, o.LIVE_LOST, started_at=1_000.0, now=111.0)
    assert [(f.model, f.name, f.blames_provider) for f in record.live_faults] == [(str(SPARE), "bad-key", False)]


def test_events_that_nobody_took_are_offered_again_in_order(account: Account) -> None:
    """A history that restarts misses nothing; it begins with who has the call."""
    [began] = account.take_events()
    assert (began.kind, began.fields) == ("actor", {"slot": "slot", "node": "node"})
    account.note("leg", 100.5, state="ringing")
    taken = account.take_events()
    account.note("leg", 101.0, state="answered")
    account.put_back(taken)
    assert [(e.at_s, e.fields["state"]) for e in account.take_events()] == [(0.5, "ringing"), (1.0, "answered")]
    assert account.take_events() == []


def test_what_waits_for_the_history_is_bounded(account: Account) -> None:
    """A history that stays away does not fill the memory; the newest events are kept."""
    for n in range(MAX_EVENTS + 10):
        account.note("n", 100.0, n=n)
    account.put_back(account.take_events())
    events = account.take_events()
    assert len(events) == MAX_EVENTS
    assert events[-1].fields["n"] == MAX_EVENTS + 9
