"""A campaign whose job and whose `BudgetPool` are killed again and again: `python -m tests.campaign.kills [CONTACTS]`.

The campaign's driver and store, `BudgetPool`'s desk and its database are the real ones, each process of them a set of
tasks that ends without a goodbye. Call actors, the history and LiveKit are the smallest that there can be: a call
without media is over after a moment. What the phones saw is held against an oracle of its own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine

from cluster import outcome as o
from cluster.budget.desk import Desk
from cluster.budget.policy import CampaignPolicy, Policy
from cluster.budget.pool import PoolRules
from cluster.campaign.driver import Driver, Ending
from cluster.campaign.file import Campaign
from cluster.campaign.ports import Others
from cluster.campaign.store import CampaignStore
from cluster.dispatch.ports import ControlPlaneDown, Present
from cluster.messages import Admission, CallRequest
from cluster.models import load_models
from cluster.outcome import Outcome
from cluster.profiles import load_profiles
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.budget.fakes import FakeCallActor
from tests.budget.house import House, desk_rules
from tests.campaign import oracle
from tests.campaign.world import LocalBook, seeded
from tests.fixtures.campaign import Folder, around_the_clock

T = TypeVar("T")
CONTACTS, KILLS = 1_000, 20
CALL_S, BUSY_S = 0.4, 0.05
CONCURRENCY, CALLS_PER_SECOND = 20, 40.0
FILE = around_the_clock("test", calls_per_second=CALLS_PER_SECOND, concurrency=CONCURRENCY, most_calls=3, busy="1s, 2s")
SLACK_S = 1.0
"""A driver that was killed may have had one call on its way, and this process has to share its core."""


class RealClock:
    """Both clocks, as they are."""

    now = staticmethod(time.monotonic)
    utc = staticmethod(time.time)


@dataclass
class Seen:
    """A call, as its phone saw it. Times are UTC seconds."""

    number: str
    call_id: str
    at: float
    outcome: str = ""
    ended_at: float = 0.0


@dataclass
class Phones:
    """Whoever is called: every fifth is busy."""

    calls: list[Seen] = field(default_factory=list)

    def ring(self, actor: FakeCallActor) -> None:
        """A call has begun, and will end by itself."""
        request = actor.assignment.request
        seen = Seen(request.to, request.call_id, time.time())
        self.calls.append(seen)
        busy = int(request.to) % 5 == 0
        end = (o.BUSY, 0, BUSY_S) if busy else (o.AGENT_ENDED, 1_000, CALL_S)
        asyncio.get_running_loop().call_later(end[2], self._end, actor, seen, *end[:2])

    def _end(self, actor: FakeCallActor, seen: Seen, outcome: Outcome, cost_usd_micros: int) -> None:
        seen.outcome, seen.ended_at = str(outcome), time.time()
        actor.end(outcome, cost_usd_micros=cost_usd_micros)


@dataclass
class Killable:
    """`BudgetPool`: one desk after the other, on one database."""

    house: House
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    graves: list[tuple[Desk, Engine]] = field(default_factory=list)

    async def kill_and_restart(self) -> None:
        """Nobody gets an answer any more, nothing more is decided; then there is another one."""
        desk = self.house.desk
        self.dead.set()
        assert desk._ticking is not None
        desk._ticking.cancel()
        await desk._nodes.close()
        await desk._doorway.close()
        await desk._serving.close()
        await desk._garage.close()
        self.graves.append((desk, self.house.engine))
        self.house.engine = open_engine(self.house.engine.url.render_as_string(hide_password=False))
        await asyncio.sleep(0.2)
        self.dead = asyncio.Event()
        await self.house.open(parked=None)

    async def bury(self) -> None:
        """Give back what a process that ends gives back by itself."""
        for desk, engine in (*self.graves, (self.house.desk, self.house.engine)):
            await desk._journal.close()
            engine.dispose()

    async def admit(self, request: CallRequest) -> Admission:
        """As the real one, in the campaign's hours of this test."""
        return await self._ask(self.house.desk.admit(request))

    async def live_calls(self, tenant: str | None) -> list[dict[str, Any]]:
        """As the real one."""
        return await self._ask(_now(lambda: self.house.desk.live_calls(tenant)))

    async def queue(self, tenant: str | None) -> list[dict[str, Any]]:
        """As the real one."""
        return await self._ask(_now(lambda: self.house.desk.queue(tenant)))

    async def leave_queue(self, call_id: str) -> bool:
        """As the real one."""
        return await self._ask(self.house.desk.leave_queue(call_id))

    async def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        if self.dead.is_set():
            work.close()
            raise ControlPlaneDown
        answer, death = asyncio.ensure_future(work), asyncio.create_task(self.dead.wait())
        await asyncio.wait({answer, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if self.dead.is_set():
            answer.cancel()
            raise ControlPlaneDown
        return answer.result()


async def _now(do: Any) -> Any:
    return do()


@dataclass
class Remembered:
    """The history, as far as it is asked."""

    house: House

    async def call(self, call_id: str, _tenant: str | None, _full_numbers: bool) -> dict[str, Any] | None:  # noqa: FBT001 an actor's method
        """A call, once it has begun."""
        record = self.house.history.finished.get(call_id)
        if record is None:
            known = call_id in self.house.history.begun
            return {"outcome": None, "answered_s": None} if known else None
        outcome = {"result": record.outcome.result.value, "reason": record.outcome.reason}
        cost = {"usd_micros": record.cost_usd_micros}
        rest = {"answered_s": record.answered_s, "talk_s": record.talk_s, "timings_ms": record.timings_ms}
        return {"outcome": outcome, "cost": cost, **rest}


@dataclass
class Rooms:
    """LiveKit: a call that runs has a phone in its room."""

    house: House

    async def present(self, room: str) -> Sequence[Present]:
        """Who is in it."""
        busy = (actor for actor in self.house.actors.alive.values() if actor.state == "busy")
        return [Present("SIP", {}) for actor in busy if actor.assignment.request.room == room]


def write(folder: Path, contacts: int) -> tuple[Campaign, oracle.Rules]:
    """A campaign, and what it may do."""
    numbers = [f"+1415{5_550_000 + n}" for n in range(contacts)]
    home = Folder(folder)
    home.write("contacts.csv", "\n".join(["first,phone,when", *(f"Sam,{number},at nine" for number in numbers)]))
    rules = oracle.Rules(
        zones=dict.fromkeys(numbers, "America/Los_Angeles"),
        opens="00:00",
        closes="24:00",
        every_day=True,
        waits_s={"caller/busy": (1.0, 2.0)},
        most_calls=3,
        concurrency=CONCURRENCY,
        calls_per_second=CALLS_PER_SECOND,
    )
    return home.load(FILE), rules


async def run(url: str, folder: Path, contacts: int, kills: int, seed: int = 1) -> tuple[list[str], Counter[str]]:
    """What was broken, and how often what happened."""
    campaign, rules = write(folder, contacts)
    phones, luck, happened = Phones(), seeded(seed), Counter[str]()
    engine = open_engine(url)
    upgrade(engine)
    house = _house(open_engine(url), phones)
    await house.open(parked=None)
    pool, store = Killable(house), CampaignStore(engine)
    others = Others(book=LocalBook(store), pool=pool, history=Remembered(house), rooms=Rooms(house))

    async def drive(name: str) -> Ending:
        driver = Driver(campaign, others, driver=name, room_prefix="call-", on_progress=lambda _: None, tick_s=0.05)
        return await driver.run()

    job = asyncio.create_task(drive("0"))
    pause_s = contacts / CALLS_PER_SECOND / (kills + 1)
    for kill in range(1, kills + 1):
        await asyncio.wait({job}, timeout=pause_s * luck.uniform(0.2, 1.2))
        if job.done():
            break
        job.cancel()
        await asyncio.wait({job})
        happened["job killed"] += 1
        job = asyncio.create_task(drive(str(kill)))
        await asyncio.wait({job}, timeout=pause_s * luck.uniform(0.0, 0.3))
        await pool.kill_and_restart()
        happened["BudgetPool killed"] += 1
    ending = await job
    await house.desk.close()
    await pool.bury()
    happened["parked"] = store.tally("test").unknown
    happened |= Counter({"calls": len(phones.calls), "contacts": len({seen.number for seen in phones.calls})})
    wrong = [] if ending == Ending("done") else [f"it ended as {ending}"]
    wrong += oracle.broken(phones.calls, rules, SLACK_S) + oracle.adds_up(phones.calls, store.report("test"))
    engine.dispose()
    return wrong, happened


def _house(engine: Engine, phones: Phones) -> House:
    rules = desk_rules(
        max_calls=CONCURRENCY,
        daily_budget_usd_micros=1_000_000_000,
        renew_every_s=1.0,
        lease_ttl_s=4.0,
        pool=PoolRules(
            max_actors=CONCURRENCY,
            baseline={"reminder": CONCURRENCY},
            session_max_age_s=60.0,
            actor_max_calls=100_000,
            actor_max_age_s=86_400.0,
            actor_max_growth_mb=1e9,
            birth_every_s=0.0,
        ),
    )
    policy = Policy(campaigns={"test": CampaignPolicy(max_calls=CONCURRENCY)})
    house = House(engine, load_profiles(EXAMPLES, load_models()), replace(rules), policy)
    house.clock = RealClock()  # type: ignore[assignment]
    house.actors.on_start = phones.ring
    return house


def main() -> int:
    """Run it, print what happened; 1 if anything was broken."""
    contacts = int(sys.argv[1]) if len(sys.argv) > 1 else CONTACTS
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        wrong, happened = asyncio.run(run(f"sqlite:///{folder}/a.db", Path(folder), contacts, KILLS))
    numbers = ", ".join(f"{count} {what}" for what, count in happened.items())
    print(f"{numbers} in {time.monotonic() - began:.0f} s: {len(wrong)} rules broken")  # noqa: T201 a command's output
    for line in wrong[:20]:
        print(f"  {line}")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
