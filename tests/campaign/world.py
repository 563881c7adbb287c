"""A world in virtual time: days of a campaign in a second, with everything that can go wrong between processes.

The campaign's store is the real one. `BudgetPool`, the history, LiveKit and the carrier are as small as can be, and
what the carrier saw is what a campaign is judged by.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.campaign.contacts import Contact
from cluster.campaign.driver import Driver, Ending
from cluster.campaign.file import Campaign
from cluster.campaign.pace import Tally
from cluster.campaign.ports import Others
from cluster.campaign.store import Begun, CampaignStore, Entry, Move
from cluster.dispatch.ports import ControlPlaneDown, Present
from cluster.messages import Admission, Admitted, CallRequest, Queued, Refused, Wait
from cluster.outcome import OVER_CAPACITY

T = TypeVar("T")
RECORD_DELAY_S = 0.3
WAYS = {"0486": ("caller/busy", 1.0), "0408": ("caller/no-answer", 30.0), "0603": ("caller/declined", 5.0)}
"""What a phone does, by the last digits of its number, and how long that takes."""
ANSWERS = ("success/agent-ended", 60.0)


class _Leap(selectors.SelectSelector):
    """Waits for nothing: it moves the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Whatever is ready now."""
        self.now_s += max(0.0, timeout or 0.0)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        """Seconds, as long as they are said to be."""
        return self._leap.now_s


def in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, without waiting."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)


@dataclass(frozen=True)
class Dial:
    """A call, as the carrier saw it. Times are UTC seconds."""

    number: str
    request_id: str
    call_id: str
    at: float
    ended_at: float
    outcome: str
    cost_usd_micros: int


@dataclass
class World:
    """Everything but the driver."""

    store: CampaignStore
    starts_at: float
    trouble: Callable[[], float] = lambda: 0.5
    """Below 0.05: the message is lost; above 0.95 where it may be: its answer is."""
    max_calls: int = 10_000
    queues: bool = False
    """Whoever is too many waits in the queue, and is not told to come again."""
    queued: dict[str, CallRequest] = field(default_factory=dict)
    dials: list[Dial] = field(default_factory=list)
    answers: dict[str, Admitted] = field(default_factory=dict)
    running: dict[str, Dial] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Who does not answer: `pool`, `history`, `livekit`."""
    refusals: list[Refused] = field(default_factory=list)
    """What the next to be asked for are told."""
    on_start: Callable[[CallRequest], None] = lambda _: None
    """Called when a call is admitted."""
    mishaps: list[dict[str, Any]] = field(default_factory=list)
    """How the next calls end instead of being dialled: what is special in their records."""

    def utc(self) -> float:
        """Seconds since the epoch."""
        return self.starts_at + asyncio.get_running_loop().time()

    def others(self) -> Others:
        """Whom a driver asks."""
        return Others(book=_Book(self.store, self), pool=_Pool(self), history=_History(self), rooms=_Rooms(self))

    def driver(self, campaign: Campaign, name: str = "d") -> Driver:
        """One process."""
        return Driver(
            campaign,
            self.others(),
            driver=name,
            room_prefix="call-",
            on_progress=lambda _: None,
            utc=self.utc,
        )

    async def run(self, campaign: Campaign, kill_every_s: Callable[[], float] | None = None) -> tuple[Ending, int]:
        """Drive it to its end, killing its process now and then; returns how it ended, and the number of processes."""
        for process in range(1, 1000):
            task = asyncio.create_task(self.driver(campaign, f"d{process}").run())
            await asyncio.wait({task}, timeout=kill_every_s() if kill_every_s else None)
            if task.done():
                return task.result(), process
            task.cancel()
            await asyncio.wait({task})
        raise AssertionError("it does not end")

    def may_fail(self, name: str) -> bool:
        """Whether the answer will be lost; raises where the message is."""
        luck = self.trouble()
        if name in self.down or luck < 0.05:
            raise ControlPlaneDown
        return luck > 0.95

    def start(self, request: CallRequest) -> None:
        """It is admitted."""
        self.on_start(request)
        self.answers[request.request_id] = Admitted(call_id=request.call_id, lease_id="l", warm=True)
        self.dial(request)

    def not_dialled(self, call_id: str, record: dict[str, Any]) -> None:
        """How a call ended without a phone."""
        nothing = {"answered_s": None, "talk_s": 0.0, "cost": {"usd_micros": 0}, "timings_ms": {}}
        self.records[call_id] = nothing | record

    def dial(self, request: CallRequest) -> None:
        """The phone rings, unless something is in the way."""
        if self.mishaps:
            self.not_dialled(request.call_id, self.mishaps.pop(0))
            return
        outcome, seconds = WAYS.get(request.to[-4:], ANSWERS)
        cost = (request.max_cost_usd_micros or 0) if outcome == ANSWERS[0] else 0
        dial = Dial(request.to, request.request_id, request.call_id, self.utc(), self.utc() + seconds, outcome, cost)
        self.dials.append(dial)
        self.running[request.call_id] = dial
        self.records[request.call_id] = {"outcome": None, "answered_s": None}
        asyncio.get_running_loop().call_later(seconds, self._end, dial)

    def _end(self, dial: Dial) -> None:
        if self.running.pop(dial.call_id, None) is None:
            return  # its memory was lost
        if self.queued:
            self.start(self.queued.pop(next(iter(self.queued))))
        result, _, reason = dial.outcome.partition("/")
        record = {
            "outcome": {"result": result, "reason": reason},
            "answered_s": 2.0 if dial.cost_usd_micros else None,
            "talk_s": 40.0,
            "cost": {"usd_micros": dial.cost_usd_micros},
            "timings_ms": {"joined": 80.0, "published": 90.0},
        }
        asyncio.get_running_loop().call_later(RECORD_DELAY_S, self.records.__setitem__, dial.call_id, record)


