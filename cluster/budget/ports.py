"""What `cluster.budget` needs of the world, as `actors/` and tests give it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from cluster.budget.fleet import Fleet
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

    @property
    def fingerprint(self) -> str:
        """Of the settings that new ones are made with."""

    async def create(self, slot: str, avoid: frozenset[str]) -> CallActorPort:
        """Begin to start a call actor of that name on none of the nodes `avoid`.

        Its first answer comes when its process is up.
        """

    async def find(self) -> Mapping[str, CallActorPort]:
        """Every call actor that lives, by slot."""

    async def kill(self, actor: CallActorPort) -> None:
        """End its process at once."""


class Nodes(Protocol):
    """The cluster's call nodes. Every method raises `NodesUnknown` while the cluster can't be asked."""

    async def fleet(self) -> Fleet:
        """Those there are."""

    async def request(self, slots: int, without: frozenset[str]) -> None:
        """How many call slots there should be in all, not counting those of some nodes.

        This is the cluster's only writer of it: the last one counts.
        """

    async def drain(self, node: str) -> bool:
        """Have a node end with its last actor. `node` is its id, its host's name or its address; False: not there."""


class NodesUnknown(Exception):
    """The cluster did not say; it can be asked again."""


class History(Protocol):
    """The `Records` actor. All may be repeated: the first ending of a call is its ending. All may raise anything."""

    async def begin(self, request: CallRequest, started_at: float, /) -> None:
        """A call was admitted. `started_at` is UTC seconds."""

    async def finish(self, record: CallRecord, /) -> None:
        """A call is over."""

    async def call(self, call_id: str, tenant: str | None, /) -> Mapping[str, Any] | None:
        """What is known of a call of a tenant (None: of any), as `call_view` shows it; None where nothing is."""


Farewell = Callable[[CallRequest], Awaitable[None]]
"""Tells the caller of a lost call that nobody can talk to them. May raise anything."""
CloseRoom = Callable[[str], Awaitable[bool]]
"""Deletes a LiveKit room, which hangs up its phone leg; False where LiveKit did not answer."""
