"""The state tables of a call."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from cluster.call.states import LEG, LIVE, PHASE, Leg, LegEvent, Live, LiveEvent, Phase, PhaseEvent
from cluster.machine import IllegalTransition, step

MACHINES: list[tuple[Any, type[StrEnum], type[StrEnum]]] = [
    (LEG, Leg, LegEvent),
    (LIVE, Live, LiveEvent),
    (PHASE, Phase, PhaseEvent),
]


@pytest.mark.parametrize(("table", "states", "events"), MACHINES, ids=["leg", "live", "phase"])
def test_every_event_that_a_table_lacks_raises(table: Any, states: type[StrEnum], events: type[StrEnum]) -> None:
    """A pair of state and event is either in the table or an `IllegalTransition` that names both."""
    for state in states:
        for event in events:
            if event in table[state]:
                assert step(table, state, event) in states
            else:
                with pytest.raises(IllegalTransition, match=f"no {event.name} while {state.name}"):
                    step(table, state, event)


@pytest.mark.parametrize(
    ("table", "states", "end"), [(LEG, Leg, Leg.ENDED), (PHASE, Phase, Phase.OVER)], ids=["leg", "phase"]
)
def test_the_end_is_reachable_from_everywhere_and_final(table: Any, states: type[StrEnum], end: StrEnum) -> None:
    """No state is a trap, and nothing leads out of the end."""
    assert table[end] == {}
    for state in states:
        reached = {state}
        while (more := reached | {n for s in reached for n in table[s].values()}) != reached:
            reached = more
        assert end in reached
