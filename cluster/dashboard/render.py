"""Templates, and the few words that they need for numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from cluster.dashboard.rows import Row

MINUTE_S: Final = 60
FINE_UNTIL_MS: Final = 10_000


def clock(seconds: float | None) -> str:
    """A duration as minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(max(0.0, seconds)), MINUTE_S)
    return f"{minutes}:{rest:02}"


def usd(micros: int) -> str:
    """Micro-dollars as dollars, fine enough for a single call."""
    return f"${micros / 1_000_000:.4f}"


def duration(ms: float) -> str:
    """Milliseconds, or seconds where those say too much."""
    return f"{ms:.0f} ms" if ms < FINE_UNTIL_MS else f"{ms / 1000:.0f} s"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"clock": clock, "usd": usd, "duration": duration}
    return environment


_TEMPLATES: Final = _environment()
_ROW: Final = _TEMPLATES.get_template("_row.html")


def render(template: str, **values: Any) -> str:
    """A page, or a piece of one. Everything that is put in is escaped."""
    return _TEMPLATES.get_template(template).render(values)


def render_row(row: Row) -> str:
    """A row of the table of live calls."""
    return _ROW.render(row=row)
