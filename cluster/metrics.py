"""Every metric there is, with its unit in its name.

Call processes come and go, so they expose nothing: what they measured is in their records and events. `BudgetPool`,
which sees every record, adds them up in a `Tally`, and `Records`, which sees every event, in an `EventTally`. Both are
plain numbers in their actor's statistics; `families` makes metrics of them, for `/metrics` and for Ray's own. No label
holds personal data or grows without bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
    from cluster.messages import CallEvent, CallRecord

_FAST_S: Final = (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0, 2.0)
"""Dense around the goals of 100 to 350 ms."""
_ANSWER_S: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_RING_S: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 80.0)
_TALK_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0)
_USD: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LOSS: Final = (0.0, 0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_NETWORK_S: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5)
_FRAME_S: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)
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
_QUALITY: Final[Mapping[str, tuple[_Histogram, float]]] = {
    "mos": (_Histogram("line_mos", "A call's mean opinion score, 1 to 5, from loss, jitter and delay.", _MOS), 1),
    "loss": (_Histogram("line_loss_ratio", "Share of a call's packets that were lost.", _LOSS), 1),
    "jitter_ms": (_Histogram("line_jitter_seconds", "Jitter, mean of a call.", _NETWORK_S), 1000),
    "rtt_ms": (_Histogram("line_rtt_seconds", "Round trip to the media server, mean of a call.", _NETWORK_S), 1000),
}
"""By their name in a record's `quality`, with what makes its unit the metric's."""
_FRAME: Final = _Histogram(
    "frame_seconds",
    "What a frame of the caller takes from the room to the Live session, resampling included.",
    _FRAME_S,
)
_OF_CALLS: Final = (*_TIMINGS.values(), *(histogram for histogram, _ in _QUALITY.values()), _TALK, _COST)
_HISTOGRAMS: Final = {histogram.name: (histogram, "direction") for histogram in _OF_CALLS} | {
    _FRAME.name: (_FRAME, "resampler")
}
"""Each with its one label."""

_BY_TENANT: Final = {"spent": "US dollars settled today (UTC).", "reserved": "US dollars held for live calls."}
_STATES: Final = ("starting", "idle", "preparing", "parked", "busy")


class _Buckets:
    """Observations, counted."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def observe(self, histogram: _Histogram, label: str, value: float) -> None:
        """Count one."""
        key = histogram.name, label
        buckets = self._buckets.setdefault(key, [0] * (len(histogram.bounds) + 1))
        buckets[bisect_left(histogram.bounds, value)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + value

    def snapshot(self) -> dict[str, Any]:
        """A copy that goes on no more."""
        return {"buckets": {k: list(v) for k, v in self._buckets.items()}, "sums": dict(self._sums)}


class Tally:
    """What ended calls add up to. Plain numbers inside and out, so that it can travel in statistics."""

    def __init__(self) -> None:
        self._observed = _Buckets()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._charges: Counter[str] = Counter()

    def add(self, record: CallRecord) -> None:
        """Count a call that is over; once for each."""
        direction = record.direction.value
        for timing, histogram in _TIMINGS.items():
            if timing in record.timings_ms:
                self._observed.observe(histogram, direction, record.timings_ms[timing] / 1000)
        if record.answered_s is not None:
            self._observed.observe(_TALK, direction, record.talk_s)
            self._observed.observe(_COST, direction, record.cost_usd_micros / 1_000_000)
        for name, (histogram, per_unit) in _QUALITY.items():
            if name in record.quality:
                self._observed.observe(histogram, direction, record.quality[name] / per_unit)
        for model, usage in (record.metered.usage_by_model or {record.model: record.usage}).items():
            for kind in ("text_in", "audio_in", "text_out", "audio_out"):
                self._tokens[model, kind] += getattr(usage, kind)
        self._charges.update(record.charges_usd_micros)

    def snapshot(self) -> dict[str, Any]:
        """Everything, for the statistics under the name `measured`."""
        return self._observed.snapshot() | {"tokens": dict(self._tokens), "charges_usd_micros": dict(self._charges)}


class EventTally:
    """What happens in calls, counted as it happens. Plain numbers, too."""

    def __init__(self) -> None:
        self._observed = _Buckets()
        self._counts: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def add(self, events: Iterable[CallEvent]) -> None:
        """Count what happened; once for each event."""
        for event in events:
            if event.kind == "quality" and "frame_us" in event.fields:
                self._observed.observe(_FRAME, event.fields["resampler"], event.fields["frame_us"] / 1_000_000)
            for name, counted in _EVENTS.items():
                if counted.kind == event.kind and counted.state in {"", event.fields.get("state")}:
                    labels = tuple(str(event.fields.get(label, "")) for label in counted.labels)
                    self._counts[name, labels] += 1

    def snapshot(self) -> dict[str, Any]:
        """Everything, for the statistics under the name `happened`."""
        return self._observed.snapshot() | {"counts": dict(self._counts)}


@dataclass(frozen=True, slots=True)
class _Counted:
    """Events of one kind (and state) as a counter."""

    kind: str
    state: str
    meaning: str
    labels: tuple[str, ...] = ()
    """Fields of the event."""


_EVENTS: Final[Mapping[str, _Counted]] = {
    "live_sessions_opened": _Counted("live", "ready", "Live connections that began to serve a call."),
    "live_sessions_resumed": _Counted(
        "live", "switched", "Live connections that took over in a call.", ("resumed", "planned")
    ),
    "live_sessions_gone": _Counted("live", "gone", "Calls that were left without a Live session."),
    "call_faults": _Counted("fault", "", "Things that went wrong in calls.", ("what",)),
    "barge_ins": _Counted("interrupted", "", "Interruptions of the agent."),
    "tool_runs": _Counted("tool", "answered", "Tools that have answered.", ("name", "ok")),
    "lines": _Counted("line", "", "Utterances.", ("who",)),
}


def of_tenant(statistics: Mapping[str, Any], tenant: str) -> dict[str, Any]:
    """The statistics without the names and the money of other tenants."""
    whose = [f"{word}_usd_micros" for word in _BY_TENANT]
    own = {name: {t: m for t, m in statistics[name].items() if t == tenant} for name in whose if name in statistics}
    return {**statistics, **own}


def render(statistics: Mapping[str, Any]) -> str:
    """Prometheus text (format 0.0.4) of the control actors' statistics. What they do not have is left out."""
    registry = CollectorRegistry()
    registry.register(_Statistics(statistics))
    return generate_latest(registry).decode()


def families(statistics: Mapping[str, Any]) -> Iterator[Metric]:
    """Every metric of which these statistics have a value, as prometheus-client's families."""
    return (family for family in _Statistics(statistics).collect() if family.samples)


class _Statistics:
    """A collector, as prometheus-client wants it."""

    def __init__(self, statistics: Mapping[str, Any]) -> None:
        self._given = statistics

    def collect(self) -> Iterator[Metric]:
        """Every metric with its values."""
        yield from self._now()
        yield from self._money()
        yield from self._since_the_start()
        yield from self._counted()
        yield from self._histograms()

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
        yield _gauge("calls_queued", "Calls that wait for their turn.", self._given.get("queued"), "direction")
        lag = self._given.get("event_loop_lag_s")
        yield _gauge("event_loop_lag_seconds", "Longest that an event loop was late, of late.", lag, "process")
        yield _gauge("events_unstored", "Events that are not in the database yet.", self._given.get("unstored"))
        breakers = self._given.get("breakers", {})
        is_open = {model: breaker["state"] != "closed" for model, breaker in breakers.items()}
        yield _gauge("live_breaker_open", "1 while a model does not serve, and nobody is dialled.", is_open, "model")

    def _money(self) -> Iterator[Metric]:
        for word, meaning in _BY_TENANT.items():
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

    def _counted(self) -> Iterator[Metric]:
        measured = self._given.get("measured", {})
        tokens = CounterMetricFamily("ringmaster_live_tokens", "Tokens that were billed.", labels=("model", "kind"))
        for labels, count in measured.get("tokens", {}).items():
            tokens.add_metric(labels, count)
        yield tokens
        charges = {kind: micros / 1_000_000 for kind, micros in measured.get("charges_usd_micros", {}).items()}
        yield _counter("cost_usd", "US dollars that ended calls have cost, by kind.", charges, "kind")
        counts = self._given.get("happened", {}).get("counts", {})
        for name, counted in _EVENTS.items():
            family = CounterMetricFamily(f"ringmaster_{name}", counted.meaning, labels=counted.labels)
            for (counter, labels), count in counts.items():
                if counter == name:
                    family.add_metric(labels, count)
            yield family

    def _histograms(self) -> Iterator[Metric]:
        found = {
            name: HistogramMetricFamily(f"ringmaster_{name}", histogram.meaning, labels=(label,))
            for name, (histogram, label) in _HISTOGRAMS.items()
        }
        for source in ("measured", "happened"):
            observed = self._given.get(source, {})
            for (name, label), counts in observed.get("buckets", {}).items():
                found[name].add_metric((label,), _cumulative(name, counts), observed["sums"][name, label])
        yield from found.values()


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
    ends = (*map(str, _HISTOGRAMS[name][0].bounds), "+Inf")
    return [(end, float(sum(counts[: i + 1]))) for i, end in enumerate(ends)]
