"""How fast a trunk is given calls."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cluster.budget.rate import Rate


@given(st.sampled_from([0.5, 1.0, 3.0, 20.0]), st.lists(st.floats(0.0, 0.4), min_size=1, max_size=60))
def test_no_second_has_more_calls_than_the_trunk_takes(per_second: float, pauses: list[float]) -> None:
    """Whenever somebody asks, and however long nobody did."""
    rate, now, placed = Rate(per_second, 0.0), 0.0, []
    for pause in pauses:
        now += pause
        if rate.wait_s(now) == 0.0:
            rate.take(now)
            placed.append(now)
    gaps = [later - earlier for earlier, later in pairwise(placed)]
    assert all(gap >= 1 / per_second - 1e-9 for gap in gaps)
    assert not placed or placed[0] >= 1 / per_second


def test_whoever_waits_as_long_as_told_is_served() -> None:
    """The wait is neither too short nor too long."""
    rate = Rate(4.0, 10.0)
    assert rate.wait_s(10.0) == 0.25
    rate.take(10.25)
    assert rate.wait_s(10.25) == 0.25
    assert rate.wait_s(10.5) == 0.0
