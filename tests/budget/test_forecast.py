"""How many actors should wait, from how calls came: at once more, slowly fewer, and no more than there is room for."""

from __future__ import annotations

import pytest

from cluster.budget.forecast import START_MAX_S, START_S, Forecast, share


def test_without_calls_the_baseline_is_wanted() -> None:
    """Whatever the hour."""
    assert Forecast().wanted({"reception": 2, "sales": 0}, 1e6) == {"reception": 2, "sales": 0}
    assert Forecast().rate_per_s("reception", 1e6) == 0.0


def test_as_many_are_wanted_as_came_within_one_start() -> None:
    """A burst counts at once; calls that are farther apart than a start takes need one actor each."""
    forecast = Forecast()
    for second in range(5):
        forecast.arrived("reception", second * 0.1)
        forecast.arrived("sales", second * (START_S + 0.1))
    assert forecast.wanted({"reception": 2}, 0.4) == {"reception": 5, "sales": 1}


def test_a_burst_is_forgotten_slowly() -> None:
    """Half of it counts after two minutes, and after ten the baseline is all."""
    forecast = Forecast()
    for _ in range(10):
        forecast.arrived("reception", 0.0)
    wanted = [forecast.wanted({"reception": 2}, now)["reception"] for now in (0.0, 60.0, 125.0, 240.0, 600.0)]
    assert wanted == [10, 7, 5, 3, 2]


def test_a_smaller_wave_does_not_hide_a_larger_one() -> None:
    """What is expected is the worst of the last minutes."""
    forecast = Forecast()
    for now, calls in ((0.0, 10), (60.0, 3)):
        for _ in range(calls):
            forecast.arrived("reception", now)
    assert forecast.wanted({}, 60.0) == {"reception": 7}


def test_the_slower_actors_start_the_more_are_wanted() -> None:
    """The start time is learned; one that is out of all proportion counts as a quarter of a minute."""
    forecast = Forecast()
    for _ in range(100):
        forecast.timed(300.0)
    assert forecast.start_s == pytest.approx(START_MAX_S)
    for second in range(60):
        forecast.arrived("reception", float(second))
    assert forecast.wanted({}, 59.0) == {"reception": 15}


def test_the_rate_is_an_average_of_about_a_minute() -> None:
    """For people to read."""
    forecast = Forecast()
    for second in range(600):
        forecast.arrived("reception", second / 2)
    assert forecast.rate_per_s("reception", 300.0) == pytest.approx(2.0, rel=0.02)
    assert forecast.rate_per_s("reception", 360.0) == pytest.approx(2.0 / 2.718, rel=0.02)


@pytest.mark.parametrize(
    ("room", "shares"),
    [
        (0, {"reception": 0, "sales": 0, "rare": 0}),
        (1, {"reception": 1, "sales": 0, "rare": 0}),
        (3, {"reception": 2, "sales": 1, "rare": 0}),
        (4, {"reception": 3, "sales": 1, "rare": 0}),
        (6, {"reception": 5, "sales": 1, "rare": 0}),
        (99, {"reception": 6, "sales": 1, "rare": 2}),
    ],
)
def test_baselines_come_first_and_then_who_lacks_most(room: int, shares: dict[str, int]) -> None:
    """Where there is not room for all."""
    wanted = {"reception": 6, "sales": 1, "rare": 2}
    assert share({"reception": 2, "sales": 1}, wanted, room) == shares


def test_nothing_is_shared_where_nobody_wants_anything() -> None:
    """No profiles, no calls."""
    assert share({}, {}, 5) == {}
