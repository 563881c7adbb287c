"""Metrics as an operator has them: Ray's exporter, a real Prometheus, and every query of the Grafana dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.e2e.conftest import System, until
from tests.fixtures.prometheus import prometheus

GRAFANA = json.loads((Path(__file__).parents[2] / "cluster/dashboard/grafana.json").read_text())
QUERIES = [
    target["expr"].replace("$__rate_interval", "1m")
    for panel in GRAFANA["panels"]
    for target in panel.get("targets", [])
]
NEED_TROUBLE = frozenset(
    {"calls_turned_away", "live_sessions_resumed", "live_sessions_gone", "live_faults", "call_faults"}
)
"""Metrics without a series until something has gone wrong."""


@pytest.fixture
def exporters(system: System) -> list[str]:
    """Where Ray's nodes show their metrics."""
    ray.init(address=system.ready["ray"], log_to_driver=False)
    nodes: list[dict[str, Any]] = ray.nodes()
    ray.shutdown()
    return [f"127.0.0.1:{node['MetricsExportPort']}" for node in nodes]


def test_every_query_of_the_grafana_dashboard_has_an_answer(
    system: System, exporters: list[str], tmp_path: Path
) -> None:
    """After an inbound and an outbound call each panel shows something, but those of troubles that did not happen."""
    system.until_warm()
    inbound = system.inbound_call(system.ring())["call_id"]
    outbound = system.dial("+14155550102").json()["call_id"]
    for call_id in (inbound, outbound):
        assert system.ended(call_id)["outcome"]["result"] == "success"
    with prometheus(tmp_path, exporters) as asked:
        until(lambda: len(asked.query("rate(ray_ringmaster_talk_seconds_count[1m])")) == 2)
        empty = [query for query in QUERIES if not asked.query(query)]
        lags = asked.query("max by (process) (ray_ringmaster_event_loop_lag_seconds)")
    assert len(QUERIES) > 30
    assert [query for query in empty if not set(re.findall(r"ray_ringmaster_(\w+)_total", query)) <= NEED_TROUBLE] == []
    assert {series["metric"]["process"] for series in lags} == {"budget-pool", "records", "frontdoor"}
