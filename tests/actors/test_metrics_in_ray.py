"""Metrics as an operator has them: Ray's exporter, a real Prometheus, and every query of the Grafana dashboard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.exporter import Exporter
from cluster.messages import Direction
from cluster.metrics import EventTally, Tally
from tests.fixtures.prometheus import prometheus
from tests.records.examples import an_event
from tests.test_metrics import RECORD, STATISTICS

GRAFANA = json.loads((Path(__file__).parents[2] / "cluster/dashboard/grafana.json").read_text())
QUERIES = [
    target["expr"].replace("$__rate_interval", "1m")
    for panel in GRAFANA["panels"]
    for target in panel.get("targets", [])
]
WITHIN_S = 120.0
MEASURED = replace(
    RECORD,
    timings_ms=dict.fromkeys(("joined", "audible", "answered", "first_audio_p50", "turn_p50", "barge_in_p50"), 300.0),
    quality={"mos": 4.2, "loss": 0.01, "jitter_ms": 20.0, "rtt_ms": 80.0},
    charges_usd_micros={"model": 15_000, "trunk": 5_000},
)
HAPPENED = (
    an_event("live", state="ready", connection=1),
    an_event("live", state="switched", resumed=True, planned=False, gap_ms=300),
    an_event("live", state="gone"),
    an_event("fault", what="stall", cure="nudge"),
    an_event("tool", name="look_up", state="answered", ok=True, ms=3),
    an_event("quality", mos=4.2, loss=0.0, resampler="LQ", frame_us=150.0),
)


class Speaker:
    """An actor with the statistics of `BudgetPool` and `Records`, after calls in which everything has happened once."""

    def __init__(self) -> None:
        self._tally, self._events = Tally(), EventTally()
        self._tally.add(MEASURED)
        self._tally.add(replace(MEASURED, direction=Direction.INBOUND))
        self._events.add(HAPPENED)
        self._exporting = asyncio.get_running_loop().create_task(Exporter("speaker", self._statistics).run_for_ever())

    async def _statistics(self) -> Mapping[str, Any]:
        measured = {"measured": self._tally.snapshot(), "happened": self._events.snapshot()}
        return STATISTICS | measured | {"queued": {"outbound": 2}, "unstored": 0}

    async def ready(self) -> None:
        """It speaks."""


@pytest.fixture
def exporters(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where the nodes of a cluster with that actor show their metrics."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    speaker: Any = ray.remote(Speaker).options(num_cpus=0).remote()
    ray.get(speaker.ready.remote())
    yield [f"127.0.0.1:{node['MetricsExportPort']}" for node in ray.nodes()]
    ray.shutdown()


def test_every_query_of_the_grafana_dashboard_has_an_answer(exporters: list[str], tmp_path: Path) -> None:
    """Each is valid PromQL, and finds series by their names and labels."""
    assert len(QUERIES) > 30
    with prometheus(tmp_path, exporters) as asked:
        deadline = time.monotonic() + WITHIN_S
        while (empty := [query for query in QUERIES if not asked.query(query)]) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert empty == []
        assert asked.query("ray_ringmaster_calls_live")[0]["value"][1] == str(STATISTICS["live_calls"])
