"""The limits, as the settings give them."""

from __future__ import annotations

import pytest

from cluster.budget.budgets import Thresholds
from cluster.budget.rules import desk_rules
from cluster.errors import SettingsError
from cluster.profiles import Profile
from cluster.settings import load_settings

ENVIRONMENT = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "secret",
    "GEMINI_API_KEY": "key",
}


def test_the_rules_are_those_of_the_settings(profiles: dict[str, Profile]) -> None:
    """Every limit comes from one setting."""
    settings = load_settings(
        {
            **ENVIRONMENT,
            "RINGMASTER_MAX_CALLS": "12",
            "RINGMASTER_PARKED": "receptionist=3,reminder=1",
            "RINGMASTER_DAILY_BUDGET_USD": "1.5",
            "RINGMASTER_LEASE_TTL_S": "9",
            "RINGMASTER_BUDGET_CONCISE_AT": "0.5",
            "RINGMASTER_BUDGET_PRIORITY_AT": "0.8",
        }
    )
    rules = desk_rules(settings, profiles)
    assert (rules.max_calls, rules.pool.max_actors) == (12, 12)
    assert dict(rules.pool.baseline) == {"receptionist": 3, "reminder": 1}
    assert rules.daily_budget_usd_micros == 1_500_000
    assert rules.thresholds == Thresholds(concise_at=0.5, priority_at=0.8)
    assert (rules.lease_ttl_s, rules.renew_every_s) == (9, 0.5)


def test_parked_actors_of_a_profile_that_does_not_exist_are_refused(profiles: dict[str, Profile]) -> None:
    """A typing mistake is found at the start."""
    settings = load_settings({**ENVIRONMENT, "RINGMASTER_PARKED": "receptonist=3"})
    with pytest.raises(SettingsError, match=r"RINGMASTER_PARKED.*'receptonist'.*there are receptionist"):
        desk_rules(settings, profiles)
