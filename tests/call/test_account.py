"""The books of one call."""

from __future__ import annotations

import pytest

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call.account import MAX_EVENTS, Account
from cluster.call.core import CallCore
from cluster.call.prompts import Prompts
from cluster.call.quality import LineStats
from cluster.call.rules import Rules
from cluster.call.usage import UsageReport
from cluster.messages import Assignment, CallRequest, Direction

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
    """No talk, no money, no quality, one record."""
    record = account.record(core, o.BUSY, started_at=1_000.0, now=112.5)
    assert (record.answered_s, record.talk_s, record.duration_s) == (None, 0.0, 12.5)
    assert (record.cost_usd_micros, record.quality, record.outcome) == (0, {}, o.BUSY)


def test_an_answered_call_adds_up(core: CallCore, account: Account) -> None:
    """Tokens, transcripts, times and the line's quality are in the record and in the heartbeat."""
    core.handle(ev.LiveOpened(), 100.0)
    core.handle(ev.PhoneAnswered(), 101.0)
    core.handle(ev.AgentAudio(100), 101.2)
    core.handle(ev.AgentText("Hello."), 101.3)
    core.handle(ev.TurnDone(), 102.0)
    account.took("joined", 100.06)
    account.use(UsageReport(100, {"AUDIO": 100}, 50, {"AUDIO": 50}))
    account.resumption_handle = "handle"
    assert account.line(LineStats(loss=0.0, jitter_ms=1.0, rtt_ms=10.0)) > 4
    record = account.record(core, o.AGENT_ENDED, started_at=1_000.0, now=111.0)
    assert (record.answered_s, record.talk_s) == (1.0, 10.0)
    assert record.timings_ms == {"joined": 60.0, "first_audio_p50": 200.0}
    assert record.usage.audio_in == 100
    assert record.usage.transcript_chars == 6
    assert record.cost_usd_micros > 100 * 3 + 50 * 12
    assert record.quality["mos"] > 4
    renewal = account.renewal(core, 111.0)
    assert renewal.cost_usd_micros == record.cost_usd_micros
    assert renewal.fencing_token == 3
    assert renewal.checkpoint.resumption_handle == "handle"
    assert [line.text for line in renewal.checkpoint.transcript] == ["Hello."]


def test_events_that_nobody_took_are_offered_again_in_order(account: Account) -> None:
    """A history that restarts misses nothing."""
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
