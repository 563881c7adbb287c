"""Metrics: Prometheus text from plain statistics, with what ended calls add up to."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cluster.messages import Metered, Usage
from cluster.metrics import EventTally, Tally, families, of_tenant, render
from tests.records.examples import a_record, an_event

RECORD = a_record(
    cost_usd_micros=20_000,
    usage=Usage(text_in=10, audio_in=1_500, text_out=0, audio_out=700),
    timings_ms={"joined": 100.0, "audible": 240.0, "turn_p50": 410.0},
)
STATISTICS: dict[str, Any] = {
    "live_calls": 3,
    "max_calls": 8,
    "draining": False,
    "starting": 1,
    "idle": 0,
    "preparing": 0,
    "parked": 2,
    "busy": 3,
    "parked_by_profile": {"receptionist": 2},
    "wanted_by_profile": {"receptionist": 3},
    "lent_by_profile": {("receptionist", "warm"): 9, ("receptionist", "cold"): 1},
    "spent_usd_micros": {"acme": 1_250_000},
    "reserved_usd_micros": {"acme": 500_000},
    "daily_budget_usd_micros": 50_000_000,
    "admitted": {"warm": 10, "cold": 1},
    "turned_away": {"budget": 2},
    "ended": {"success/agent-ended": 7, "caller/busy": 1},
    "failed_setups": 4,
    "breakers": {"m": {"state": "closed", "wait_s": 0.0}, "n@global": {"state": "half-open", "wait_s": 2.0}},
    "live_faults": {("m", "quota"): 6},
    "lost_actors": 0,
}


def samples(statistics: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, as a scraper reads it."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(render(statistics))
        for sample in family.samples
    }


def test_the_pool_is_shown_as_it_stands() -> None:
    """Every number of the statistics has its metric, money in dollars."""
    found = samples(STATISTICS)
    assert found["ringmaster_calls_live",] == 3
    assert found["ringmaster_draining",] == 0
    assert found["ringmaster_actors", "parked"] == 2
    assert found["ringmaster_actors_parked", "receptionist"] == 2
    assert found["ringmaster_actors_wanted", "receptionist"] == 3
    assert found["ringmaster_actors_lent_total", "cold", "receptionist"] == 1
    assert found["ringmaster_spent_usd", "acme"] == 1.25
    assert found["ringmaster_daily_budget_usd",] == 50
    assert found["ringmaster_calls_admitted_total", "cold"] == 1
    assert found["ringmaster_calls_turned_away_total", "budget"] == 2
    assert found["ringmaster_calls_ended_total", "agent-ended", "success"] == 7
    assert found["ringmaster_setups_failed_total",] == 4
    assert found["ringmaster_live_breaker_open", "m"] == 0
    assert found["ringmaster_live_breaker_open", "n@global"] == 1
    assert found["ringmaster_live_faults_total", "quota", "m"] == 6


def test_a_tenant_sees_no_money_but_its_own() -> None:
    """Nor the names of others; everything else stays, and what is not there is not made up."""
    shared = STATISTICS | {"spent_usd_micros": {"acme": 1_250_000, "other": 7_000_000}}
    own = samples(of_tenant(shared, "acme"))
    assert own == samples(STATISTICS)
    assert of_tenant(shared, "third")["spent_usd_micros"] == {}
    assert of_tenant({"busy": 1}, "acme") == {"busy": 1}


def test_ended_calls_add_up() -> None:
    """Each record is in the buckets of what was measured in it, and its tokens are counted."""
    tally = Tally()
    tally.add(RECORD)
    tally.add(replace(RECORD, timings_ms={"turn_p50": 20_000.0}, quality={}))
    found = samples({"measured": pickle.loads(pickle.dumps(tally.snapshot()))})  # noqa: S301 - our own bytes
    assert found["ringmaster_join_seconds_count", "outbound"] == 1
    assert found["ringmaster_dispatch_seconds_bucket", "outbound", "0.2"] == 0
    assert found["ringmaster_dispatch_seconds_bucket", "outbound", "0.25"] == 1
    assert found["ringmaster_turn_seconds_bucket", "outbound", "10.0"] == 1
    assert found["ringmaster_turn_seconds_bucket", "outbound", "+Inf"] == 2
    assert found["ringmaster_turn_seconds_sum", "outbound"] == 20.41
    assert found["ringmaster_call_cost_usd_bucket", "outbound", "0.02"] == 2
    assert found["ringmaster_line_mos_count", "outbound"] == 1
    assert found["ringmaster_live_tokens_total", "audio_in", "gemini-3.8-live"] == 3_000


def test_tokens_are_counted_for_the_model_that_used_them() -> None:
    """Also of a call that two models served."""
    tally = Tally()
    tally.add(replace(RECORD, metered=Metered(usage_by_model={"m": Usage(text_in=1), "n": Usage(text_in=9)})))
    tokens = tally.snapshot()["tokens"]
    assert (tokens["m", "text_in"], tokens["n", "text_in"]) == (1, 9)
    assert {model for model, _ in tokens} == {"m", "n"}


def test_a_call_that_nobody_answered_costs_no_talk() -> None:
    """Busy phones do not pull the durations down."""
    tally = Tally()
    tally.add(replace(RECORD, answered_s=None, timings_ms={}, quality={}))
    assert tally.snapshot()["buckets"] == {}


def test_nothing_of_a_caller_is_in_a_metric() -> None:
    """No number, no room and no call id becomes a label."""
    tally = Tally()
    tally.add(RECORD)
    text = render(STATISTICS | {"measured": tally.snapshot()})
    for personal in ("555", "call_1", "node-a", "call-slot", "Hello"):
        assert personal not in text


def test_a_snapshot_is_of_its_moment() -> None:
    """What is counted later does not change it."""
    tally = Tally()
    tally.add(RECORD)
    before = tally.snapshot()
    tally.add(RECORD)
    assert sum(before["buckets"]["talk_seconds", "outbound"]) == 1


def test_statistics_may_lack_anything() -> None:
    """A scrape while the pool starts has no numbers, and no error."""
    assert [name for name in samples({}) if not name[0].startswith("ringmaster_")] == []


def test_what_happens_in_calls_is_counted_as_it_happens() -> None:
    """Each event in its counter, by the fields that make its labels; others in none."""
    tally = EventTally()
    tally.add(
        [
            an_event("live", state="ready", connection=1),
            an_event("live", state="connecting", connection=1),
            an_event("live", state="switched", resumed=True, planned=False, gap_ms=300),
            an_event("fault", what="stall", cure="nudge"),
            an_event("tool", name="look_up", state="answered", ok=True, ms=3),
            an_event("tool", name="look_up", state="called"),
            an_event("interrupted", unheard_ms=300),
            an_event("line", who="agent", text="Hello."),
            an_event("quality", mos=4.2, loss=0.0, resampler="LQ", frame_us=150.0),
            an_event("quality", mos=4.2, loss=0.0, resampler="LQ"),
        ]
    )
    found = samples({"happened": pickle.loads(pickle.dumps(tally.snapshot()))})  # noqa: S301 our own
    assert found["ringmaster_live_sessions_opened_total",] == 1
    assert found["ringmaster_live_sessions_resumed_total", "False", "True"] == 1
    assert found["ringmaster_call_faults_total", "stall"] == 1
    assert found["ringmaster_tool_runs_total", "look_up", "True"] == 1
    assert found["ringmaster_barge_ins_total",] == 1
    assert found["ringmaster_lines_total", "agent"] == 1
    assert found["ringmaster_frame_seconds_count", "LQ"] == 1
    assert found["ringmaster_frame_seconds_bucket", "0.0002", "LQ"] == 1
    assert "Hello" not in render({"happened": tally.snapshot()})


def test_the_line_and_the_cost_by_kind() -> None:
    """In the units of the names: seconds, a ratio, dollars."""
    tally = Tally()
    quality = {"mos": 4.2, "loss": 0.01, "jitter_ms": 20.0, "rtt_ms": 80.0}
    tally.add(replace(RECORD, quality=quality, charges_usd_micros={"model": 15_000, "trunk": 5_000}))
    found = samples({"measured": tally.snapshot()})
    assert found["ringmaster_line_jitter_seconds_sum", "outbound"] == 0.02
    assert found["ringmaster_line_rtt_seconds_sum", "outbound"] == 0.08
    assert found["ringmaster_line_loss_ratio_sum", "outbound"] == 0.01
    assert found["ringmaster_cost_usd_total", "trunk"] == 0.005


def test_only_what_has_a_value_is_exported() -> None:
    """An actor does not speak for another one's numbers."""
    assert {family.name for family in families({"unstored": 2, "event_loop_lag_s": {"records": 0.01}})} == {
        "ringmaster_events_unstored",
        "ringmaster_event_loop_lag_seconds",
    }
