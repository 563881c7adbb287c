"""Which call is in which room, for whoever compares that with LiveKit's rooms."""

from __future__ import annotations

import math

from cluster.budget.leases import LeaseBook, LeaseState
from cluster.budget.serving import Serving
from cluster.budget.waiting import WaitingRoom


class Occupancy:
    """The rooms of one desk's calls."""

    def __init__(self, book: LeaseBook, serving: Serving, waiting_room: WaitingRoom) -> None:
        self._book = book
        self._serving = serving
        self._waiting_room = waiting_room

    def rooms(self) -> dict[str, tuple[str, float]]:
        """By room: the id of the call that has it or waits for it, and since when it is in there, in UTC seconds."""
        places = {room: (call_id, math.inf) for room, call_id in self._waiting_room.rooms()}
        for lease in self._book:
            if (call := self._serving.call(lease.lease_id)) is not None:
                since = call.started_at if lease.state in {LeaseState.HELD, LeaseState.WINDING_DOWN} else math.inf
                places[call.request.room] = lease.call_id, since
        return places

    def give_up(self, call_id: str) -> None:
        """End a call, and its process, that does not notice that there is nothing left of it."""
        self._serving.give_up(call_id)
