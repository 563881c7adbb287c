"""Compares LiveKit's rooms with our calls, at start and every minute, and mends what does not fit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import Present
from cluster.dispatch.reconcile import Fate, Room, fate_of, is_own, roomless, strangers
from cluster.dispatch.requests import Arrival, call_id_of_room
from cluster.tasks import TaskSet

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0


class Calls(Protocol):
    """`cluster.budget.occupancy.Occupancy`."""

    def rooms(self) -> Mapping[str, tuple[str, float]]:
        """By room: the id of the call that has it or waits for it, and since when it is in there, in UTC seconds."""

    def give_up(self, call_id: str) -> None:
        """End a call whose process does not notice that there is nothing left of it."""


class AllRooms(Protocol):
    """`cluster.dispatch.rooms.LivekitRooms`. None stands for no answer."""

    async def all(self) -> Sequence[Room] | None:
        """Every room."""

    async def present(self, room: str, /) -> Sequence[Present] | None:
        """Who is in the room."""

    async def asks_for(self, room: str, agent_name: str, /) -> str | None:
        """The metadata with which the room asks for that agent; None too if it does not."""

    async def delete(self, room: str, /) -> bool:
        """Hang up."""


class Reconciler:
    """Looks after the rooms of one LiveKit server. To be closed by its owner."""

    def __init__(
        self,
        calls: Calls,
        rooms: AllRooms,
        inbound: Inbound,
        *,
        room_prefix: str,
        agent_name: str,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls
        self._rooms = rooms
        self._inbound = inbound
        self._room_prefix = room_prefix
        self._agent_name = agent_name
        self._utc = utc
        self._claimed: set[str] = set()
        self._roomless: frozenset[str] = frozenset()
        self._errands = TaskSet()

    def start(self) -> None:
        """Begin to look, from now on."""
        self._errands.spawn("reconciliation", self._run())

    async def close(self) -> None:
        """Stop."""
        await self._errands.close()

    async def look(self) -> None:
        """Look once. A call has to be without its room twice before it is given up."""
        rooms = await self._rooms.all()
        if rooms is None:
            return
        calls, now = self._calls.rooms(), self._utc()
        self._claimed &= {room.sid for room in rooms}
        for room in strangers(rooms, calls.keys(), now):
            await self._deal_with(room)
        missing = roomless(calls, {room.name for room in rooms}, now)
        for call_id in missing & self._roomless:
            log.warning("call %s has no room any more and did not end: it is given up", call_id)
            self._calls.give_up(call_id)
        self._roomless = missing

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look may be luckier
                log.warning("the rooms were not compared with the calls: %s", type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def _deal_with(self, room: Room) -> None:
        present = await self._rooms.present(room.name)
        if present is None:
            return
        own = is_own(room.name, self._room_prefix)
        metadata = None if own else await self._rooms.asks_for(room.name, self._agent_name)
        kinds = {participant.kind for participant in present}
        fate = fate_of(kinds, own=own, asks_for_us=metadata is not None, claimed=room.sid in self._claimed)
        if fate is Fate.LEAVE:
            return
        log.warning("a room without a call: %s it", fate, extra={"call_id": call_id_of_room(room.sid)})
        if fate is Fate.CLOSE:
            await self._rooms.delete(room.name)
            return
        self._claimed.add(room.sid)
        caller = next(participant for participant in present if participant.kind == "SIP")
        arrival = Arrival(
            room=room.name, room_sid=room.sid, metadata=metadata or "", attributes=dict(caller.attributes)
        )
        self._errands.spawn("the claim of a room", self._inbound.take(arrival))
