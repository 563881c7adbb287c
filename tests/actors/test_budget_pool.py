"""The budget and pool actor as a plain object, with call actors behind handles like Ray's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from actors import names, nodes
from actors.budget_pool import BudgetPool
from actors.ports import RayCallActor
from cluster.budget.fleet import Fleet
from cluster.budget.ports import ActorLost
from cluster.dispatch.ports import ControlPlaneDown
from cluster.keys import create_key, revoke_key, sha256_hex
from cluster.messages import Admitted, CallRecord, Checkpoint, Refused, Renewal, Usage, Verdict
from cluster.outcome import BLOCKED_NUMBER
from cluster.settings import Settings, load_settings
from cluster.storage import open_engine
from tests.budget.fakes import FakeCallActor, FakeCallActors, FakeHistory, bill, call_request
from tests.budget.house import until


def _died(text: str) -> ray.exceptions.ActorDiedError:
    error = ray.exceptions.ActorDiedError()
    error.error_msg = text
    return error


class Remote:
    """A method as a handle has it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Handle:
    """An actor as Ray shows it."""

    def __init__(self, actor: object) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Remote:
        return Remote(getattr(self.actor, name))


@dataclass(slots=True)
class RayOfTheTest:
    """What `actors.names` would reach in a cluster."""

    fleet: FakeCallActors = field(default_factory=FakeCallActors)
    history: FakeHistory = field(default_factory=FakeHistory)
    requested: list[int] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def create(self, slot: str, _settings: Settings, avoid: frozenset[str]) -> Handle:
        """As `names.create_call_actor`, which is called in a thread."""
        asyncio.run_coroutine_threadsafe(self.fleet.create(slot, avoid), self.loop).result()
        return Handle(self.fleet.alive[slot])

    def find(self) -> dict[str, Handle]:
        """As `names.find_call_actors`."""
        return {slot: Handle(actor) for slot, actor in self.fleet.alive.items()}

    def kill(self, handle: Handle) -> None:
        """As `names.kill`."""
        assert isinstance(handle.actor, FakeCallActor)
        asyncio.run_coroutine_threadsafe(self.fleet.kill(handle.actor), self.loop).result()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> RayOfTheTest:
    """Names that lead into the test."""
    world = RayOfTheTest()
    monkeypatch.setattr(names, "create_call_actor", world.create)
    monkeypatch.setattr(names, "find_call_actors", world.find)
    monkeypatch.setattr(names, "kill", world.kill)
    monkeypatch.setattr(nodes, "fleet", lambda: Fleet({"node": 8}))
    monkeypatch.setattr(nodes, "request_slots", lambda slots, _without: world.requested.append(slots))
    monkeypatch.setattr(nodes, "drain", lambda node: node == "node")
    monkeypatch.setattr(names, "records", lambda: Handle(world.history))
    return world


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a fresh machine."""
    return load_settings(
        {
            "LIVEKIT_URL": "ws://127.0.0.1:1",
            "LIVEKIT_API_KEY": "key",
            "LIVEKIT_API_SECRET": "secret",
            "GEMINI_API_KEY": "key",
            "DATABASE_URL": f"sqlite:///{tmp_path}/ringmaster.db",
        }
    )


@pytest.fixture
async def pool(world: RayOfTheTest, settings: Settings) -> AsyncIterator[BudgetPool]:
    """An actor with two parked call actors."""
    del world
    pool = BudgetPool(settings)
    await parked(pool, 2)
    yield pool
    await close(pool)


async def parked(pool: BudgetPool, number: int) -> None:
    """Wait for so many."""
    desk = await pool._desk()
    await until(lambda: desk.statistics()["parked"] == number)


async def close(pool: BudgetPool) -> None:
    """What the end of its process does."""
    await pool._close.aclose()


async def serving(world: RayOfTheTest, call_id: str) -> FakeCallActor:
    """The actor that has the call."""
    await until(lambda: any(a.state == "busy" for a in world.fleet.alive.values()))
    return world.fleet.serving(call_id)


async def test_a_call_goes_through_the_actors_from_admission_to_record(pool: BudgetPool, world: RayOfTheTest) -> None:
    """Admit, start, renew, end, settle, record."""
    said = await pool.admit(call_request(1))
    assert isinstance(said, Admitted)
    actor = await serving(world, "call-1")
    renewal = Renewal(
        lease_id=said.lease_id,
        fencing_token=1,
        usage=Usage(),
        cost_usd_micros=100,
        metered=bill(100).metered,
        charges_usd_micros=bill(100).charges,
        talk_s=1.0,
        checkpoint=Checkpoint(),
    )
    assert await pool.renew(renewal) is Verdict.CONTINUE
    assert [call["cost_usd_micros"] for call in await pool.live_calls("acme")] == [100]
    assert await pool.hangup("call-1")
    actor.end(cost_usd_micros=150)
    await until(lambda: "call-1" in world.history.finished)
    assert await pool.capacity() == 8
    assert (await pool.statistics())["spent_usd_micros"] == {"acme": 150}
    assert world.history.begun == ["call-1"]


async def test_messages_that_come_at_once_open_it_once(world: RayOfTheTest, settings: Settings) -> None:
    """A restart is followed by everybody's messages at the same time."""
    pool = BudgetPool(settings)
    assert len(set(map(id, await asyncio.gather(*(pool._desk() for _ in range(5)))))) == 1
    await parked(pool, 2)
    assert len(world.fleet.alive) == 2
    await close(pool)


