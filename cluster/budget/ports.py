"""What `cluster.budget` needs of the world, as `actors/` and tests give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from cluster.budget.placement import Node
from cluster.messages import ActorStatus, Assignment, CallRecord, CallRequest, Prepared


class ActorLost(Exception):
    """A call actor did not answer.

    `gone` says that its process has certainly ended. Otherwise it may be alive behind a dead network, and spending.
    """

    def __init__(self, *, gone: bool) -> None:
        super().__init__("the call actor's process has ended" if gone else "the call actor can't be reached")
        self.gone = gone


class CallActorPort(Protocol):
    """A call actor's address. Every method raises `ActorLost`."""

    async def prepare(self, profile_name: str) -> Prepared:
        """Have a fresh Live session set up; returns what became of it."""

    async def start(self, assignment: Assignment) -> None:
        """Begin the call, and return at once."""

    async def wait(self) -> CallRecord:
        """Return when the call has ended."""

    async def hangup(self, reason: str) -> bool:
        """End the running call; `reason` is an outcome as text."""

    async def status(self) -> ActorStatus:
        """The actor's account of itself."""

    async def release(self) -> None:
        """Close everything, before `kill`."""


class CallActors(Protocol):
    """Where call actors come from and go to."""

    async def create(self, slot: str, avoid_nodes: Collection[str]) -> CallActorPort:
        """Begin to start a call actor of that name on another node than those.

        Its first answer comes when its process is up.
        """

    async def find(self) -> Mapping[str, CallActorPort]:
        """Every call actor that lives, by slot."""

    async def kill(self, actor: CallActorPort) -> None:
        """End its process at once."""

    async def nodes(self) -> Collection[Node]:
        """Every node that offers call slots; none where the cluster's nodes do not say how many."""


class History(Protocol):
    """The `Records` actor. Both may be repeated: the first ending of a call is its ending. Both may raise anything."""

    async def begin(self, request: CallRequest, started_at: float) -> None:
        """A call was admitted. `started_at` is UTC seconds."""

    async def finish(self, record: CallRecord) -> None:
        """A call is over."""


CloseRoom = Callable[[str], Awaitable[bool]]
"""Deletes a LiveKit room, which hangs up its phone leg; False where LiveKit did not answer."""
