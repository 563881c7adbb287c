"""Metrics on their way to Ray's own exporter, where its service discovery, dashboard and Grafana find them.

Only actors that live long may have one: Ray gives each process's metrics series of their own. A sample keeps its name,
with Ray's `ray_` before it. All are gauges to Ray, totals and buckets too: Prometheus computes with either alike, and a
gauge says exactly what was counted elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ray.util.metrics import Gauge

from cluster.metrics import families

log = logging.getLogger(__name__)

EXPORT_EVERY_S: Final = 5.0
"""Ray hands on what there is every ten seconds."""
LOOK_EVERY_S: Final = 0.25
Labels = tuple[tuple[str, str], ...]


class Exporter:
    """Exports one actor's statistics, and how late its event loop is."""

    def __init__(self, process: str, statistics: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """`process` names the actor in `event_loop_lag_seconds`."""
        self._process = process
        self._statistics = statistics
        self._gauges: dict[str, Gauge] = {}
        self._set: set[tuple[str, Labels]] = set()

    async def run_for_ever(self) -> None:
        """Export every few seconds. What goes wrong is logged: no call may suffer for a metric."""
        while True:
            lag_s = await self._watch_loop()
            try:
                self.export({**await self._statistics(), "event_loop_lag_s": {self._process: lag_s}})
            except Exception as error:  # noqa: BLE001 see above
                log.warning("metrics could not be exported", extra={"error": type(error).__name__})

    def export(self, statistics: Mapping[str, Any]) -> None:
        """Set every value; one that is there no more becomes 0."""
        now: set[tuple[str, Labels]] = set()
        for family in families(statistics):
            for sample in family.samples:
                labels = tuple((label, str(value)) for label, value in sample.labels.items())
                gauge = self._gauge(sample.name, family.documentation, labels)
                gauge.set(sample.value, dict(labels))
                now.add((sample.name, labels))
        for name, labels in self._set - now:
            self._gauges[name].set(0, dict(labels))
        self._set |= now

    def _gauge(self, name: str, meaning: str, labels: Labels) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, meaning, tuple(label for label, _ in labels))
        return self._gauges[name]

    async def _watch_loop(self) -> float:
        """Wait until the next export; returns the longest time in seconds that a wait took too long."""
        loop = asyncio.get_running_loop()
        until, worst_s = loop.time() + EXPORT_EVERY_S, 0.0
        while (due := loop.time() + LOOK_EVERY_S) < until:
            await asyncio.sleep(LOOK_EVERY_S)
            worst_s = max(worst_s, loop.time() - due)
        return worst_s
