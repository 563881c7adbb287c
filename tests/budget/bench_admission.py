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
from cluster.budget.rules import DeskRules
from cluster.messages import Admitted
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.budget.fakes import FakeCallActor, FakeCallActors, FakeHistory, call_request


async def run(calls: int, rate: float | None, folder: Path) -> None:
    """Admit so many calls, at a steady rate or as fast as 64 senders can; each ends as soon as it has begun."""
    engine = open_engine(f"sqlite:///{folder}/{rate}.db", fsync=True)
    upgrade(engine)
    actors = FakeCallActors(on_start=FakeCallActor.end)
    rules = DeskRules(
        max_calls=256,
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

    async def close_room(_room: str) -> bool:
        return True

    desk = Desk(
        rules=rules,
        profiles=load_profiles(EXAMPLES, load_models()),
        engine=engine,
        actors=actors,
        history=FakeHistory(),
        close_room=close_room,
    )
    await desk.open()
    took_ms: list[float] = []

    async def admit(number: int) -> None:
        began = time.perf_counter()
        said = await desk.admit(call_request(number))
        took_ms.append((time.perf_counter() - began) * 1000)
        assert isinstance(said, Admitted), said

    began, cpu = time.perf_counter(), time.process_time()
    if rate is None:
        numbers = iter(range(calls))

        async def sender() -> None:
            for number in numbers:
                await admit(number)

        await asyncio.gather(*(sender() for _ in range(64)))
    else:
        pending = []
        for number in range(calls):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            pending.append(asyncio.create_task(admit(number)))
        await asyncio.gather(*pending)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    await desk.close()
    p50, p99 = statistics.median(took_ms), statistics.quantiles(took_ms, n=100)[98]
    label = "as fast as possible" if rate is None else f"{rate:.0f}/s"
    each_ms = cpu / calls * 1000
    sys.stdout.write(
        f"{label}: {calls / elapsed:.0f}/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms  cpu {each_ms:.2f} ms each\n"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(run(1000, 100, Path(scratch)))
        asyncio.run(run(3000, None, Path(scratch)))
