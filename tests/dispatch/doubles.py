"""Stand-ins for what dispatch asks: a scripted `BudgetPool`, and rooms that remember what was done to them.

The history is not doubled: tests use the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.budget.fleet import Fleet
from cluster.budget.pool import Pool
from cluster.budget.slots import Slot, SlotState
from cluster.budget.standing import standing
from cluster.dispatch.ports import ControlPlaneDown, Present, Rule
from cluster.keys import Principal, sha256_hex
from cluster.messages import Admission, Admitted, CallQuery, CallRecord, CallRequest
from cluster.records.history import History
from cluster.telephony.masking import mask
from tests.budget.house import desk_rules

KEY = "rm_1_calls"
ADMIN_KEY = "rm_2_admin"
CAMPAIGNS_KEY = "rm_3_campaigns"
OTHER_KEY = "rm_4_other"
PRINCIPALS = {
    KEY: Principal("acme", frozenset({"calls"}), "1"),
    ADMIN_KEY: Principal("acme", frozenset({"admin"}), "2"),
    CAMPAIGNS_KEY: Principal("acme", frozenset({"campaigns"}), "3"),
    OTHER_KEY: Principal("other", frozenset({"calls"}), "4"),
}


class PoolDouble:
    """Admits everything, or answers as scripted; the same request gets the same admission."""

    def __init__(self) -> None:
        self.answers: list[Admission | Exception] = []
        """Given one by one before anything is admitted."""
        self.asked: list[CallRequest] = []
        self.admitted: dict[tuple[str, str], Admitted] = {}
        self.live: dict[str, dict[str, Any]] = {}
        self.queued: dict[str, dict[str, Any]] = {}
        self.hung_up: list[str] = []
        self.applied: dict[str, Any] = {}
        self.down = False
        self.draining = False
        self.revoked: set[str] = set()
        """Keys that are good no more."""
        self.key_lookups = 0

    async def admit(self, request: CallRequest) -> Admission:
        """As scripted, else yes."""
        self._check()
        self.asked.append(request)
        known = self.admitted.get((request.tenant, request.request_id))
        if known is not None:
            return known
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        admitted = Admitted(call_id=request.call_id, lease_id=f"lease-{request.call_id}", warm=True)
        self.admitted[request.tenant, request.request_id] = admitted
        self.live[request.call_id] = {
            "call_id": request.call_id,
            "tenant": request.tenant,
            "state": "dialling",
            "direction": request.direction.value,
            "profile": request.profile,
            "number": mask(request.to or request.from_),
            "slot": "call-slot-1",
            "started_at": 1_790_000_000.0,
            "duration_s": 1.5,
            "cost_usd_micros": 777,
            "charges_usd_micros": {"model": 777},
        }
        return admitted

    async def hangup(self, call_id: str) -> bool:
        """End a live call."""
        self._check()
        self.hung_up.append(call_id)
        return (self.live.pop(call_id, None) or self.queued.pop(call_id, None)) is not None

    async def live_calls(self, tenant: str | None) -> list[dict[str, Any]]:
        """Those admitted and not ended."""
        self._check()
        return [call for call in self.live.values() if tenant in {None, call["tenant"]}]

    async def budgets(self) -> list[dict[str, Any]]:
        """One, of a tenant's day."""
        self._check()
        of = {"scope": "tenant", "name": "acme", "window": "day", "time_zone": "UTC", "mode": "concise"}
        money = {"cap_usd_micros": 100, "spent_usd_micros": 60, "held_usd_micros": 15, "free_usd_micros": 25}
        return [{**of, **money, "begins_at": 0.0, "ends_at": 86_400.0}]

    async def queue(self, tenant: str | None) -> list[dict[str, Any]]:
        """Those that wait."""
        self._check()
        return [call for call in self.queued.values() if tenant in {None, call["tenant"]}]

    async def policy(self) -> dict[str, Any]:
        """The last that was applied."""
        self._check()
        return self.applied

    async def adopt_policy(self, fields: Mapping[str, Any]) -> None:
        """It holds."""
        self._check()
        self.applied = dict(fields)

    async def pool(self) -> dict[str, Any]:
        """How a pool with one parked actor stands."""
        self._check()
        pool = Pool(desk_rules().pool, iter(()))
        pool.adopt(Slot("s1", 0.0, SlotState.PARKED, 0.0, "receptionist", node="n1"))
        return standing(pool, Fleet({"n1": 8}), 0.0)

    async def statistics(self) -> dict[str, Any]:
        """A few numbers."""
        self._check()
        return {
            "draining": self.draining,
            "live_calls": len(self.live),
            "max_calls": 10,
            "busy": len(self.live),
            "free": 8,
            "parked": 2,
            "parked_by_profile": {"receptionist": 2},
            "takeovers": {"warm": 1},
            **dict.fromkeys(("preparing", "idle", "starting", "lost_actors", "failed_setups"), 0),
            "admitted": {"warm": 3, "cold": 1},
            "turned_away": {"capacity": 2},
            "ended": {"success/agent-ended": 5},
            "breakers": {"gemini-3.8-live": {"state": "open"}},
            "spent_usd_micros": {"acme": 60, "other": 7},
            "reserved_usd_micros": {"acme": 15, "other": 1},
        }

    async def authenticate(self, key_sha256_hex: str) -> Principal | None:
        """By the table above."""
        self._check()
        self.key_lookups += 1
        good = ((key, who) for key, who in PRINCIPALS.items() if key not in self.revoked)
        return next((who for key, who in good if sha256_hex(key) == key_sha256_hex), None)

    def _check(self) -> None:
        if self.down:
            raise ControlPlaneDown


