"""What is measured, what it should be, and how it is shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

Samples = Mapping[str, Sequence[float]]
"""Key of a figure -> what was measured, in the unit of its name."""


def quantile(share: float) -> Callable[[Sequence[float]], float]:
    """The value that `share` (0 to 1) of the samples do not exceed; of few samples, one of them."""
    return lambda samples: sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


P50: Final = quantile(0.50)
P95: Final = quantile(0.95)
P99: Final = quantile(0.99)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: a number made of the samples under `key`."""

    key: str
    title: str
    unit: str
    of: Callable[[Sequence[float]], float]
    target: float | None = None
    """Not to be exceeded; None where the number only explains another."""
    at_least: bool = False
    """The target is to be reached instead."""

    def value(self, samples: Samples) -> float | None:
        """None where nothing was measured."""
        return self.of(samples[self.key]) if samples.get(self.key) else None

    def missed(self, value: float | None) -> bool:
        """Whether a value is not what it should be."""
        if value is None or self.target is None:
            return False
        return value < self.target if self.at_least else value > self.target


FIGURES: Final = (
    Figure("admission_sqlite_per_s", "admissions, durable in SQLite, best run", "/s", max, 500, at_least=True),
    Figure("admission_sqlite_ms", "… at 100/s, p99", "ms", P99, 20),
    Figure("admission_postgresql_per_s", "admissions, durable in PostgreSQL, best run", "/s", max, 500, at_least=True),
    Figure("admission_postgresql_ms", "… at 100/s, p99", "ms", P99, 20),
    Figure("dispatch_ms", "create_dispatch → agent's track at the caller, p50", "ms", P50, 350),
    Figure("hint_ms", "phone in the room → agent's track, with the webhook's hint, p50", "ms", P50, 250),
    Figure("hint_after_publish_ms", "… from the end of the phone's own publishing", "ms", P50),
    Figure("burst_ms", "12 dispatches at once, p50", "ms", P50),
    Figure("burst_ms", "12 dispatches at once, p95", "ms", P95, 1_000),
    Figure("burst_lost", "… of which lost", "", sum, 0),
    Figure("post_joined_ms", "POST /v1/calls → agent in the room, p50", "ms", P50, 150),
    Figure("post_ms", "… until the API has answered", "ms", P50),
    Figure("response_ms", "caller's end → first sound, above the endpoint's own share, p50", "ms", P50, 160),
    Figure("response_total_ms", "… as the caller hears it", "ms", P50),
    Figure("barge_in_ms", "caller's first sound over the agent → silence, p50", "ms", P50, 160),
    Figure("barge_in_noticed_ms", "… until the endpoint has noticed and said so", "ms", P50),
    Figure("cpu_cores", "CPU of a call", "core", P50, 0.09),
    Figure("pss_in_call_mb", "memory of a process in a call (PSS)", "MB", P50, 110),
    Figure("pss_parked_mb", "memory of a parked process (PSS)", "MB", P50, 110),
    Figure("eight_lost_turns", "8 calls at once: lost turns", "", sum, 0),
    Figure("eight_lost_calls", "8 calls at once: lost dispatches", "", sum, 0),
    Figure("eight_response_ms", "8 calls at once: caller's end → first sound, p50", "ms", P50),
    Figure("over_silence", "50 callers at once over capacity: left in silence", "", sum, 0),
    Figure("over_served", "… served", "", sum),
    Figure("over_refused", "… refused", "", sum),
    Figure("over_kept_out", "… not let in by LiveKit, or lost as they joined", "", sum),
    Figure("over_end_ms", "… until the last one was answered or refused", "ms", max),
    Figure("beat_ms", "20 ms beat beside two busy processes: lateness, p99", "ms", P99, 15),
    Figure("niceness", "niceness of call processes", "", max, 0),
    Figure("long_rooms", "after 100 calls: rooms left over", "", sum, 0),
    Figure("long_leases", "… open leases", "", sum, 0),
    Figure("long_failed", "… calls that went wrong", "", sum, 0),
    Figure("long_fds", "… file descriptors more, per call process", "", P50, 0),
    Figure("long_tasks", "… tasks more, per call process", "", P50, 0),
    Figure("long_pss_mb", "… memory more, per call process", "MB", P50, 5),
    Figure("long_control_fds", "… file descriptors more, of a control process or replica", "", max, 5),
    Figure("long_control_pss_mb", "… memory more, of a control process or replica", "MB", max, 10),
)


def show(console: Console, ours: Samples, peer: Samples) -> bool:
    """Print the table; True if no target was missed."""
    table = Table(title=f"{os.cpu_count()} cores, everything local")
    for column in ("figure", "target", "ours", "peer", "samples"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    met = True
    for figure in FIGURES:
        mine, theirs = figure.value(ours), figure.value(peer)
        if mine is None and theirs is None:
            continue
        missed = figure.missed(mine)
        met = met and not missed
        sign = "≥" if figure.at_least else "≤"
        target = "" if figure.target is None else f"{sign} {_number(figure.target, figure.unit)}"
        shown = f"[red]{_number(mine, figure.unit)}[/red]" if missed else _number(mine, figure.unit)
        table.add_row(figure.title, target, shown, _number(theirs, figure.unit), str(len(ours.get(figure.key, ()))))
    console.print(table)
    return met


def write(path: Path, ours: Samples, peer: Samples, load_before: float) -> None:
    """All figures and all samples as JSON."""
    figures = [
        {
            "key": figure.key,
            "title": figure.title,
            "unit": figure.unit,
            "target": figure.target,
            "ours": figure.value(ours),
            "peer": figure.value(peer),
        }
        for figure in FIGURES
    ]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load_before": load_before}
    content = {"machine": machine, "figures": figures, "samples": {"ours": dict(ours), "peer": dict(peer)}}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 3 if unit == "core" else 0
    return f"{value:,.{digits}f} {unit}".strip()
