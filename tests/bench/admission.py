"""How fast the desk decides, with every decision durable: fake actors, real databases that survive a loss of power.

Each call ends as soon as it has begun, so that the next one finds a place: a decision is measured with all that a call
writes, its admission, its end and its ledger.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from cluster.budget.desk import Desk
from cluster.budget.pool import PoolRules
from cluster.budget.prices import load_prices
from cluster.budget.rules import DeskRules
from cluster.messages import Admitted
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.bench.figures import Samples
from tests.budget.fakes import FakeCallActor, FakeCallActors, FakeHistory, FakeNodes, call_request
from tests.fixtures.databases import running_postgres

SENDERS: Final = 64
RUSH: Final = 2_000
"""Calls that are asked for as fast as the answers come, in each run of several."""
RUNS: Final = 3
STEADY: Final = 1_000
RATE_PER_S: Final = 100.0


async def decisions() -> Samples:
    """Decisions per second at the most, and how long each takes at 100 per second, on both databases."""
    samples: dict[str, list[float]] = {}
    for name, database in (("sqlite", _sqlite), ("postgresql", _postgresql)):
        with database() as url:
            async with _desk(url) as desk:
                numbers = iter(range(1_000_000))
                samples[f"admission_{name}_per_s"] = [await _rush(desk, numbers) for _ in range(RUNS)]
                samples[f"admission_{name}_ms"] = await _steady(desk, numbers)
    return samples


async def _rush(desk: Desk, numbers: Iterator[int]) -> float:
    left = iter(range(RUSH))

    async def sender() -> None:
        for _ in left:
            await _admit(desk, next(numbers))

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return RUSH / (time.perf_counter() - began)


async def _steady(desk: Desk, numbers: Iterator[int]) -> list[float]:
    began, sent = time.perf_counter(), []
    for position in range(STEADY):
        await asyncio.sleep(max(0.0, began + position / RATE_PER_S - time.perf_counter()))
        sent.append(asyncio.create_task(_admit(desk, next(numbers))))
    return await asyncio.gather(*sent)


async def _admit(desk: Desk, number: int) -> float:
    began = time.perf_counter()
    said = await desk.admit(call_request(number))
    assert isinstance(said, Admitted), said
    return (time.perf_counter() - began) * 1000


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/ringmaster.db"


@contextmanager
def _postgresql() -> Iterator[str]:
    with running_postgres(fsync=True) as server, server.database() as url:
        yield url


@asynccontextmanager
async def _desk(url: str) -> AsyncIterator[Desk]:
    engine = open_engine(url, fsync=True)
    upgrade(engine)
    pool = PoolRules(
        max_actors=256,
        baseline={"receptionist": 2},
        session_max_age_s=60,
        actor_max_calls=10**9,
        actor_max_age_s=86_400,
        actor_max_growth_mb=40,
    )
    desk = Desk(
        rules=DeskRules(
            max_calls=256,
            prices=load_prices(),
            daily_budget_usd_micros=10**12,
            renew_every_s=2,
            lease_ttl_s=10,
            setup_timeout_s=8,
            pool=pool,
        ),
        profiles=load_profiles(EXAMPLES, load_models()),
        engine=engine,
        actors=FakeCallActors(on_start=FakeCallActor.end),
        nodes=FakeNodes(),
        history=FakeHistory(),
        close_room=_close_room,
    )
    await desk.open()
    yield desk
    await desk.close()
    engine.dispose()


async def _close_room(_room: str) -> bool:
    return True