@dataclass
class _Pool:
    world: World

    async def admit(self, request: CallRequest) -> Admission:
        world = self.world
        answer_is_lost = world.may_fail("pool")
        await asyncio.sleep(0.01)
        if request.request_id not in world.answers:
            if world.refusals:
                return world.refusals.pop(0)
            if len(world.running) >= world.max_calls and world.queues:
                world.queued[request.call_id] = request
                return Queued(
                    call_id=request.call_id,
                    position=len(world.queued),
                    estimated_wait_s=60.0,
                    expires_in_s=300.0,
                    outcome=OVER_CAPACITY,
                )
            if len(world.running) >= world.max_calls:
                return Wait(outcome=OVER_CAPACITY, retry_after_s=5.0)
            world.start(request)
        if answer_is_lost:
            raise ControlPlaneDown
        return world.answers[request.request_id]

    async def live_calls(self, _tenant: str | None) -> list[dict[str, Any]]:
        self.world.may_fail("pool")
        return [{"call_id": call_id} for call_id in self.world.running]

    async def queue(self, _tenant: str | None) -> list[dict[str, Any]]:
        return [{"call_id": call_id} for call_id in self.world.queued]

    async def leave_queue(self, call_id: str) -> bool:
        world = self.world
        answer_is_lost = world.may_fail("pool")
        was_queued = world.queued.pop(call_id, None) is not None
        if was_queued:
            world.not_dialled(call_id, {"outcome": {"result": "policy", "reason": "withdrawn"}})
        if answer_is_lost:
            raise ControlPlaneDown
        return was_queued


@dataclass
class _History:
    world: World

    async def call(self, call_id: str, _tenant: str | None, _full_numbers: bool) -> dict[str, Any] | None:  # noqa: FBT001 an actor's method
        self.world.may_fail("history")
        return self.world.records.get(call_id)


@dataclass
class _Rooms:
    world: World

    async def present(self, room: str) -> Sequence[Present] | None:
        if "livekit" in self.world.down:
            return None
        return [Present("SIP", {})] if room.removeprefix("call-") in self.world.running else []


@dataclass
class LocalBook:
    """`CampaignBook` in this process."""

    store: CampaignStore

    async def open(self, name: str, tenant: str, driver: str, now: float) -> str:
        """As the real one, like all others."""
        return await self._ask(lambda: self.store.open(name, tenant, driver, now))

    async def close(self, name: str, driver: str, state: str, why: str) -> None:
        """It is over."""
        await self._ask(lambda: self.store.close(name, driver, state, why))

    async def add(self, campaign: str, driver: str, found: Sequence[tuple[Contact, float]]) -> None:
        """Take in contacts."""
        await self._ask(lambda: self.store.add(campaign, driver, found))

    async def left_out(self, campaign: str, driver: str, limit: int) -> list[Entry]:
        """Who waits, and was not in the file."""
        return await self._ask(lambda: self.store.left_out(campaign, driver, limit))

    async def waiting(self, campaign: str, limit: int) -> list[Entry]:
        """Who waits."""
        return await self._ask(lambda: self.store.waiting(campaign, limit))

    async def unfinished(self, campaign: str) -> list[Entry]:
        """Whose last call has no known end."""
        return await self._ask(lambda: self.store.unfinished(campaign))

    async def begin(self, driver: str, move: Move) -> Begun:
        """Write down an attempt."""
        return await self._ask(lambda: self.store.begin(driver, move))

    async def move(self, moves: Sequence[Move]) -> None:
        """Take steps."""
        await self._ask(lambda: self.store.move(moves))

    async def state(self, campaign: str) -> tuple[str, str] | None:
        """Its state and what stopped it."""
        return await self._ask(lambda: self.store.state(campaign))

    async def tally(self, campaign: str) -> Tally:
        """How far it is."""
        return await self._ask(lambda: self.store.tally(campaign))

    async def _ask(self, do: Callable[[], T]) -> T:
        return do()


@dataclass
class _Book(LocalBook):
    """One that can't always be reached."""

    world: World

    async def _ask(self, do: Callable[[], T]) -> T:
        answer_is_lost = self.world.may_fail("book")
        await asyncio.sleep(0.002)
        said = do()
        await asyncio.sleep(0.002)
        if answer_is_lost:
            raise ControlPlaneDown
        return said


def seeded(seed: int) -> random.Random:
    """Luck that can be repeated."""
    return random.Random(seed)  # noqa: S311 not a secret