async def test_a_start_that_fails_is_tried_again_with_the_next_message(
    world: RayOfTheTest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the failed one is left behind."""
    failures = [ConnectionError()]

    def find() -> dict[str, Handle]:
        if failures:
            raise failures.pop()
        return world.find()

    monkeypatch.setattr(names, "find_call_actors", find)
    pool = BudgetPool(settings)
    with pytest.raises(ControlPlaneDown, match="ConnectionError"):
        await pool.capacity()
    assert await pool.capacity() == 8
    await close(pool)


async def test_a_lost_actor_is_killed_and_another_has_its_call(pool: BudgetPool, world: RayOfTheTest) -> None:
    """Should it only be out of reach, it must not go on."""
    await pool.admit(call_request(1))
    actor = await serving(world, "call-1")
    actor.die()
    await until(lambda: actor.slot in world.fleet.killed)
    assert (await serving(world, "call-1")).assignment.fencing_token == 2


async def test_a_new_process_finds_the_calls_of_the_old_one(world: RayOfTheTest, settings: Settings) -> None:
    """Nothing of a live call depends on the process that admitted it."""
    old = BudgetPool(settings)
    await parked(old, 2)
    said = await old.admit(call_request(1))
    actor = await serving(world, "call-1")
    await close(old)
    new = BudgetPool(settings)
    assert await new.admit(call_request(1)) == said
    assert [call["call_id"] for call in await new.live_calls()] == ["call-1"]
    actor.end()
    await until(lambda: "call-1" in world.history.finished)
    await close(new)


async def test_a_drain_is_for_new_calls(pool: BudgetPool) -> None:
    """And can be taken back."""
    await pool.drain(on=True)
    assert isinstance(await pool.admit(call_request(1)), Refused)
    assert await pool.capacity() == 0
    await pool.drain(on=False)
    assert await pool.capacity() == 8


async def test_keys_are_looked_up(pool: BudgetPool, settings: Settings) -> None:
    """A good one has its principal, any other has none."""
    engine = open_engine(settings.database_url)
    key = create_key(engine, "acme", ["calls"])
    principal = await pool.authenticate(sha256_hex(key))
    assert principal is not None
    assert principal.tenant == "acme"
    assert revoke_key(engine, principal.key_id)
    assert await pool.authenticate("0" * 64) is None
    engine.dispose()


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (_died("The actor is dead because its worker process has died."), True),
        (_died("The actor died because its node has died. Node Id: abc"), False),
        (ray.exceptions.ActorUnavailableError("no answer", None), False),
        (ray.exceptions.RayTaskError("wait", "trace", RuntimeError()), False),
        (ConnectionResetError(), False),
    ],
)
async def test_what_ray_raises_says_whether_the_process_is_gone(error: Exception, gone: bool) -> None:  # noqa: FBT001
    """Only a process that certainly ended counts as gone; a node that is cut off may still carry the call."""

    class Broken:
        async def wait(self) -> CallRecord:
            raise error

    with pytest.raises(ActorLost) as caught:
        await RayCallActor(Handle(Broken())).wait()
    assert caught.value.gone is gone


async def test_the_policy_file_holds_from_the_start(world: RayOfTheTest, settings: Settings, tmp_path: Path) -> None:
    """Whoever it blocks is refused."""
    del world
    file = tmp_path / "policy.yaml"
    file.write_text('blocked_prefixes: ["+1555"]')
    pool = BudgetPool(settings.model_copy(update={"policy_file": file}))
    said = await pool.admit(call_request(1))
    assert isinstance(said, Refused)
    assert said.outcome == BLOCKED_NUMBER
    await close(pool)


async def test_the_cluster_is_asked_for_room_and_a_node_can_be_drained(pool: BudgetPool, world: RayOfTheTest) -> None:
    """Two parked actors and one in reserve; and a node that nobody knows is not drained."""
    await until(lambda: world.requested)
    assert world.requested == [3]
    assert await pool.drain_node("node")
    assert not await pool.drain_node("nowhere")


async def test_how_the_pool_stands(pool: BudgetPool, world: RayOfTheTest) -> None:
    """With its node, once that was looked at."""
    await until(lambda: world.requested)
    shown = await pool.pool()
    assert [(profile["wanted"], profile["parked"]) for profile in shown["profiles"]] == [(2, 2)]
    assert [(node["node"], node["call_slots"], node["waiting"]) for node in shown["nodes"]] == [("node", 8, 2)]
