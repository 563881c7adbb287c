"""What a campaign's driver needs of others. Every method of the three actors may raise `ControlPlaneDown`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cluster.dispatch.ports import Present
from cluster.messages import Admission, CallRequest

if TYPE_CHECKING:
    from cluster.campaign.contacts import Contact
    from cluster.campaign.pace import Tally
    from cluster.campaign.store import Begun, Entry, Move


class Book(Protocol):
    """`actors.campaigns.Campaigns`; see `CampaignStore` for what each method does."""

    async def open(self, name: str, tenant: str, driver: str, now: float, /) -> str:
        """Take a campaign over."""

    async def close(self, name: str, driver: str, state: str, why: str, /) -> None:
        """It is over."""

    async def add(self, campaign: str, driver: str, found: Sequence[tuple[Contact, float]], /) -> None:
        """Take in contacts."""

    async def left_out(self, campaign: str, driver: str, limit: int, /) -> list[Entry]:
        """Who waits, and was not in the file."""

    async def waiting(self, campaign: str, limit: int, /) -> list[Entry]:
        """Who waits, in the order in which they are due."""

    async def unfinished(self, campaign: str, /) -> list[Entry]:
        """Whose last call has no known end."""

    async def begin(self, driver: str, move: Move, /) -> Begun:
        """Write down an attempt."""

    async def move(self, moves: Sequence[Move], /) -> None:
        """Take steps."""

    async def state(self, campaign: str, /) -> tuple[str, str] | None:
        """Its state and what stopped it."""

    async def tally(self, campaign: str, /) -> Tally:
        """How far it is."""


class Pool(Protocol):
    """`actors.budget_pool.BudgetPool`."""

    async def admit(self, request: CallRequest, /) -> Admission:
        """Whether the call may start; the same request gets the same answer."""

    async def live_calls(self, tenant: str | None, /) -> list[dict[str, Any]]:
        """The calls that run."""

    async def queue(self, tenant: str | None, /) -> list[dict[str, Any]]:
        """The calls that wait to start."""

    async def leave_queue(self, call_id: str, /) -> bool:
        """Take a call from the queue, which ends it as `WITHDRAWN`; False, and nothing else, if it does not wait."""


class History(Protocol):
    """`actors.records.Records`."""

    async def call(self, call_id: str, tenant: str | None, full_numbers: bool, /) -> dict[str, Any] | None:  # noqa: FBT001 an actor's method
        """One call, or None if there is none."""


class Rooms(Protocol):
    """LiveKit."""

    async def present(self, room: str, /) -> Sequence[Present] | None:
        """Who is in the room; None if LiveKit did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Whom a driver asks."""

    book: Book
    pool: Pool
    history: History
    rooms: Rooms
