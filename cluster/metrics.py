"""Every metric there is, with its unit in its name.

Call processes come and go, so they expose nothing: what they measured is in their records. `BudgetPool`, which sees
every record, adds them up in a `Tally`; its statistics, tally included, are plain numbers, and whoever serves
`/metrics` renders them. No label holds personal data or grows without bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from cluster.outcome import Outcome

if TYPE_CHECKING:
    from cluster.messages import CallRecord

_FAST_S: Final = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0, 2.0)
"""Dense around the goals of 100 to 350 ms."""
_ANSWER_S: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_RING_S: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 80.0)
_TALK_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0)
_USD: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_MOS: Final = (1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.2, 4.4)


@dataclass(frozen=True, slots=True)
class _Histogram:
    name: str
    meaning: str
    bounds: tuple[float, ...]
    """Upper ends of the buckets, in the name's unit; one without an end follows."""


_TIMINGS: Final[Mapping[str, _Histogram]] = {
    "joined": _Histogram("join_seconds", "From the start of a call to its agent in the room.", _FAST_S),
    "audible": _Histogram(
        "dispatch_seconds", "From the start of a call to the caller hearing the agent's track.", _FAST_S
    ),
    "answered": _Histogram("ring_seconds", "From the start of an outbound call to its answer.", _RING_S),
    "first_audio_p50": _Histogram("first_audio_seconds", "From the answer to the agent's first sound.", _ANSWER_S),
    "turn_p50": _Histogram(
        "turn_seconds", "From a caller's last sound to the reply's first, median of a call.", _ANSWER_S
    ),
    "barge_in_p50": _Histogram("barge_in_seconds", "From an interruption to silence, median of a call.", _FAST_S),
}
"""By their name in a record's `timings_ms`."""
_TALK: Final = _Histogram("talk_seconds", "From the answer to the end of a call.", _TALK_S)
_COST: Final = _Histogram("call_cost_usd", "What a call cost, from its tokens.", _USD)
_LINE: Final = _Histogram("line_mos", "A call's mean opinion score, 1 to 5, from loss, jitter and delay.", _MOS)
_HISTOGRAMS: Final = {histogram.name: histogram for histogram in (*_TIMINGS.values(), _TALK, _COST, _LINE)}

_STATES: Final = ("starting", "idle", "preparing", "parked", "busy")


class Tally:
    """What ended calls add up to. Plain numbers inside and out, so that it can travel in statistics."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def add(self, record: CallRecord) -> None:
        """Count a call that is over; once for each."""
        for timing, histogram in _TIMINGS.items():
            if timing in record.timings_ms:
                self._observe(histogram, record, record.timings_ms[timing] / 1000)
        if record.answered_s is not None:
            self._observe(_TALK, record, record.talk_s)
            self._observe(_COST, record, record.cost_usd_micros / 1_000_000)
        if "mos" in record.quality:
            self._observe(_LINE, record, record.quality["mos"])
        for model, usage in (record.metered.usage_by_model or {record.model: record.usage}).items():
            for kind in ("text_in", "audio_in", "text_out", "audio_out"):
                self._tokens[model, kind] = self._tokens.get((model, kind), 0) + getattr(usage, kind)

    def snapshot(self) -> dict[str, Any]:
        """Everything, for the statistics under the name `measured`."""
        return {
            "buckets": {k: list(v) for k, v in self._buckets.items()},
            "sums": dict(self._sums),
            "tokens": dict(self._tokens),
        }

    def _observe(self, histogram: _Histogram, record: CallRecord, value: float) -> None:
        key = histogram.name, record.direction.value
        buckets = self._buckets.setdefault(key, [0] * (len(histogram.bounds) + 1))
        buckets[bisect_left(histogram.bounds, value)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + value


def render(statistics: Mapping[str, Any]) -> str:
    """Prometheus text (format 0.0.4) of `BudgetPool`'s statistics. What they do not have is left out."""
    registry = CollectorRegistry()
    registry.register(_Statistics(statistics))
    return generate_latest(registry).decode()


