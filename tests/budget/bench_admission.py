"""How fast the desk decides: `python -m tests.budget.bench_admission`. Fake actors, a real SQLite file."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cluster.budget.desk import Desk
from cluster.budget.pool import PoolRules
from cluster.budget.prices import load_prices
from cluster.budget.rules import DeskRules
from cluster.messages import Admitted
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.budget.fakes import FakeCallActor, FakeCallActors, FakeHistory, call_request

RULES = DeskRules(
    max_calls=256,
    prices=load_prices(),
    daily_budget_usd_micros=10**12,
    renew_every_s=2,
    lease_ttl_s=10,
    setup_timeout_s=8,
    pool=PoolRules(
        max_actors=256,
        baseline={"receptionist": 2},
        session_max_age_s=60,
        actor_max_calls=10**9,
        actor_max_age_s=86_400,
        actor_max_growth_mb=40,
    ),
)
SENDERS = 64


async def run(calls: int, rate: float | None, folder: Path) -> None:
    """Admit so many calls, at a steady rate or as fast as the senders can; each ends as soon as it has begun."""
    engine = open_engine(f"sqlite:///{folder}/{rate}.db", fsync=True)
    upgrade(engine)
    desk = Desk(
        rules=RULES,
        profiles=load_profiles(EXAMPLES, load_models()),
        engine=engine,
        actors=FakeCallActors(on_start=FakeCallActor.end),
        history=FakeHistory(),
        close_room=_close_room,
    )
    await desk.open()
    began, cpu_s = time.perf_counter(), time.process_time()
    took_ms = await (_rush(desk, calls) if rate is None else _steady(desk, calls, rate))
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    await desk.close()
    p50, p99 = statistics.median(took_ms), statistics.quantiles(took_ms, n=100)[98]
    label = f"{SENDERS} senders" if rate is None else f"{rate:.0f}/s"
    speed, each_ms = calls / elapsed_s, cpu_s / calls * 1000
    sys.stdout.write(f"{label}: {speed:.0f}/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms  cpu {each_ms:.2f} ms each\n")


async def _rush(desk: Desk, calls: int) -> list[float]:
    numbers = iter(range(calls))

    async def sender() -> list[float]:
        return [await _admit(desk, number) for number in numbers]

    return [ms for sent in await asyncio.gather(*(sender() for _ in range(SENDERS))) for ms in sent]


async def _steady(desk: Desk, calls: int, rate: float) -> list[float]:
    began, sent = time.perf_counter(), []
    for number in range(calls):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent.append(asyncio.create_task(_admit(desk, number)))
    return await asyncio.gather(*sent)


async def _admit(desk: Desk, number: int) -> float:
    began = time.perf_counter()
    said = await desk.admit(call_request(number))
    assert isinstance(said, Admitted), said
    return (time.perf_counter() - began) * 1000


async def _close_room(_room: str) -> bool:
    return True


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(run(1000, 100, Path(scratch)))
        asyncio.run(run(3000, None, Path(scratch)))
