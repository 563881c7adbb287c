"""What the command line draws: for people a table or a line, for programs JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

Json = Mapping[str, Any]


def console() -> Console:
    """Where it is drawn; as wide as what is drawn, so that it can be piped."""
    return Console(highlight=False, soft_wrap=True, emoji=False)


def show(value: Any, shown: Any, *, as_json: bool) -> None:
    """One JSON document a line for programs, what a person wants to see otherwise; None shows nothing."""
    if as_json:
        console().print(json.dumps(value, ensure_ascii=False), markup=False)
    elif shown is not None:
        console().print(shown, markup=False)


def columns(*names: str) -> Table:
    """A table without lines; what is too wide is folded."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        made.add_column(name, overflow="fold")
    return made


def calls_table(found: Sequence[Json]) -> Table:
    """Calls as the API lists them."""
    drawn = columns("call", "state", "direction", "profile", "number", "talk", "cost", "outcome")
    for one in found:
        outcome = one.get("outcome")
        drawn.add_row(
            one["call_id"],
            one["state"],
            one["direction"],
            one["profile"],
            one["to"] if one["direction"] == "outbound" else one["from"],
            f"{one.get('talk_s') or 0:.0f} s",
            f"${one['cost']['usd']:.4f}",
            f"{outcome['result']}/{outcome['reason']}" if outcome else "",
        )
    return drawn


def facts(one: Json) -> Table:
    """How one call went."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_row("times", "  ".join(f"{name} {ms:.0f} ms" for name, ms in one["timings_ms"].items()))
    drawn.add_row("line", "  ".join(f"{name} {value:g}" for name, value in one["quality"].items()))
    detail = (one.get("outcome") or {}).get("detail")
    if detail:
        drawn.add_row("detail", detail)
    return drawn


_SHOWN: Mapping[str, Callable[[Json], str]] = {
    "leg": lambda event: str(event["state"]),
    "line": lambda event: f"{event['who']}: {event['text']}",
    "tool": lambda event: f"tool {event.get('name', '')}",
    "fault": lambda event: f"fault: {event.get('what', '')}",
}


def progress(event: Json) -> str | None:
    """An event in one line; None for what only programs want."""
    show = _SHOWN.get(event["kind"])
    return f"{event['at_s']:7.1f} s  {show(event)}" if show else None


def utc(seconds: float) -> str:
    """A moment, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