class HistoryPort:
    """The real history as an actor's handle gives it: positional arguments, and able to be down."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.down = False

    async def call(self, call_id: str, tenant: str | None, full_numbers: bool) -> dict[str, Any] | None:  # noqa: FBT001
        """See `History`."""
        self._check()
        return await self.history.call(call_id, tenant, full_numbers=full_numbers)

    async def calls(self, tenant: str | None, query: CallQuery, full_numbers: bool) -> list[dict[str, Any]] | None:  # noqa: FBT001
        """See `History`."""
        self._check()
        return await self.history.calls(tenant, query, full_numbers=full_numbers)

    async def events(self, call_id: str, after: int, timeout_s: float) -> list[tuple[int, dict[str, Any]]]:
        """See `History`."""
        self._check()
        return await self.history.events(call_id, after, timeout_s)

    async def standings(self, version: int) -> list[dict[str, Any]]:
        """See `History`."""
        self._check()
        return self.history.standings(version)

    async def finish(self, record: CallRecord) -> bool:
        """See `History`."""
        self._check()
        return await self.history.finish(record)

    async def statistics(self) -> dict[str, Any]:
        """See `History`."""
        self._check()
        return self.history.statistics()

    async def webhook_seen(self, event_id: str) -> bool:
        """See `History`."""
        self._check()
        return await self.history.webhook_seen(event_id)

    def _check(self) -> None:
        if self.down:
            raise ControlPlaneDown


class RoomsDouble:
    """Rooms with who is in them, and SIP rules."""

    def __init__(self) -> None:
        self.inside: dict[str, Sequence[Present]] = {}
        self.deleted: list[str] = []
        self.rules: dict[str, Mapping[str, str]] = {}

    async def delete(self, room: str) -> bool:
        """Everybody is out."""
        self.deleted.append(room)
        self.inside.pop(room, None)
        return True

    async def present(self, room: str) -> Sequence[Present] | None:
        """Who is in the room."""
        return self.inside.get(room)

    async def rule(self, rule_id: str) -> Rule | None:
        """By the table."""
        agents = self.rules.get(rule_id)
        return None if agents is None else Rule(rule_id, agents)