class _Statistics:
    """A collector, as prometheus-client wants it."""

    def __init__(self, statistics: Mapping[str, Any]) -> None:
        self._given = statistics

    def collect(self) -> Iterator[Metric]:
        """Every metric with its values."""
        yield from self._now()
        yield from self._money()
        yield from self._since_the_start()
        yield from self._histograms(self._given.get("measured", {}))

    def _now(self) -> Iterator[Metric]:
        yield _gauge("calls_live", "Calls that are going on.", self._given.get("live_calls"))
        yield _gauge("calls_limit", "Most calls at once.", self._given.get("max_calls"))
        yield _gauge("draining", "1 while no new call is taken.", self._given.get("draining"))
        states = {state: self._given[state] for state in _STATES if state in self._given}
        yield _gauge("actors", "Call actors, by what they do.", states, "state")
        parked = self._given.get("parked_by_profile")
        yield _gauge("actors_parked", "Call actors with a session set up.", parked, "profile")
        wanted = self._given.get("wanted_by_profile")
        yield _gauge("actors_wanted", "Call actors that should be parked now.", wanted, "profile")
        breakers = self._given.get("breakers", {})
        is_open = {model: breaker["state"] != "closed" for model, breaker in breakers.items()}
        yield _gauge("live_breaker_open", "1 while a model does not serve, and nobody is dialled.", is_open, "model")

    def _money(self) -> Iterator[Metric]:
        for word, meaning in (
            ("spent", "US dollars settled today (UTC)."),
            ("reserved", "US dollars held for live calls."),
        ):
            micros = self._given.get(f"{word}_usd_micros", {})
            yield _gauge(f"{word}_usd", meaning, {t: m / 1_000_000 for t, m in micros.items()}, "tenant")
        limit = self._given.get("daily_budget_usd_micros")
        yield _gauge("daily_budget_usd", "US dollars per tenant and day.", None if limit is None else limit / 1_000_000)

    def _since_the_start(self) -> Iterator[Metric]:
        yield _counter("calls_admitted", "Calls that were admitted.", self._given.get("admitted"), "actor")
        lent = CounterMetricFamily("ringmaster_actors_lent", "Call actors given to calls.", labels=("profile", "actor"))
        for labels, count in self._given.get("lent_by_profile", {}).items():
            lent.add_metric(labels, count)
        yield lent
        yield _counter("calls_turned_away", "Requests not admitted.", self._given.get("turned_away"), "reason")
        ended = CounterMetricFamily("ringmaster_calls_ended", "Calls that are over.", labels=("result", "reason"))
        for text, count in self._given.get("ended", {}).items():
            outcome = Outcome.parse(text)
            ended.add_metric((outcome.result, outcome.reason), count)
        yield ended
        yield _counter("setups_failed", "Live sessions that could not be set up.", self._given.get("failed_setups"))
        faults = CounterMetricFamily("ringmaster_live_faults", "Failed Live connections.", labels=("model", "fault"))
        for labels, count in self._given.get("live_faults", {}).items():
            faults.add_metric(labels, count)
        yield faults
        yield _counter("actors_lost", "Call actors that died.", self._given.get("lost_actors"))

    def _histograms(self, measured: Mapping[str, Any]) -> Iterator[Metric]:
        tokens = CounterMetricFamily("ringmaster_live_tokens", "Tokens that were billed.", labels=("model", "kind"))
        for labels, count in measured.get("tokens", {}).items():
            tokens.add_metric(labels, count)
        yield tokens
        families = {
            name: HistogramMetricFamily(f"ringmaster_{name}", histogram.meaning, labels=("direction",))
            for name, histogram in _HISTOGRAMS.items()
        }
        for (name, direction), counts in measured.get("buckets", {}).items():
            families[name].add_metric((direction,), _cumulative(name, counts), measured["sums"][name, direction])
        yield from families.values()


def _gauge(name: str, meaning: str, value: Any, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"ringmaster_{name}", meaning, labels=labels), value)


def _counter(name: str, meaning: str, value: Any, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"ringmaster_{name}", meaning, labels=labels), value)


def _filled(family: Any, value: Any) -> Metric:
    """`value` is a number, or numbers by the value of the one label; None leaves the family empty."""
    if isinstance(value, Mapping):
        for label, number in value.items():
            family.add_metric((label,), number)
    elif value is not None:
        family.add_metric((), value)
    result: Metric = family
    return result


def _cumulative(name: str, counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus's buckets: each holds those below it too."""
    ends = (*map(str, _HISTOGRAMS[name].bounds), "+Inf")
    return [(end, float(sum(counts[: i + 1]))) for i, end in enumerate(ends)]
