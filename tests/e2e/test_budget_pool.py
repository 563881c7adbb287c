"""`BudgetPool` is killed, at the moments at which it could lose or double something."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import httpx2
import pytest
import ray
from sqlalchemy import make_url

from actors import names
from cluster.budget.audit import audit
from cluster.budget.prices import load_prices
from cluster.fingerprint import fingerprint
from cluster.storage import open_engine
from tests.e2e.conftest import System, budget_pool_process, until

pytestmark = pytest.mark.usefixtures("cluster")

LONG = [{"wait": "turn_end"}, {"pause_ms": 60_000}]
HANGS_UP = ("+14155580202", "+14155590202")
"""Phones that are answered, and a second later put down."""
ADMITTED = 202


def kill_budget_pool() -> None:
    """And return once another one answers."""
    lost = budget_pool_process()
    os.kill(lost, signal.SIGKILL)
    until(lambda: budget_pool_process() != lost)


def place(system: System, to: str, key: str) -> str:
    """Place a call as a careful client does: again under the same key until there is an answer; returns its id."""

    def ask() -> str | None:
        try:
            answer = system.dial(to, key=key)
        except httpx2.TransportError:
            return None
        return str(answer.json()["call_id"]) if answer.status_code == ADMITTED else None

    return until(ask)


def free() -> int:
    """How many calls could start now, by the pool itself."""
    return int(ray.get(names.budget_pool().capacity.remote()))


@contextmanager
def nothing_is_committed(system: System) -> Iterator[None]:
    """Somebody else holds the database's write lock."""
    file = make_url(system.settings().database_url).database
    assert file is not None
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def no_call_starts() -> Iterator[None]:
    """Every call actor is frozen."""
    processes = [ray.get(handle.status.remote()).pid for handle in names.find_call_actors().values()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # it may have been taken for dead
                os.kill(process, signal.SIGCONT)


def has_lease(system: System, key: str) -> bool:
    """Whether the call of that request is in the database."""
    with open_engine(system.settings().database_url).connect() as connection:
        query = "SELECT count(*) FROM requests WHERE request_id = ?"
        return bool(connection.exec_driver_sql(query, (key,)).scalar())


def check(system: System, call_id: str, number: str) -> None:
    """The call was held once, to its end, and the money is right."""
    assert system.ended(call_id)["outcome"]["result"] == "success"
    assert len(system.carrier_calls(number)) == 1
    system.until_warm()
    assert audit(open_engine(system.settings().database_url), load_prices()).problems == []


def test_live_calls_go_on_and_new_ones_are_admitted(system: System) -> None:
    """The restarted actor finds its calls again."""
    system.until_warm()
    phone_call = system.ring(steps=LONG)
    system.phone(phone_call, until="answered")
    call_id = system.inbound_call(phone_call)["call_id"]
    kill_budget_pool()
    assert until(lambda: system.statistics().get("free") == 3)
    assert system.call(call_id)["state"] == "answered"
    place(system, "+14155550486", "after-the-kill")
    assert system.api.post(f"/v1/calls/{call_id}/hangup").status_code == ADMITTED
    assert system.ended(call_id)["outcome"]["reason"] == "hung-up-by-api"
    assert system.phone(phone_call)["ending"] == "room-deleted"


def test_changed_settings_reach_it_and_every_actor_and_cut_no_call(system: System) -> None:
    """As a deployment with another key or limit does: the call goes on with the old ones to its end."""
    system.until_warm()
    phone_call = system.ring(steps=LONG)
    system.phone(phone_call, until="answered")
    call_id = system.inbound_call(phone_call)["call_id"]
    settings = system.settings(RINGMASTER_LOG_LEVEL="error")
    names.ensure_control_plane(settings)
    for actor in (names.budget_pool(), names.records()):
        assert ray.get(actor.fingerprint.remote()) == fingerprint(settings)
    assert until(lambda: system.statistics().get("free") == 3)
    assert system.api.post(f"/v1/calls/{call_id}/hangup").status_code == ADMITTED
    assert system.ended(call_id)["outcome"]["reason"] == "hung-up-by-api"
    assert system.phone(phone_call)["ending"] == "room-deleted"

    def found() -> set[str]:
        said = set()
        for handle in names.find_call_actors().values():
            with suppress(ray.exceptions.RayActorError):  # it is replaced just now
                said.add(ray.get(handle.status.remote()).fingerprint)
        return said

    until(lambda: found() == {fingerprint(settings)})
    system.until_warm()


def test_before_the_reservation_is_committed(system: System) -> None:
    """Nobody knows of the request, and it is decided when it comes again."""
    system.until_warm()
    with ThreadPoolExecutor() as client:
        with nothing_is_committed(system):
            placed = client.submit(place, system, HANGS_UP[0], "before-commit")
            until(lambda: free() == 3)
            kill_budget_pool()
        call_id = placed.result()
    check(system, call_id, HANGS_UP[0])


def test_between_the_commit_and_the_start(system: System) -> None:
    """The request is known: its call is begun by whoever comes next, and who asks again is told of that one."""
    system.until_warm()
    with ThreadPoolExecutor() as client, no_call_starts():
        placed = client.submit(place, system, HANGS_UP[1], "after-commit")
        until(lambda: has_lease(system, "after-commit"))
        kill_budget_pool()
    call_id = placed.result()
    assert place(system, HANGS_UP[1], "after-commit") == call_id
    check(system, call_id, HANGS_UP[1])
