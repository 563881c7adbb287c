"""A tenant's money of today, from `BudgetPool`'s statistics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Budget:
    """Micro-dollars."""

    limit_usd_micros: int
    spent_usd_micros: int
    reserved_usd_micros: int
    """Held for calls that are going on."""


def budget_of(tenant: str, statistics: Mapping[str, Any]) -> Budget:
    """What the tenant may spend today, and what of it is gone or held."""
    return Budget(
        limit_usd_micros=statistics["daily_budget_usd_micros"],
        spent_usd_micros=statistics["spent_usd_micros"].get(tenant, 0),
        reserved_usd_micros=statistics["reserved_usd_micros"].get(tenant, 0),
    )
