"""The calls of a tenant as they stand: what the history has, and what `BudgetPool` knows better until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.dispatch.problems import Problem
from cluster.messages import Direction
from cluster.records.views import ENDED, QUEUED, STARTING, cost_view

if TYPE_CHECKING:
    from cluster.dispatch.api import Front
    from cluster.keys import Principal
    from cluster.messages import CallQuery


async def find_calls(front: Front, key: Principal, query: CallQuery, *, full_numbers: bool) -> list[dict[str, Any]]:
    """Calls of the key's tenant as they stand, newest first.

    Raises `Problem` for a `before` that is none of them, `ControlPlaneDown`.
    """
    found = await front.history.calls(key.tenant, query, full_numbers)
    if found is None:
        raise Problem("invalid-request", errors=[{"parameter": "before", "detail": "there is no such call"}])
    if any(call["state"] != ENDED for call in found):
        known = await _known(front, key)
        found = [_as_it_stands(call, known.get(call["call_id"])) for call in found]
    return found


async def find_call(front: Front, key: Principal, call_id: str) -> dict[str, Any]:
    """A call of the key's tenant as it stands. Raises `Problem` where there is none, `ControlPlaneDown`."""
    call = await look_up(front, key, call_id)
    if call is None:
        raise Problem("not-found", "there is no such call, or it is another tenant's")
    return call


async def look_up(front: Front, key: Principal, call_id: str) -> dict[str, Any] | None:
    """The same; None where there is none."""
    call = await front.history.call(call_id, key.tenant, key.may("admin"))
    if call is not None and call["state"] == ENDED:
        return call
    known = (await _known(front, key)).get(call_id)
    if call is None:
        # Admitted a moment ago: the lease is there before the history is.
        return None if known is None else _only_known(call_id, known)
    return _as_it_stands(call, known)


async def _known(front: Front, key: Principal) -> dict[str, dict[str, Any]]:
    """What `BudgetPool` knows of the tenant's calls: those that wait, and those that run."""
    waiting, live = await asyncio.gather(front.pool.queue(key.tenant), front.pool.live_calls(key.tenant))
    return {call["call_id"]: call for call in (*waiting, *live)}


def _as_it_stands(call: dict[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """The call with what `BudgetPool` knows better until it has ended: its place in the queue, its cost, its length."""
    if known is None or call["state"] == ENDED:
        return call
    if known["state"] == QUEUED:
        return call | {name: known[name] for name in ("state", "position", "estimated_wait_s", "waits_for")}
    cost = cost_view(known["cost_usd_micros"], known["charges_usd_micros"])
    return call | {"cost": cost, "duration_s": known["duration_s"]}


def _only_known(call_id: str, known: Mapping[str, Any]) -> dict[str, Any]:
    nothing_yet: dict[str, Any] = {"legs": [], "transcript": [], "timings_ms": {}, "quality": {}, "events": []}
    far_end = "to" if known["direction"] == Direction.OUTBOUND else "from"
    call = {"call_id": call_id, "state": STARTING, "cost": cost_view(0, {}), far_end: known["number"]}
    call |= {name: known[name] for name in ("direction", "profile")}
    return _as_it_stands(call | nothing_yet, known)
