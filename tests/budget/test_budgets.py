"""Budgets: their windows, whose money a call spends, and what is left."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.budget.budgets import (
    EVERYONE,
    UNLIMITED,
    Budget,
    Mode,
    Owner,
    Purse,
    Scope,
    Standing,
    Thresholds,
    Treasury,
    Window,
)

AT = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400.0


def a_budget(scope: Scope, name: str, window: Window = Window.DAY, cap: int = 100, time_zone: str = "UTC") -> Budget:
    """A cap."""
    return Budget(scope=scope, name=name, window=window, cap_usd_micros=cap, time_zone=time_zone)


def owner(tenant: str = "acme", campaign: str = "", at: float = AT) -> Owner:
    """A call of the profile `baker`."""
    return Owner(tenant=tenant, campaign=campaign, profile="baker", at=at)


@pytest.mark.parametrize(
    ("window", "time_zone", "begins", "ends"),
    [
        (Window.DAY, "UTC", "2026-11-24T00:00+00:00", "2026-11-25T00:00+00:00"),
        (Window.DAY, "America/Los_Angeles", "2026-11-24T00:00-08:00", "2026-11-25T00:00-08:00"),
        (Window.DAY, "Pacific/Auckland", "2026-11-25T00:00+13:00", "2026-11-26T00:00+13:00"),
        (Window.MONTH, "UTC", "2026-11-01T00:00+00:00", "2026-12-01T00:00+00:00"),
        (Window.MONTH, "America/Los_Angeles", "2026-11-01T00:00-07:00", "2026-12-01T00:00-08:00"),
    ],
)
def test_windows_begin_at_the_midnights_of_their_zone(window: Window, time_zone: str, begins: str, ends: str) -> None:
    """Also where the clocks change in between."""
    bounds = a_budget(Scope.TENANT, "acme", window, time_zone=time_zone).bounds(AT)
    assert bounds == (datetime.fromisoformat(begins).timestamp(), datetime.fromisoformat(ends).timestamp())


@given(
    st.floats(1_600_000_000, 2_000_000_000),
    st.sampled_from([Window.DAY, Window.MONTH]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe"]),
)
def test_every_moment_is_in_one_window(at: float, window: Window, time_zone: str) -> None:
    """Windows follow each other without a gap."""
    budget = a_budget(Scope.TENANT, "acme", window, time_zone=time_zone)
    begins, ends = budget.bounds(at)
    assert begins <= at < ends
    assert budget.bounds(begins) == budget.bounds(ends - 0.001) == (begins, ends)
    assert budget.bounds(ends)[0] == ends


def test_a_total_has_no_end() -> None:
    """What was spent of it is spent for ever."""
    assert a_budget(Scope.CAMPAIGN, "spring", Window.TOTAL).bounds(AT) == (-math.inf, math.inf)


def test_a_call_is_paid_by_every_budget_that_it_falls_under() -> None:
    """Its tenant's, its campaign's and its profile's; its own comes before that of everyone."""
    default = a_budget(Scope.TENANT, EVERYONE)
    own, month = a_budget(Scope.TENANT, "acme", cap=7), a_budget(Scope.TENANT, EVERYONE, Window.MONTH)
    campaigns, baker = a_budget(Scope.CAMPAIGN, EVERYONE, Window.TOTAL), a_budget(Scope.PROFILE, "baker")
    treasury = Treasury((default, own, month, campaigns, baker, a_budget(Scope.PROFILE, "clerk")))
    assert [(purse.budget, purse.name) for purse in treasury.purses(owner(campaign="spring"))] == [
        (own, "acme"),
        (month, "acme"),
        (campaigns, "spring"),
        (baker, "baker"),
    ]
    assert [purse.budget for purse in treasury.purses(owner("zeta"))] == [default, month, baker]


def test_the_tightest_budget_says_how_much_is_left() -> None:
    """What is spent and what is held are missing in every one of them."""
    treasury = Treasury((a_budget(Scope.TENANT, EVERYONE), a_budget(Scope.PROFILE, "baker", cap=150)))
    acme, zeta = treasury.purses(owner()), treasury.purses(owner("zeta"))
    treasury.hold(acme, 60)
    assert (treasury.room_usd_micros(acme), treasury.room_usd_micros(zeta)) == (40, 90)
    treasury.hold(acme, -60)
    treasury.spend(acme, 70)
    assert (treasury.room_usd_micros(acme), treasury.room_usd_micros(zeta)) == (30, 80)
    assert treasury.is_concise(acme)
    assert not treasury.is_concise(zeta)
    assert treasury.room_usd_micros(()) == UNLIMITED


@pytest.mark.parametrize(
    ("spent", "held", "mode"),
    [
        (69, 0, Mode.OPEN),
        (0, 70, Mode.CONCISE),
        (50, 39, Mode.CONCISE),
        (50, 40, Mode.PRIORITY),
        (99, 1, Mode.USED_UP),
        (120, 0, Mode.USED_UP),
    ],
)
def test_the_mode_follows_from_what_is_spent_and_held(spent: int, held: int, mode: Mode) -> None:
    """At 70 % brief, at 90 % only important calls."""
    purse = Purse(a_budget(Scope.TENANT, "acme"), "acme", 0.0, DAY_S)
    assert Standing(purse, spent, held).mode(Thresholds()) is mode


def test_what_was_spent_before_is_taken_over_where_there_is_a_budget_for_it() -> None:
    """Whoever has a budget of their own does not count for that of everyone, nor do calls without a campaign."""
    default, own = a_budget(Scope.TENANT, EVERYONE), a_budget(Scope.TENANT, "acme", cap=7)
    campaigns = a_budget(Scope.CAMPAIGN, EVERYONE)
    treasury = Treasury((default, own, campaigns))
    for window in treasury.windows([AT, AT + 1.0]):
        for name in ("acme", "zeta", ""):
            if window.name in {EVERYONE, name}:
                treasury.load(Purse(window.budget, name, window.begins_at, window.ends_at), 5)
    found = {(standing.purse.budget, standing.purse.name): standing.spent_usd_micros for standing in treasury.now(AT)}
    assert found == {(own, "acme"): 5, (default, "zeta"): 5, (campaigns, "acme"): 5, (campaigns, "zeta"): 5}


def test_windows_that_are_over_are_shown_while_they_hold_money_and_forgotten_then() -> None:
    """The next one begins with nothing."""
    treasury = Treasury((a_budget(Scope.TENANT, EVERYONE), a_budget(Scope.TENANT, "rich", Window.TOTAL)))
    today, tomorrow = treasury.purses(owner()), treasury.purses(owner(at=AT + DAY_S))
    treasury.hold(today, 10)
    treasury.hold(tomorrow, 20)
    treasury.forget(AT + DAY_S)
    shown = treasury.now(AT + DAY_S)
    assert [(s.purse.name, s.held_usd_micros) for s in shown] == [("acme", 10), ("acme", 20), ("rich", 0)]
    assert {name: day.held_usd_micros for name, day in treasury.tenants_days(AT + DAY_S).items()} == {"acme": 20}
    treasury.hold(today, -10)
    treasury.spend(today, 3)
    treasury.forget(AT + DAY_S)
    assert [(s.purse.name, s.held_usd_micros) for s in treasury.now(AT)] == [("acme", 20), ("rich", 0)]
