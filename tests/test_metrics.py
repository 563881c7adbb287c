"""Metrics: Prometheus text from plain statistics, with what ended calls add up to."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cluster.messages import Metered, Usage
from cluster.metrics import Tally, render
from tests.records.examples import a_record

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
