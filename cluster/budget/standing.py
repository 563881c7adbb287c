"""How the pool stands, as plain numbers: what `GET /v1/pool` and `/metrics` show. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cluster.budget.fleet import Fleet
from cluster.budget.pool import Pool
from cluster.budget.slots import READINESS, SlotState


def standing(pool: Pool, fleet: Fleet, now: float) -> dict[str, Any]:
    """By profile, by node as last seen, and what bounds it, as JSON. `now` is monotonic seconds."""
    slots, rules = pool.slots(), pool.rules
    return {
        "profiles": [_profile(pool, profile, now) for profile in pool.targets],
        "nodes": _nodes(pool, fleet),
        "start_s": round(pool.forecast.start_s, 2),
        "actors": {"now": len(slots), "most": rules.max_actors},
        "sessions": {"now": len(pool.with_session()), "most": pool.max_sessions},
        "memory_mb": {"now": round(sum(slot.memory_mb for slot in slots)), "most": rules.memory_mb},
    }


def statistics(pool: Pool) -> dict[str, Any]:
    """How many actors do what, and how often one was lent, by profile and by whether one was parked for the call."""
    states = Counter(slot.state for slot in pool.slots())
    return {
        "actors": states.total(),
        "parked": states[SlotState.PARKED],
        "busy": states[SlotState.LENT],
        "starting": states[SlotState.STARTING],
        "preparing": states[SlotState.PREPARING],
        "idle": states[SlotState.IDLE],
        "parked_by_profile": Counter(slot.profile for slot in pool.slots() if slot.state is SlotState.PARKED),
        "wanted_by_profile": dict(pool.targets),
        "lent_by_profile": {
            (profile, "warm" if warm else "cold"): times for (profile, warm), times in pool.lent.items()
        },
    }


def _profile(pool: Pool, profile: str, now: float) -> dict[str, Any]:
    parked = sum(slot.state is SlotState.PARKED and slot.profile == profile for slot in pool.slots())
    return {
        "profile": profile,
        "baseline": pool.rules.baseline.get(profile, 0),
        "wanted": pool.targets[profile],
        "parked": parked,
        "parking": pool.waiting_by_profile()[profile] - parked,
        "calls_per_minute": round(pool.forecast.rate_per_s(profile, now) * 60, 2),
        "lent_warm": pool.lent[profile, True],
        "lent_cold": pool.lent[profile, False],
    }


def _nodes(pool: Pool, fleet: Fleet) -> list[dict[str, Any]]:
    lent = Counter(slot.node for slot in pool.slots() if slot.state is SlotState.LENT)
    waiting = Counter(slot.node for slot in pool.slots() if slot.state in READINESS)
    return [
        {
            "node": node,
            "call_slots": fleet.slots.get(node),
            "live": lent[node],
            "waiting": waiting[node],
            "draining": node in fleet.draining,
            "leaving": node in pool.leaving,
        }
        for node in sorted({*fleet.slots, *lent, *waiting} - {""})
    ]
