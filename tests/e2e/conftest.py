"""One system for all tests of this folder, started as its user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, TypeVar

import httpx2
import pytest
import ray
from ray._private.state import actors

from actors import names
from cluster.dispatch.ports import ControlPlaneDown
from cluster.local.livekit_server import die_with_parent
from cluster.local.stack import NUMBER
from cluster.settings import Settings, load_settings

T = TypeVar("T")
POLL_EVERY_S = 0.05
SETTINGS = {
    "RINGMASTER_PARKED": "receptionist=2,reminder=1",
    "RINGMASTER_MAX_CALLS": "4",
    "RINGMASTER_RINGING_TIMEOUT_S": "5",
    "RINGMASTER_RAY_DASHBOARD": "false",
    "RINGMASTER_LOG_LEVEL": "warning",
}


@dataclass(frozen=True)
class System:
    """Where the running system answers."""

    api: httpx2.Client
    carrier: httpx2.Client
    meter: httpx2.Client
    ready: dict[str, Any]
    given: Mapping[str, str]
    """Its settings beyond those that lead it to its parts."""
    parked: int = 3
    """So many actors wait for a call where none is live."""
    free: int = 4
    """So many calls fit then."""
    numbers: Iterator[int] = field(default_factory=lambda: count(3_000))
    """The last digits of the next phone: each call of a test is from one of its own."""

    def settings(self, **changes: str) -> Settings:
        """The system's own, with those variables changed."""
        where = {"RINGMASTER_STATE_DIR": self.ready["state_dir"], "RINGMASTER_RAY_ADDRESS": self.ready["ray"]}
        return load_settings({**self.ready["environ"], **self.given, **where, **changes})

    def ring(self, script: str = "receptionist", **wish: Any) -> str:
        """A phone calls in; returns the carrier's id of the call."""
        number = f"+1415555{next(self.numbers)}"
        body = {"from": number, "to": NUMBER, "script": script} | wish
        answer = self.carrier.post("/_calls", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["call_id"])

    def phone(self, carrier_call: str, until: str = "ended", timeout_s: float = 100) -> dict[str, Any]:
        """The carrier's log of a call, once it was answered or has ended."""
        query: dict[str, str | float] = {"until": until, "timeout_s": timeout_s}
        log: dict[str, Any] = self.carrier.get(f"/_calls/{carrier_call}", params=query).json()
        return log

    def dial(self, to: str, key: str | None = None, timeout_s: float = 120, **wish: Any) -> httpx2.Response:
        """`POST /v1/calls` for the profile `reminder`."""
        body = {"to": to, "profile": "reminder", "context": {"name": "Sam", "when": "tomorrow morning at nine"}} | wish
        return self.api.post("/v1/calls", json=body, headers={"Idempotency-Key": key} if key else {}, timeout=timeout_s)

    def call(self, call_id: str) -> dict[str, Any]:
        """`GET /v1/calls/{id}`."""
        answer = self.api.get(f"/v1/calls/{call_id}")
        assert answer.status_code == 200, answer.text
        call: dict[str, Any] = answer.json()
        return call

    def ended(self, call_id: str, timeout_s: float = 90) -> dict[str, Any]:
        """The call once it has its record."""
        return until(lambda: (call := self.call(call_id))["state"] == "ended" and call, timeout_s)

    def inbound_call(self, carrier_call: str) -> dict[str, Any]:
        """Our record of the call that the carrier knows by another id: the newest one from the phone's number."""
        number = self.phone(carrier_call, until="none", timeout_s=0)["number"]

        def find() -> dict[str, Any] | None:
            calls = self.api.get("/v1/calls", params={"limit": 50}).json()["calls"]
            return next((call for call in calls if call["from"] == number), None)

        return until(find)

    def carrier_calls(self, number: str) -> list[dict[str, Any]]:
        """The carrier's logs of a phone, each once its call has ended."""
        logs = self.carrier.get("/_calls").json()["calls"]
        return [self.phone(log["call_id"]) for log in logs if log["number"] == number]

    def statistics(self) -> dict[str, Any]:
        """`GET /readyz`."""
        answer: dict[str, Any] = self.api.get("/readyz").json()
        return answer

    def until_warm(self) -> None:
        """Every actor that should be parked is, and no call is live."""
        until(lambda: (s := self.statistics()).get("parked", 0) >= self.parked and s["free"] == self.free)


def until(probe: Callable[[], T | Literal[False] | None], timeout_s: float = 60) -> T:
    """What `probe` returns once it is true; fails if it never is."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        assert time.monotonic() < deadline, "this did not come about in time"
        time.sleep(POLL_EVERY_S)
    return found


@contextmanager
def joined(system: System) -> Iterator[None]:
    """This process is in the system's Ray cluster."""
    names.connect(system.settings())
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def cluster(system: System) -> Iterator[None]:
    """This process joins the system's Ray cluster."""
    with joined(system):
        yield


def budget_pool_process() -> int:
    """The process of `BudgetPool`, as soon as there is one."""
    return process_of(names.budget_pool())


def process_of(control_actor: Any) -> int:
    """Its process, as soon as there is one."""
    actor_id = control_actor._actor_id.hex()

    def find() -> int | None:
        pid = int(actors(actor_id).get("Pid") or 0)
        return pid if pid and Path(f"/proc/{pid}").exists() else None

    return until(find)


def is_down(method: Any) -> bool:
    """Whether a control actor says that it can't answer, rather than nothing."""
    try:
        ray.get(method.remote())
    except ControlPlaneDown:
        return True
    except names.UNREACHABLE:
        pass
    return False


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The embedded stack and the application, with two parked receptionists and one parked reminder."""
    with running_system() as found:
        yield found


def _arguments(scenario: Path | None, call_nodes: int) -> list[str]:
    return [*([str(scenario)] if scenario else []), "--call-nodes", str(call_nodes)]


def _read_on(pipe: IO[str]) -> None:
    """What Ray prints there would fill the pipe, and then whoever prints waits for ever."""
    with pipe:
        deque(pipe, maxlen=0)


@contextmanager
def running_system(
    scenario: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    parked: int = 3,
    free: int = 4,
    call_nodes: int = 0,
) -> Iterator[System]:
    """The same, with the shipped conversation or another, and other settings; `parked` and `free` follow from those."""
    environ = {
        k: v for k, v in os.environ.items() if not k.startswith(("RINGMASTER_", "LIVEKIT_", "GOOGLE_", "GEMINI_"))
    }
    given = {**SETTINGS, **settings}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.system_process", *_arguments(scenario, call_nodes)],
        stdout=subprocess.PIPE,
        env={**environ, **given},
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it is one system call
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        ready = json.loads(next(line for line in process.stdout if line.startswith('{"url"')))
        threading.Thread(target=_read_on, args=(process.stdout,), daemon=True).start()
        headers = {"Authorization": f"Bearer {ready['key']}"}
        options: dict[str, Any] = {"trust_env": False, "timeout": 120}
        with (
            httpx2.Client(base_url=ready["url"], headers=headers, **options) as api,
            httpx2.Client(base_url=ready["carrier"], **options) as carrier,
            httpx2.Client(base_url=ready["meter"], **options) as meter,
        ):
            found = System(api, carrier, meter, ready, given, parked, free)
            found.until_warm()
            yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
