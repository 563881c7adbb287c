"""What goes wrong on purpose: which of the scenario's faults strikes when, and what it does to the connection.

Rule 1: ``Faults`` counts for the whole endpoint, ``Trouble`` acts for one session.
Rule 2: nothing here moves the floor; what a fault does to a turn is done by ``session``.
Rule 3: a connection is closed by a task of its own, as closing waits for the client and the session's tasks do not
outlive the connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cluster.local.live import outgoing
from cluster.local.live.turn import Link
from cluster.local.scenario import Fault

ENDS_CONNECTION: Final = frozenset({"close", "abort"})


class Faults:
    """The faults of a scenario, and how often each had an occasion and struck."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = tuple(faults)
        self._occasions: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()

    def fitting(self, at: str, session: int, turn: int = 0) -> list[Fault]:
        """Those that may strike this session at this step; whether they do, ``strikes`` says on the occasion."""
        return [fault for fault in self._faults if fault.hits(at, session, turn)]

    def strikes(self, fault: Fault) -> bool:
        """Counts an occasion; whether the fault strikes on it."""
        # By identity, as a list may hold the same fault twice.
        key = id(fault)
        self._occasions[key] += 1
        if self._occasions[key] % fault.every or (fault.times and self._struck[key] >= fault.times):
            return False
        self._struck[key] += 1
        return True

    def first(self, at: str, session: int, turn: int = 0) -> Fault | None:
        """The one that strikes now, if any does."""
        return next((fault for fault in self.fitting(at, session, turn) if self.strikes(fault)), None)


class Fuse:
    """Faults that strike as the audio of one answer or one utterance goes by."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self._left = sorted(faults, key=lambda fault: fault.after_ms)

    def burnt(self, audio_ms: float) -> list[Fault]:
        """Those whose place was reached since the last time."""
        due = [fault for fault in self._left if fault.after_ms <= audio_ms]
        del self._left[: len(due)]
        return due


class Trouble:
    """The faults of one session after its setup. ``stop`` ends what is still to come."""

    def __init__(self, faults: Faults, link: Link, tasks: asyncio.TaskGroup) -> None:
        self._faults = faults
        self._link = link
        self._tasks = tasks
        self._to_come: set[asyncio.Task[None]] = set()
        for fault in self.fitting("time"):
            self.later(fault.after_ms / link.parts.clock_speed, self._on_time, fault)

    def fitting(self, at: str, turn: int = 0) -> list[Fault]:
        """Those that may strike at this step."""
        return self._faults.fitting(at, self._link.record.number, turn)

    async def in_turn(self, turn: int) -> Fault | None:
        """The fault that strikes in this turn, if any does, once its wait is over."""
        fault = self._faults.first("turn", self._link.record.number, turn)
        if fault is not None:
            await asyncio.sleep(fault.after_ms / 1000)
            await self._strike(fault)
        return fault

    async def strikes(self, fault: Fault) -> bool:
        """An occasion for this fault: lets it strike if it is due; whether it did."""
        due = self._faults.strikes(fault)
        if due:
            await self._strike(fault)
        return due

    def later(self, delay_ms: float, strike: Callable[[Fault], Awaitable[object]], fault: Fault) -> None:
        """Calls ``strike`` with ``fault`` after real time; not if the session is over by then."""

        async def wait() -> None:
            await asyncio.sleep(delay_ms / 1000)
            await strike(fault)

        task = self._tasks.create_task(wait())
        self._to_come.add(task)
        task.add_done_callback(self._to_come.discard)

    def stop(self) -> None:
        """The session is over."""
        for task in self._to_come:
            task.cancel()

    async def _on_time(self, fault: Fault) -> None:
        if await self.strikes(fault) and fault.do == "silent":
            self._link.socket.mute()

    async def _strike(self, fault: Fault) -> None:
        self._link.record.struck(fault)
        match fault.do:
            case "close":
                self._close(fault)
            case "abort":
                self._link.socket.abort()
            case "unknown_message":
                await self._link.send(outgoing.encode(messageOfTheFuture={}))
            case "go_away":
                await self._go_away(fault)

    async def _go_away(self, fault: Fault) -> None:
        await self._link.send(outgoing.go_away(fault.time_left))
        if fault.then == "silent":
            self._link.socket.mute()
        elif fault.then != "nothing":
            self.later(fault.time_left_s * 1000 / self._link.parts.clock_speed, self._deadline, fault)

    async def _deadline(self, fault: Fault) -> None:
        if fault.then == "abort":
            self._link.socket.abort()
        else:
            self._close(fault)

    def _close(self, fault: Fault) -> None:
        self._link.record.close_reason = fault.reason
        self._tasks.create_task(self._link.socket.close(fault.code, fault.reason))
