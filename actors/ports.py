"""The ports of `cluster.budget`, as Ray has them: its actors behind plain async methods and one exception."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import ray.exceptions

from actors import names, nodes
from cluster.budget.ports import ActorLost, CallActorPort, NodesUnknown
from cluster.fingerprint import fingerprint

if TYPE_CHECKING:
    from cluster.budget.fleet import Fleet
    from cluster.messages import ActorStatus, Assignment, CallRecord, CallRequest, Prepared
    from cluster.settings import Settings

T = TypeVar("T")
NODE_DIED = "its node has died"
"""Part of the text of Ray's error; the exception itself does not say what died."""


class RayCallActors:
    """Where call actors come from and go to. Ray's own calls block, so each has a thread."""

    def __init__(self, settings: Settings) -> None:
        self.fingerprint = fingerprint(settings)
        self._settings = settings

    async def create(self, slot: str, avoid: frozenset[str]) -> CallActorPort:
        """Begin to start a call actor."""
        return RayCallActor(await asyncio.to_thread(names.create_call_actor, slot, self._settings, avoid))

    async def find(self) -> Mapping[str, CallActorPort]:
        """Every call actor that lives, by slot."""
        found = await asyncio.to_thread(names.find_call_actors)
        return {slot: RayCallActor(handle) for slot, handle in found.items()}

    async def kill(self, actor: CallActorPort) -> None:
        """End its process at once; with a method pending it would not end by itself."""
        assert isinstance(actor, RayCallActor)  # noqa: S101 - there are no others here
        await asyncio.to_thread(names.kill, actor.handle)


class RayCallActor:
    """A call actor's handle, whose every failure is `ActorLost`."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    async def prepare(self, profile_name: str) -> Prepared:
        """Have a fresh Live session set up."""
        return await _answer(self.handle.prepare.remote(profile_name))

    async def start(self, assignment: Assignment) -> None:
        """Begin the call."""
        await _answer(self.handle.start.remote(assignment))

    async def wait(self) -> CallRecord:
        """Return when the call has ended."""
        return await _answer(self.handle.wait.remote())

    async def hangup(self, reason: str) -> bool:
        """End the running call."""
        return await _answer(self.handle.hangup.remote(reason))

    async def status(self) -> ActorStatus:
        """The actor's account of itself."""
        return await _answer(self.handle.status.remote())

    async def release(self) -> None:
        """Close everything."""
        await _answer(self.handle.release.remote())


class RayNodes:
    """The call nodes, and the autoscaler that makes them."""

    async def fleet(self) -> Fleet:
        """Those there are."""
        return await _ask(nodes.fleet)

    async def request(self, slots: int, without: frozenset[str]) -> None:
        """How many call slots there should be, not counting those of some nodes."""
        await _ask(nodes.request_slots, slots, without)

    async def drain(self, node: str) -> bool:
        """Have a node end with its last actor."""
        return await _ask(nodes.drain, node)


async def farewell(settings: Settings, request: CallRequest) -> None:
    """Have a caller told that the call is lost. Raises whatever went wrong."""
    await names.farewell(settings, request)


async def _answer(reference: Awaitable[T]) -> T:
    """What the actor's method returned. Whatever it raised, nothing can be expected of that actor."""
    try:
        return await reference
    except ray.exceptions.ActorDiedError as error:
        # A node that Ray gave up may be cut off only, with the call in it going on.
        raise ActorLost(gone=NODE_DIED not in str(error)) from None
    except (ray.exceptions.RayError, OSError):
        raise ActorLost(gone=False) from None


async def _ask(question: Callable[..., T], *arguments: Any) -> T:
    """What Ray's head says."""
    try:
        return await asyncio.to_thread(question, *arguments)
    except (ray.exceptions.RayError, OSError) as error:
        raise NodesUnknown(type(error).__name__) from None
