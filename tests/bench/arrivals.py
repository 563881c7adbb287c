"""How long it takes until an agent is there: dispatches by name, phones, outbound calls, and bursts of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime
from typing import Final

from livekit import api, rtc

from tests.bench.figures import Samples
from tests.bench.system import Json, Side, System, until

LOST_AFTER_S: Final = 30.0
ENDS_WITHIN_S: Final = 5.0
ENDED_AFTER_S: Final = 120.0
BURST: Final = 12
OVER_CAPACITY: Final = 50
BUSY: Final = "+14155550486"
"""Refuses the call as soon as it rings, when the agent has been in the room for long."""
PROFILE: Final = {"profile": "reminder", "context": {"name": "Sam", "when": "tomorrow morning at nine"}}
SHORT_CALL: Final[list[Json]] = [{"pause_ms": 1500}, {"hang_up": True}]
LONGER_CALL: Final[list[Json]] = [{"pause_ms": 4000}, {"hang_up": True}]
NOT_CONNECTED: Final = frozenset({"room-unreachable", "line-lost"})
"""LiveKit did not let the phone in, or lost it again as it joined; nobody could answer it."""
AGENT: Final = api.ParticipantInfo.Kind.AGENT


class Caller:
    """A participant like a browser, who waits in a room of its own."""

    def __init__(self, system: System) -> None:
        self.room = system.room()
        self._system = system
        self._line = rtc.Room()
        self._heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._line.on("track_subscribed", self._on_track)

    async def join(self) -> None:
        """Enter the room, which is made by it."""
        environ = self._system.ready["environ"]
        grants = api.VideoGrants(room_join=True, room=self.room)
        token = api.AccessToken(environ["LIVEKIT_API_KEY"], environ["LIVEKIT_API_SECRET"]).with_grants(grants)
        await self._line.connect(environ["LIVEKIT_URL"], token.with_identity("caller").to_jwt())

    async def dispatch(self, agent_name: str) -> float | None:
        """Ask for the agent; milliseconds until its track is subscribed, None if it does not come."""
        began = time.monotonic()
        wish = api.CreateAgentDispatchRequest(agent_name=agent_name, room=self.room, metadata="{}")
        try:
            async with asyncio.timeout(LOST_AFTER_S):
                await self._system.livekit.agent_dispatch.create_dispatch(wish)
                return (await self._heard - began) * 1000
        except TimeoutError:
            return None

    async def leave(self) -> None:
        """Hang up. Whose agent does not end its call then has its room taken away."""
        await self._line.disconnect()
        with suppress(TimeoutError):
            await until(self._is_over, timeout_s=ENDS_WITHIN_S)
        with suppress(api.TwirpError):
            await self._system.livekit.room.delete_room(api.DeleteRoomRequest(room=self.room))

    async def _is_over(self) -> bool:
        return not (await self._system.livekit.room.list_rooms(api.ListRoomsRequest(names=[self.room]))).rooms

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO and not self._heard.done():
            self._heard.set_result(time.monotonic())


async def dispatches(system: System, side: Side, runs: int) -> Samples:
    """One after the other, each by a caller who is in the room already."""
    found: list[float] = []
    for _ in range(runs):
        times, lost = await _at_once(system, side, 1)
        if lost:
            raise RuntimeError(f"a dispatch of {side.agent_name} was lost")
        found += times
    return {"dispatch_ms": found}


async def burst(system: System, side: Side, runs: int) -> Samples:
    """Twelve at once."""
    found: list[float] = []
    lost: list[float] = []
    for _ in range(max(1, runs // 5)):
        times, missing = await _at_once(system, side, BURST)
        found += times
        lost.append(missing)
    return {"burst_ms": found, "burst_lost": lost}


async def _at_once(system: System, side: Side, number: int) -> tuple[list[float], int]:
    await side.until_warm()
    callers = [Caller(system) for _ in range(number)]
    for caller in callers:
        await caller.join()
    try:
        times = await asyncio.gather(*(caller.dispatch(side.agent_name) for caller in callers))
    finally:
        await asyncio.gather(*(caller.leave() for caller in callers))
    there = [time_ms for time_ms in times if time_ms is not None]
    return there, number - len(there)


async def phones(system: System, side: Side, runs: int) -> Samples:
    """Phones that call in: from LiveKit's own time of their joining to the agent's track."""
    from_joining: list[float] = []
    from_publishing: list[float] = []
    for _ in range(runs):
        await side.until_warm()
        log = await system.phone(call_id := await system.ring(side.number, SHORT_CALL), until="answered")
        present = await system.livekit.room.list_participants(api.ListParticipantsRequest(room=log["room"]))
        joined_ms = next(p.joined_at_ms for p in present.participants if p.kind == api.ParticipantInfo.Kind.SIP)
        from_joining.append((log["started_at"] + log["subscribed_s"]) * 1000 - joined_ms)
        from_publishing.append((log["subscribed_s"] - log["joined_s"]) * 1000)
        await system.phone(call_id)
    return {"hint_ms": from_joining, "hint_after_publish_ms": from_publishing}


async def outbound(system: System, _side: Side, runs: int) -> Samples:
    """`POST /v1/calls`: by the wall clock, which is the same for the bench and the record of the call."""
    answered: list[float] = []
    joined: list[float] = []
    for _ in range(runs):
        await system.until_warm()
        began_at, began = time.time(), time.monotonic()
        answer = await system.api.post("/v1/calls", json=PROFILE | {"to": BUSY})
        answered.append((time.monotonic() - began) * 1000)
        answer.raise_for_status()
        call = await _record(system, answer.json()["call_id"])
        started_at = datetime.fromisoformat(call["started_at"]).timestamp()
        joined.append((started_at - began_at) * 1000 + call["timings_ms"]["joined"])
    return {"post_joined_ms": joined, "post_ms": answered}


async def over_capacity(system: System, side: Side, _runs: int) -> Samples:
    """More phones at once than there are places: each gets an agent or a final answer."""
    await side.until_warm()
    began_at = time.time()
    calls = await asyncio.gather(*(system.ring(side.number, LONGER_CALL, media=False) for _ in range(OVER_CAPACITY)))
    logs = await asyncio.gather(*(system.phone(call, timeout_s=ENDED_AFTER_S) for call in calls))
    served = [log for log in logs if log["answered_s"] is not None]
    refused = [log for log in logs if log["answered_s"] is None and log["ending"] == "room-deleted"]
    kept_out = [log for log in logs if log["answered_s"] is None and log["ending"] in NOT_CONNECTED]
    last = max(log["started_at"] + (log["answered_s"] or log["ended_s"] or ENDED_AFTER_S) for log in logs)
    return {
        "over_silence": [OVER_CAPACITY - len(served) - len(refused) - len(kept_out)],
        "over_kept_out": [len(kept_out)],
        "over_served": [len(served)],
        "over_refused": [len(refused)],
        "over_end_ms": [(last - began_at) * 1000],
    }


async def _record(system: System, call_id: str) -> Json:
    call: Json = {}

    async def ended() -> bool:
        call.update((await system.api.get(f"/v1/calls/{call_id}")).json())
        return bool(call["state"] == "ended")

    await until(ended)
    return call
