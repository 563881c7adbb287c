"""What dispatch needs of others: the two control actors, and LiveKit's rooms.

The actors are reached through handles that have these methods; in tests the actors themselves do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cluster.messages import Admission, CallQuery, CallRecord, CallRequest

if TYPE_CHECKING:
    # Not at run time: a call process imports this module and needs no database library (22 MB).
    from cluster.keys import Principal


class ControlPlaneDown(Exception):
    """`BudgetPool` or `Records` did not answer in time; the same message may be sent again."""


class Pool(Protocol):
    """`actors.budget_pool.BudgetPool`. Every method may raise `ControlPlaneDown`."""

    async def admit(self, request: CallRequest, /) -> Admission:
        """Whether the call may start; the same request gets the same answer."""

    async def hangup(self, call_id: str, /) -> bool:
        """End a call, or take it from the queue. False if it is in neither."""

    async def live_calls(self, tenant: str | None, /) -> list[dict[str, Any]]:
        """The calls that hold a lease, of one tenant or (None) of all."""

    async def budgets(self) -> list[dict[str, Any]]:
        """How every budget stands."""

    async def queue(self, tenant: str | None, /) -> list[dict[str, Any]]:
        """The calls that wait to start, of one tenant or of all, in the order of their arrival."""

    async def policy(self) -> dict[str, Any]:
        """The policy that holds, as JSON."""

    async def adopt_policy(self, fields: Mapping[str, Any], /) -> None:
        """From now on this policy, which was checked, holds."""

    async def pool(self) -> dict[str, Any]:
        """How the pool of call actors stands."""

    async def statistics(self) -> dict[str, Any]:
        """Numbers for monitoring, and `draining`."""

    async def authenticate(self, key_sha256_hex: str, /) -> Principal | None:
        """Whose key this is."""


class History(Protocol):
    """`actors.records.Records`. Every method may raise `ControlPlaneDown`."""

    async def call(self, call_id: str, tenant: str | None, full_numbers: bool, /) -> dict[str, Any] | None:  # noqa: FBT001 an actor's method
        """One call, or None if this tenant has no such call."""

    async def calls(self, tenant: str | None, query: CallQuery, full_numbers: bool, /) -> list[dict[str, Any]] | None:  # noqa: FBT001 an actor's method
        """Calls, newest first; None where `query.before` is none of them."""

    async def events(self, call_id: str, after: int, timeout_s: float, /) -> list[tuple[int, dict[str, Any]]]:
        """A call's events numbered higher than `after`; waits for the first."""

    async def standings(self, version: int, /) -> list[dict[str, Any]]:
        """How each live call stands that has changed after `version`."""

    async def finish(self, record: CallRecord, /) -> bool:
        """Write how a call ended. False if it had ended already."""

    async def statistics(self) -> dict[str, Any]:
        """Numbers for monitoring."""

    async def webhook_seen(self, event_id: str, /) -> bool:
        """True the first time."""


@dataclass(frozen=True, slots=True)
class Present:
    """A participant that is in a room now."""

    kind: str
    """`STANDARD`, `SIP`, `AGENT` … as LiveKit names them."""
    attributes: Mapping[str, str] = field(repr=False)  # pii


@dataclass(frozen=True, slots=True)
class Rule:
    """A SIP dispatch rule: which agents it asks for, with the metadata for each."""

    rule_id: str
    agents: Mapping[str, str] = field(repr=False)


class Rooms(Protocol):
    """LiveKit's server API, as far as dispatch uses it."""

    async def delete(self, room: str, /) -> bool:
        """Hang up: everybody is put out. False where LiveKit could not be reached."""

    async def present(self, room: str, /) -> Sequence[Present] | None:
        """Who is in the room, nobody if there is no such room; None if LiveKit did not answer."""

    async def rule(self, rule_id: str, /) -> Rule | None:
        """The SIP dispatch rule; None if there is none or no answer."""
