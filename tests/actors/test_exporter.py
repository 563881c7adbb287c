"""Metrics on their way to Ray: every sample under its own name, and nothing that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from actors import exporter
from actors.exporter import Exporter


class GaugeDouble:
    """What Ray's gauge is told."""

    made: list[GaugeDouble]

    def __init__(self, name: str, _meaning: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {}
        self.made.append(self)

    def set(self, value: float, labels: dict[str, str]) -> None:
        """One series' value."""
        assert tuple(labels) == self.labels
        self.values[tuple(labels.values())] = value


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> list[GaugeDouble]:
    """Every gauge that is made, in their order."""
    GaugeDouble.made = []
    monkeypatch.setattr(exporter, "Gauge", GaugeDouble)
    return GaugeDouble.made


def values(gauges: list[GaugeDouble]) -> dict[tuple[str, ...], float]:
    """Every series by its name and its labels' values."""
    return {(gauge.name, *labels): value for gauge in gauges for labels, value in gauge.values.items()}


async def nothing() -> Mapping[str, Any]:
    """No statistics."""
    return {}


async def test_each_sample_is_a_gauge_of_its_name(gauges: list[GaugeDouble]) -> None:
    """Totals and buckets too; what is there no more becomes 0; a gauge is made once."""
    exporting = Exporter("pool", nothing)
    observed = {"buckets": {("talk_seconds", "inbound"): [0, 2, *[0] * 9]}, "sums": {("talk_seconds", "inbound"): 22.0}}
    exporting.export({"live_calls": 3, "ended": {"caller/busy": 4}, "reserved_usd_micros": {"acme": 500_000}})
    exporting.export({"live_calls": 2, "measured": observed})
    found = values(gauges)
    assert found["ringmaster_calls_live",] == 2
    assert found["ringmaster_calls_ended_total", "caller", "busy"] == 0
    assert found["ringmaster_reserved_usd", "acme"] == 0
    assert found["ringmaster_talk_seconds_bucket", "inbound", "15.0"] == 2
    assert found["ringmaster_talk_seconds_sum", "inbound"] == 22
    assert len({gauge.name for gauge in gauges}) == len(gauges)


async def test_it_goes_on_whatever_happens(gauges: list[GaugeDouble], monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics that fail once are asked for again; how late the loop is goes with them."""
    monkeypatch.setattr(exporter, "EXPORT_EVERY_S", 0.02)
    monkeypatch.setattr(exporter, "LOOK_EVERY_S", 0.005)
    asked = []
    exported = asyncio.Event()

    async def statistics() -> Mapping[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("once")
        if len(asked) > 2:
            exported.set()
        return {"live_calls": 1}

    running = asyncio.create_task(Exporter("pool", statistics).run_for_ever())
    async with asyncio.timeout(20):
        await exported.wait()
    running.cancel()
    found = values(gauges)
    assert found["ringmaster_calls_live",] == 1
    assert found["ringmaster_event_loop_lag_seconds", "pool"] >= 0
