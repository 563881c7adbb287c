"""The limits that admission and the pool keep, as the settings give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.budget.breaker import BreakerRules
from cluster.budget.budgets import Thresholds
from cluster.budget.pool import PoolRules
from cluster.budget.prices import Prices, load_prices
from cluster.errors import SettingsError

if TYPE_CHECKING:
    from cluster.profiles import Profile
    from cluster.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskRules:
    """Limits of the whole installation."""

    max_calls: int
    daily_budget_usd_micros: int
    """Per day (UTC), of tenants for which the policy has no daily budget."""
    prices: Prices
    renew_every_s: float
    lease_ttl_s: float
    setup_timeout_s: float
    """An actor's own limit for setting up a Live session."""
    pool: PoolRules
    outbound_trunk: str = ""
    """LiveKit's id of the trunk that dials where the policy names none."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    breaker: BreakerRules = field(default_factory=BreakerRules)


def desk_rules(settings: Settings, profiles: Mapping[str, Profile]) -> DeskRules:
    """The limits that the settings give. Raises `PriceError` for a wrong table of prices.

    Raises `SettingsError` for parked actors of a profile that does not exist.
    """
    pool = settings.pool
    for name in pool.parked:
        if name not in profiles:
            known = ", ".join(sorted(profiles))
            raise SettingsError(
                f"RINGMASTER_PARKED names the profile {name!r}, which does not exist; there are {known}"
            )
    return DeskRules(
        max_calls=pool.max_calls,
        daily_budget_usd_micros=settings.budget.daily_usd_micros,
        thresholds=Thresholds(concise_at=settings.budget.concise_at, priority_at=settings.budget.priority_at),
        prices=load_prices(settings.budget.prices_file),
        renew_every_s=pool.renew_every_s,
        lease_ttl_s=pool.lease_ttl_s,
        setup_timeout_s=settings.live.setup_timeout_s,
        outbound_trunk=settings.dispatch.outbound_trunk_id or "",
        pool=PoolRules(
            max_actors=pool.max_calls,
            baseline=dict(pool.parked),
            memory_mb=pool.memory_mb,
            min_nodes=pool.min_nodes,
            session_max_age_s=pool.parked_max_age_s,
            actor_max_calls=pool.actor_max_calls,
            actor_max_age_s=pool.actor_max_age_s,
            actor_max_growth_mb=pool.actor_max_growth_mb,
        ),
    )
