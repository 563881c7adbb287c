"""What breaks under a live call, and what the caller notices of it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from livekit import api

from actors import names
from tests.e2e.conftest import System, budget_pool_process, is_down, process_of, until
from tests.e2e.test_calls import said

SHORT = [
    {"wait": "turn_end"},
    {"say": "What time do you open on Sunday?"},
    {"wait": "turn_end"},
    {"pause_ms": 7_000},  # in which a frozen process is found out
    {"say": "Thank you, that is all. Goodbye!"},
    {"wait": "call_end"},
]
"""The fault comes when the agent has answered."""


def pid_of(handle: Any) -> int:
    """The process of an actor."""
    found: int = ray.get(handle.status.remote()).pid
    return found


@pytest.mark.usefixtures("cluster")
def test_call_processes_run_at_full_priority(system: System) -> None:
    """Ray's own default is niceness 15, at which audio stutters as soon as anything else runs."""
    system.until_warm()
    actors = names.find_call_actors()
    assert actors
    for handle in actors.values():
        stat = Path(f"/proc/{pid_of(handle)}/stat").read_text(encoding="ascii")
        assert int(stat.rpartition(")")[2].split()[16]) == 0


def process_with(call_id: str) -> int:
    """The process that has the call, as soon as one does."""

    def find() -> int | None:
        statuses = (ray.get(handle.status.remote()) for handle in names.find_call_actors().values())
        return next((status.pid for status in statuses if status.call_id == call_id), None)

    return until(find)


def was_asked(system: System, call_id: str) -> bool:
    """Whether the caller's question is in the transcript."""
    return "What time" in str(system.call(call_id)["transcript"])


def begun(system: System, number: int = 1) -> list[tuple[str, str]]:
    """Calls in which the agent has just been asked something: the carrier's name for each, and ours."""
    system.until_warm()
    phone_calls = [system.ring(steps=SHORT) for _ in range(number)]
    for phone_call in phone_calls:
        system.phone(phone_call, until="answered")
    calls = [(phone_call, system.inbound_call(phone_call)["call_id"]) for phone_call in phone_calls]
    for _, call_id in calls:
        until(partial(was_asked, system, call_id))
    return calls


@pytest.mark.usefixtures("cluster")
def test_a_lost_call_process_costs_no_call(system: System) -> None:
    """One is killed and one frozen: the phones stay up, the conversations go on, and nobody is greeted again."""
    calls = begun(system, 2)
    killed, frozen = (process_with(call_id) for _, call_id in calls)
    os.kill(killed, signal.SIGKILL)
    os.kill(frozen, signal.SIGSTOP)
    try:
        phones = [system.phone(phone_call) for phone_call, _ in calls]
    finally:
        with suppress(ProcessLookupError):  # it is ended as soon as its call is another's
            os.kill(frozen, signal.SIGCONT)
    for phone, (_, call_id) in zip(phones, calls, strict=True):
        call = system.ended(call_id)
        assert "audible_2" in call["timings_ms"]
        check(phone, call)
    system.until_warm()


@pytest.mark.usefixtures("cluster")
def test_a_call_process_that_is_lost_with_budget_pool_costs_no_call(system: System) -> None:
    """The pool's next process has heard of the call by the database and the history alone."""
    ((phone_call, call_id),) = begun(system)
    lost = process_with(call_id)
    os.kill(budget_pool_process(), signal.SIGKILL)
    os.kill(lost, signal.SIGKILL)
    phone = system.phone(phone_call)
    check(phone, system.ended(call_id))
    system.until_warm()


@pytest.mark.usefixtures("cluster")
def test_control_actors_that_cannot_open_their_database_end_no_call(system: System) -> None:
    """They have lost their processes meanwhile, and answer nobody until it is back."""
    ((phone_call, call_id),) = begun(system)
    lock = Path(system.ready["state_dir"], "ringmaster.db.lock")
    lock.unlink()
    lock.mkdir()
    try:
        for actor in (names.budget_pool(), names.records()):
            os.kill(process_of(actor), signal.SIGKILL)
        until(lambda: is_down(names.budget_pool().capacity) and is_down(names.records().statistics))
    finally:
        lock.rmdir()
    phone = system.phone(phone_call)
    check(phone, system.ended(call_id))
    system.until_warm()


def check(phone: dict[str, Any], call: dict[str, Any]) -> None:
    """The conversation was held to its end, with one greeting, and is in the record as it was heard."""
    assert phone["ending"] == "room-deleted"
    assert [line["text"] for line in phone["lines"] if line["who"] == "caller"] == said(call, "caller")
    assert call["outcome"]["reason"] == "agent-ended"
    assert sum("Good morning" in line for line in said(call, "agent")) == 1


def test_a_dispatch_by_name_starts_a_call(system: System) -> None:
    """`create_dispatch` and `room_config.agents` of a token reach Ringmaster unchanged."""
    system.until_warm()
    environ = system.ready["environ"]

    async def dispatch() -> None:
        keys = environ["LIVEKIT_URL"], environ["LIVEKIT_API_KEY"], environ["LIVEKIT_API_SECRET"]
        async with api.LiveKitAPI(*keys) as client:
            await client.room.create_room(api.CreateRoomRequest(name="by-name"))
            wish = api.CreateAgentDispatchRequest(agent_name="gemini-sip-agent", room="by-name", metadata="{}")
            await client.agent_dispatch.create_dispatch(wish)
            async with asyncio.timeout(20):
                while True:
                    found = await client.room.list_participants(api.ListParticipantsRequest(room="by-name"))
                    if any(p.identity.startswith("agent-") and p.tracks for p in found.participants):
                        break
                    await asyncio.sleep(0.05)
            await client.room.delete_room(api.DeleteRoomRequest(room="by-name"))

    asyncio.run(dispatch())
    system.until_warm()


def test_nothing_is_left_over(system: System) -> None:
    """After all these calls: no room, no lease, and as many processes as are parked."""
    system.until_warm()
    environ = system.ready["environ"]

    async def rooms() -> list[str]:
        keys = environ["LIVEKIT_URL"], environ["LIVEKIT_API_KEY"], environ["LIVEKIT_API_SECRET"]
        async with api.LiveKitAPI(*keys) as client:
            return [room.name for room in (await client.room.list_rooms(api.ListRoomsRequest())).rooms]

    assert until(lambda: asyncio.run(rooms()) == [])
    assert system.api.get("/v1/calls", params={"state": "live"}).json()["calls"] == []


@pytest.mark.usefixtures("cluster")
def test_ray_listens_on_loopback_only(system: System) -> None:
    """Whoever reaches a Ray process can run code in it, so none of ours is reached from outside."""
    system.until_warm()
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]
        if line.split()[3] == "0A"
    }
    port = f"{int(system.ready['ray'].rpartition(':')[2]):04X}"
    (address,) = [local.split(":")[0] for local in listening if local.endswith(f":{port}")]
    assert address in {"0100007F", "0000000000000000FFFF00000100007F"}
