"""What people see of a campaign in a terminal."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.campaign.contacts import Rejected, Why
from cluster.campaign.file import Campaign
from cluster.campaign.forecast import Forecast
from cluster.campaign.hours import next_open

ZONES_SHOWN: Final = 12
REJECTED_SHOWN: Final = 50
REPORT: Final = ("line", "number", "state", "calls", "outcome", "outcomes", "talk_s", "cost_usd", "last_call_at")
"""The columns of the report; `line` is that of the file of contacts."""


def forecast_json(campaign: Campaign, forecast: Forecast) -> dict[str, Any]:
    """A dry run, for programs."""
    course = forecast.course
    return {
        "campaign": campaign.file.name,
        "contacts": forecast.contacts,
        "calls": course.calls,
        "first_call_at": _utc(course.first_at),
        "last_first_call_at": _utc(course.last_at),
        "estimate_usd": forecast.estimate_usd_micros / 1_000_000,
        "at_most_usd": forecast.at_most_usd_micros / 1_000_000,
        "rejected": [{"line": r.line, "why": r.why.value, "reason": r.reason} for r in forecast.rejected],
    }


def forecast_view(campaign: Campaign, forecast: Forecast, now: float) -> RenderableType:
    """A dry run, for people. `now` is UTC seconds."""
    course, file = forecast.course, campaign.file
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("campaign", f"{file.name}, profile {file.profile}")
    facts.add_row("contacts", str(forecast.contacts))
    why = Counter(rejected.why for rejected in forecast.rejected)
    facts.add_row("not called", ", ".join(f"{why[kind]} {kind}" for kind in Why if why[kind]) or "none")
    facts.add_row("first calls", f"{course.calls}, {_utc(course.first_at) or 'never'} to {_utc(course.last_at) or '-'}")
    facts.add_row("calls again", f"up to {file.retries.most_calls} calls per contact" if campaign.waits_s else "none")
    answered = f"{file.expect.answered:.0%} answered, {file.expect.talk_s:g} s each"
    facts.add_row("cost", f"about {_usd(forecast.estimate_usd_micros)} with {answered}")
    facts.add_row("", f"at most {_usd(forecast.at_most_usd_micros)} for the first calls")
    return Group(facts, Text(), _zones(campaign, forecast, now), Text(), _rejected(forecast))


def progress_view(rows: Sequence[Mapping[str, Any]]) -> Table:
    """How far campaigns are: what each one's job said last, with the `status` of the job."""
    table = _table("campaign", "state", "waiting", "calling", "done", "unknown", "calls", "spent", "outcomes")
    for row in rows:
        numbers = [str(row.get(name, "")) for name in ("waiting", "calling", "done", "unknown", "calls")]
        outcomes = "\n".join(f"{count} {outcome}" for outcome, count in row.get("outcomes", {}).items())
        # A job that was killed said nothing of it.
        state = row["status"].lower() if row.get("state", "running") in {"running", "pausing"} else row["state"]
        state = f"{state} ({row['why']})" if row.get("why") else state
        table.add_row(row["campaign"], state, *numbers, f"${row.get('spent_usd', 0):.4f}", outcomes)
    return table


def report_csv(rows: Iterable[Mapping[str, Any]], file: TextIO) -> None:
    """One line for every contact, as `CampaignStore.report` has them. Numbers are whole."""
    writer = csv.writer(file)
    writer.writerow(REPORT)
    for row in rows:
        outcomes = row["outcomes"]
        writer.writerow(
            (
                row["line"],
                row["number"],
                row["state"],
                row["calls"] or 0,
                outcomes[-1] if outcomes else "",
                " ".join(outcomes),
                round(row["talk_s"] or 0.0, 3),
                f"{(row['cost_usd_micros'] or 0) / 1_000_000:.6f}",
                _utc(row["last_call_at"]) or "",
            )
        )


def _zones(campaign: Campaign, forecast: Forecast, now: float) -> Table:
    table = _table("time zone", "contacts", "may be called from", "to")
    most = Counter(forecast.by_zones).most_common(ZONES_SHOWN)
    for zones, count in most:
        stretch = next_open(campaign.hours, zones, now)
        name = zones[0] if len(zones) == 1 else f"{zones[0]} and {len(zones) - 1} more"
        when = (_utc(stretch.opens_at), _utc(stretch.closes_at)) if stretch else ()
        table.add_row(name, str(count), *when)
    if left := len(forecast.by_zones) - len(most):
        table.add_row(f"and {left} more", str(forecast.contacts - sum(count for _, count in most)))
    return table


def _rejected(forecast: Forecast) -> Table:
    table = _table("line", "not called", "reason")
    for rejected in sorted(forecast.rejected, key=_bad_first)[:REJECTED_SHOWN]:
        table.add_row(str(rejected.line), rejected.why.value, rejected.reason)
    if (left := len(forecast.rejected) - REJECTED_SHOWN) > 0:
        table.add_row("…", "", f"and {left} more; --json has them all")
    return table


def _bad_first(rejected: Rejected) -> tuple[bool, int]:
    return rejected.why is not Why.BAD, rejected.line


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _usd(micros: int) -> str:
    return f"${micros / 1_000_000:.2f}"


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")
