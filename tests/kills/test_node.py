"""A node is lost under a live call, as `make kills ARGS="--fault node"` does it many times."""

from __future__ import annotations

import random

from tests.kills.__main__ import office
from tests.kills.run import lose_node, take_away


def test_a_call_goes_on_on_another_node() -> None:
    """The phone stays up, what was said before is known, and nothing is said or done twice."""
    with office(1, call_nodes=2) as (system, book):
        result = take_away(system, book, "agent", lose_node, random.Random(1))  # noqa: S311 - the same again
    assert (result.leg_up, result.remembered, result.doubled, result.outcome) == (True, True, (), "agent-ended")
    assert result.orders <= max(1, result.asked)
