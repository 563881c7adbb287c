"""The README's pictures of the state machines are drawn from their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.call.states import LEG, LIVE, PHASE
from cluster.outcome import WHY_NOT

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def drawn(table: Any) -> str:
    """A table as a mermaid state diagram."""
    arrows = [
        f"    {state.value.replace('-', '_')} --> {target.value.replace('-', '_')}: {event.value}"
        for state, row in table.items()
        for event, target in row.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])


@pytest.mark.parametrize("table", [LEG, LIVE, PHASE], ids=["leg", "live", "phase"])
def test_the_readme_shows_the_tables_as_they_are(table: Any) -> None:
    """A transition that changes has to change in the picture too; the failure shows what to paste."""
    assert drawn(table) in README, drawn(table)


def test_the_readme_names_every_reason_of_admission() -> None:
    """In the order in which admission looks."""
    rows = [f"| `{outcome}` | {meaning} |" for outcome, meaning in WHY_NOT.items()]
    assert "\n".join(rows) in README, "\n".join(rows)
