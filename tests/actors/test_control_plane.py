"""The control actors through their handles: an answer in time, or `ControlPlaneDown`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from actors import control_plane as c
from actors import names
from cluster.dispatch.ports import ControlPlaneDown


class Method:
    """An actor's method as its handle has it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def remote(self, *arguments: Any) -> Awaitable[Any]:
        """Send the message."""

        async def answered() -> Any:
            if isinstance(self._answer, Exception):
                raise self._answer
            return await self._answer(*arguments) if callable(self._answer) else (self._answer, arguments)

        return answered()


class Handle:
    """An actor's handle."""

    def __init__(self, **answers: Any) -> None:
        for name, answer in answers.items():
            setattr(self, name, Method(answer))


async def test_a_message_and_its_answer() -> None:
    """The arguments arrive, the answer comes back, and the actor is looked up once."""
    found: list[Handle] = []

    def find() -> Handle:
        found.append(Handle(admit="yes"))
        return found[-1]

    remote = c.Remote(find)
    assert [await remote.admit(1, 2), await remote.admit()] == [("yes", (1, 2)), ("yes", ())]
    assert len(found) == 1


@pytest.mark.parametrize("error", [ActorUnavailableError("restarting", None), TimeoutError(), ValueError("no actor")])
async def test_an_actor_that_does_not_answer(error: Exception) -> None:
    """It may be back in a moment under the same handle."""
    remote = c.Remote(lambda: Handle(admit=error, statistics="well"))
    with pytest.raises(ControlPlaneDown):
        await remote.admit()
    assert await remote.statistics() == ("well", ())


async def test_an_actor_that_is_not_there_yet() -> None:
    """The look-up is tried again with the next message."""
    handles: list[Handle | Exception] = [ValueError("Failed to look up actor"), Handle(admit="yes")]

    def find() -> Handle:
        handle = handles.pop(0)
        if isinstance(handle, Exception):
            raise handle
        return handle

    remote = c.Remote(find)
    with pytest.raises(ControlPlaneDown):
        await remote.admit()
    assert await remote.admit() == ("yes", ())


async def test_an_actor_that_was_replaced() -> None:
    """Its name leads to the new one, and who asks does not notice; at once, or if there is none yet, later."""
    handles = [Handle(admit=ActorDiedError()), Handle(admit="yes")]
    remote = c.Remote(lambda: handles.pop(0))
    assert await remote.admit() == ("yes", ())
    handles = [Handle(admit=ActorDiedError()), Handle(admit=ActorDiedError()), Handle(admit="yes")]
    remote = c.Remote(lambda: handles.pop(0))
    with pytest.raises(ControlPlaneDown):
        await remote.admit()
    assert await remote.admit() == ("yes", ())


async def test_an_actor_that_is_looked_up_ahead() -> None:
    """Its handle is there with the first message."""
    handles = [Handle(admit="yes")]
    remote = c.Remote(lambda: handles.pop(0))
    remote.look_up()
    assert handles == []
    assert await remote.admit() == ("yes", ())


async def test_an_answer_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever; only the long poll for events may take longer."""

    async def slowly() -> str:
        await asyncio.sleep(0.1)
        return "late"

    monkeypatch.setattr(c, "WITHIN_S", 0.01)
    remote = c.Remote(lambda: Handle(admit=slowly, events=slowly))
    with pytest.raises(ControlPlaneDown):
        await remote.admit()
    assert await remote.events() == "late"


async def test_a_bug_in_the_actor_is_no_outage() -> None:
    """It is told apart, so that it is seen."""
    remote = c.Remote(lambda: Handle(admit=KeyError("bug")))
    with pytest.raises(KeyError):
        await remote.admit()


def test_the_two_actors_are_found_by_their_names() -> None:
    """Nothing is looked up before the first message."""
    assert (c.pool()._find, c.history()._find) == (names.budget_pool, names.records)
