"""What calls cost the machine, whether they keep their beat beside others, and what a hundred of them leave behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import ray
from livekit import api
from sqlalchemy import func, select

from actors import names
from cluster.budget.tables import leases
from cluster.settings import load_settings
from cluster.storage import open_engine
from tests.bench import linux
from tests.bench.figures import Samples
from tests.bench.system import Json, Side, System, own_process, until
from tests.bench.talk import turns

TALK_S: Final = 30
SETTLE_S: Final = 8
"""Until the greeting is over and the first answer has begun."""
BEAT_MS: Final = 20
BUSY_PROCESSES: Final = 2
CALLS: Final = 100
CALLS_AT_ONCE: Final = 8
_CONTROL: Final = ("ray::BudgetPool", "ray::Records", "ray::ServeReplica")


async def resources(system: System, side: Side, _runs: int) -> Samples:
    """One call in which both talk. The process that used most CPU time meanwhile is the one that held it."""
    await side.until_warm()
    call = await system.ring(side.number, turns(12))
    await system.phone(call, until="answered")
    await asyncio.sleep(SETTLE_S)
    before = {pid: linux.cpu_s(pid) for pid in side.call_processes()}
    began = time.monotonic()
    await asyncio.sleep(TALK_S)
    wall_s = time.monotonic() - began
    used = {pid: linux.cpu_s(pid) - cpu_s for pid, cpu_s in before.items()}
    busy = max(used, key=lambda pid: used[pid])
    others = [linux.pss_mb(pid) for pid in used if pid != busy and side is system]
    in_call = linux.pss_mb(busy)
    (await system.carrier.post(f"/_calls/{call}/hangup")).raise_for_status()
    await system.phone(call)
    return {"cpu_cores": [used[busy] / wall_s], "pss_in_call_mb": [in_call], "pss_parked_mb": others}


class Beat:
    """Ticks as a call does, in a process that Ray starts as it starts a call's."""

    async def lateness_ms(self, seconds: float) -> list[float]:
        """How late each tick was."""
        late: list[float] = []
        due = time.monotonic()
        until_s = due + seconds
        while due < until_s:
            due += BEAT_MS / 1000
            await asyncio.sleep(due - time.monotonic())
            late.append((time.monotonic() - due) * 1000)
        return late


async def beat(system: System, side: Side, _runs: int) -> Samples:
    """The tick of an actor of ours beside as many busy processes as there are cores."""
    niceness = [float(linux.niceness(pid)) for pid in side.call_processes()]
    with _joined(system):
        ticking: Any = ray.remote(Beat).options(num_cpus=0).remote()
        await ticking.lateness_ms.remote(0.1)
        spin = (sys.executable, "-c", "while True: pass")
        async with (
            own_process(*spin, environ=dict(os.environ)),
            own_process(*spin, environ=dict(os.environ)),
        ):
            late: list[float] = await ticking.lateness_ms.remote(TALK_S)
    return {"beat_ms": late, "niceness": niceness}


@dataclass(frozen=True, slots=True)
class Holdings:
    """What there is while no call is live."""

    rooms: int
    leases: int
    fds: float
    """Of a call process, the median."""
    tasks: float
    pss_mb: float
    control: dict[int, tuple[int, float]]
    """Control processes and replicas: pid -> file descriptors and megabytes."""


async def hundred_calls(system: System, side: Side, _runs: int) -> Samples:
    """What there is after a hundred calls that was not there before; each process has had a few before it begins."""
    with _joined(system):
        await _calls(system, side, 4 * system.parked)
        before = await _holdings(system)
        failed = await _calls(system, side, CALLS)
        after = await _holdings(system)
    grown = [(fds - before.control[pid][0], mb - before.control[pid][1]) for pid, (fds, mb) in after.control.items()]
    return {
        "long_rooms": [after.rooms],
        "long_leases": [after.leases],
        "long_failed": [failed],
        "long_fds": [after.fds - before.fds],
        "long_tasks": [after.tasks - before.tasks],
        "long_pss_mb": [after.pss_mb - before.pss_mb],
        "long_control_fds": [fds for fds, _ in grown],
        "long_control_pss_mb": [mb for _, mb in grown],
    }


async def _calls(system: System, side: Side, number: int) -> int:
    """So many calls, a few at a time; returns how many went wrong."""
    steps: list[Json] = [*turns(1), {"hang_up": True}]
    places = asyncio.Semaphore(CALLS_AT_ONCE)

    async def one() -> bool:
        async with places:
            log = await system.phone(await system.ring(side.number, steps))
            return bool(log["script_done"])

    done = await asyncio.gather(*(one() for _ in range(number)))
    return number - sum(done)


async def _holdings(system: System) -> Holdings:
    await system.until_warm()

    async def no_room() -> bool:
        return not (await system.livekit.room.list_rooms(api.ListRoomsRequest())).rooms

    with suppress(TimeoutError):
        await until(no_room, timeout_s=30)
    rooms = (await system.livekit.room.list_rooms(api.ListRoomsRequest())).rooms
    pids = system.call_processes()
    actors = await asyncio.to_thread(names.find_call_actors)
    tasks = [await actor.__ray_call__.remote(_tasks) for actor in actors.values()]
    return Holdings(
        rooms=len(rooms),
        leases=await asyncio.to_thread(_open_leases, system),
        fds=median(linux.descriptors(pid) for pid in pids),
        tasks=median(tasks),
        pss_mb=median(linux.pss_mb(pid) for pid in pids),
        control={pid: (linux.descriptors(pid), linux.pss_mb(pid)) for pid in system.processes(*_CONTROL)},
    )


def _tasks(actor: Any) -> int:
    # Ray runs this outside of the loop, so it has to be found.
    return len(asyncio.all_tasks(actor._slot._kit.http._loop))


def _open_leases(system: System) -> int:
    engine = open_engine(f"sqlite:///{system.database}")
    try:
        with engine.connect() as connection:
            found = connection.scalar(select(func.count()).select_from(leases).where(leases.c.ended_at.is_(None)))
            return int(found or 0)
    finally:
        engine.dispose()


@contextmanager
def _joined(system: System) -> Iterator[None]:
    """This process is a part of the system's Ray cluster."""
    names.connect(load_settings(system.ready["environ"] | {"RINGMASTER_RAY_ADDRESS": system.ready["ray"]}))
    try:
        yield
    finally:
        ray.shutdown()
