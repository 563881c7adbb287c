"""Ringmaster on a real KubeRay: ready from `kubectl apply`, grown by load, and shrunk without cutting a call."""

from __future__ import annotations

import csv
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from cluster.local.stack import NUMBER, LocalStack
from tests.kube.cluster import CALLS, HEAD, Kubernetes, until
from tests.kube.overlay import CALL_SLOTS, overlay

ROOT: Final = Path(__file__).parents[2]
PROFILE: Final = Path(__file__).with_name("receptionist.yaml")
MANIFEST: Final = ROOT / "ray-cluster.yaml"
MOUNT: Final = "/etc/ringmaster/profiles"
MINUTE_S: Final = 60.0
SILENCE_MS: Final = 1_800_000
"""A caller who waits for the agent hangs up after a while; one who pauses does not."""
TURNS: Final = 3
"""Of the scenario `load`: the agent answers twice, and says goodbye."""
FOLDER: Final = "/tmp/campaign"
REFUSALS: Final = {
    "+12125550486": "caller/busy",
    "+13125550603": "caller/declined",
    "+14155550404": "caller/number-not-found",
}
CAMPAIGN: Final = """\
name: kube
profile: receptionist
contacts: {file: contacts.csv, number: phone}
hours: Mo-Su 00:00-24:00
pacing: {calls_per_second: 1, concurrency: 2}
retries: {most_calls: 1}
"""
PLACES: Final = """
import json, ray
from ray.util.state import list_actors
from actors import names
ray.init(address="auto", namespace=names.NAMESPACE, log_to_driver=False, logging_level="ERROR")
hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
nodes = {actor.name: actor.node_id for actor in list_actors(filters=[("state", "=", "ALIVE")], limit=1000)}
calls = ray.get(names.budget_pool().live_calls.remote())
print(json.dumps({call["call_id"]: hosts.get(nodes.get(call["slot"])) for call in calls}))
"""
"""Run on the head: which host each live call is on."""


class Trial:
    """One cluster, and the phones that ring it."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        stack: LocalStack,
        redis: Redis,
        database_url: str,
        host: str,
        image: str,
    ) -> None:
        """`host` is this machine's address as the pods see it; `image` is one that the nodes have or can pull."""
        self.kubernetes = kubernetes
        self.stack = stack
        self.redis = redis
        self.database_url = database_url
        self.host = host
        self.image = image
        self.carrier = httpx2.Client(base_url=stack.carrier_url, trust_env=False, timeout=MINUTE_S)
        self.api = self.carrier
        self._numbers = count(3_000)
        self._began = time.monotonic()

    def say(self, what: str) -> None:
        """A line of the protocol, with the seconds since the beginning."""
        sys.stdout.write(f"{time.monotonic() - self._began:6.0f} s  {what}\n")
        sys.stdout.flush()

    def run(self) -> None:
        """Everything, in order; fails at the first thing that is not as it should be."""
        self.comes_up()
        self.holds_a_conversation()
        self.grows_and_shrinks()
        self.loses_a_pod()
        self.gets_another_head()
        self.takes_a_job()

    def comes_up(self) -> None:
        """From nothing to an application that answers, with a call actor parked on a worker."""
        environ = self.stack.environ
        livekit = {name: environ[name] for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")}
        mounted = {"receptionist.yaml": PROFILE.read_text(), "ca.pem": Path(environ["SSL_CERT_FILE"]).read_text()}
        apply = self.kubernetes.apply
        apply(
            _object("Secret", "livekit-credentials", stringData=livekit),
            _object("Secret", "gemini-credentials", stringData={"GEMINI_API_KEY": environ["GEMINI_API_KEY"]}),
            _object("Secret", "database-credentials", stringData={"DATABASE_URL": self.database_url}),
            _object("Secret", "redis-credentials", stringData={"password": self.redis.password}),
            _object("ConfigMap", "ringmaster-profiles", data=mounted),
            *_outside("redis", self.host, self.redis.port),
        )
        outside = ("RINGMASTER_SIP_URL", "RINGMASTER_OUTBOUND_TRUNK_ID", "GOOGLE_GEMINI_BASE_URL")
        settings = {name: environ[name] for name in outside} | {"SSL_CERT_FILE": f"{MOUNT}/ca.pem"}
        began = time.monotonic()
        apply(*overlay(list(yaml.safe_load_all(MANIFEST.read_text())), self.image, settings))
        until("the head is ready", lambda: self.kubernetes.ready(HEAD), 10 * MINUTE_S)
        self.say("the head is ready")
        until("a worker is ready", lambda: self.kubernetes.ready(CALLS), 10 * MINUTE_S)
        self.say("a worker is ready")
        url = f"http://{self.kubernetes.address('ringmaster')}"
        self.api = httpx2.Client(base_url=url, trust_env=False, timeout=MINUTE_S)
        until("the application answers, with a parked call actor", lambda: self._pool().get("parked"), 8 * MINUTE_S)
        self.say(f"it answers, with a parked call actor: {time.monotonic() - began:.0f} s after kubectl apply")
        key = self.kubernetes.on_head("ringmaster", "key", "create", "--scope", "admin", "--scope", "calls").split()[-1]
        self.api.headers["Authorization"] = f"Bearer {key}"

    def holds_a_conversation(self) -> None:
        """A call of three turns, which the agent ends."""
        call = self.ring(script="load")
        log = self.phone(call, "ended")
        assert log["ending"] == "room-deleted", log
        assert len(log["response_ms"]) == TURNS, log
        record = until("the call has its record", lambda: self._ended(log["number"]), MINUTE_S)
        assert record["outcome"]["result"] == "success", record
        self.say(f"a call of {record['talk_s']:.0f} s was held on a worker")

    def grows_and_shrinks(self) -> None:
        """Load brings a second worker, and its end takes one away; the call on the other one goes on."""
        calls = [self.silent_call() for _ in range(CALL_SLOTS + 1)]
        self.say(f"{len(calls)} calls are up, of which a worker holds {CALL_SLOTS}")
        until("there is a second worker", lambda: len(self.kubernetes.ready(CALLS)) > 1, 5 * MINUTE_S)
        where = until("every call is on a worker", lambda: self._all_placed(calls), MINUTE_S)
        assert len(set(where.values())) > 1, where
        self.say(f"{len(set(where.values()))} workers hold them")
        stays = calls[-1]
        for call in calls[:-1]:
            self.hang_up(call)
        until("there is one worker again", lambda: len(self.kubernetes.pods(CALLS)) == 1, 5 * MINUTE_S)
        assert set(self.kubernetes.pods(CALLS)) == {where[stays]}
        self.still_up(stays)
        self.say("one worker was taken away; the call on the other one went on")
        self.hang_up(stays)

    def loses_a_pod(self) -> None:
        """`kubectl delete pod` of a worker with live calls: they go on, new ones come elsewhere, and the pod ends."""
        until("a call actor is parked", lambda: self._pool().get("parked"), 2 * MINUTE_S)
        calls = [self.silent_call(), self.silent_call()]
        where = until("every call is on a worker", lambda: self._all_placed(calls), MINUTE_S)
        doomed = where[calls[0]]
        self.kubernetes.run("delete", "pod", doomed, "--wait=false")
        self.say("the pod of a worker with live calls is deleted")
        until("another worker is ready", lambda: self.kubernetes.ready(CALLS) - {doomed}, 5 * MINUTE_S)
        until("a call actor is parked elsewhere", lambda: self._pool().get("parked"), 2 * MINUTE_S)
        for call in calls:
            self.still_up(call)
        assert doomed in self.kubernetes.pods(CALLS), "the pod ended before its calls"
        later = self.silent_call()
        assert until("the new call has its place", lambda: self._all_placed([later]), MINUTE_S)[later] != doomed
        self.say("its calls go on, and a new one came up on another worker")
        for call in (*calls, later):
            self.hang_up(call)
        until("the pod is gone", lambda: doomed not in self.kubernetes.pods(CALLS), 3 * MINUTE_S)
        self.say("they ended as they would have, and then the pod did")

    def gets_another_head(self) -> None:
        """The head's pod is deleted, and its successor has other settings, as `README.md` says: nobody is cut off."""
        until("a call actor is parked", lambda: self._pool().get("parked"), 2 * MINUTE_S)
        call = self.silent_call()
        (head,) = self.kubernetes.ready(HEAD)
        limit = {"data": {"RINGMASTER_MAX_CALLS": str(CALL_SLOTS)}}
        self.kubernetes.run("patch", "configmap", "ringmaster-settings", "--patch", json.dumps(limit))
        self.kubernetes.run("delete", "pod", head, "--wait=false")
        until("another head is ready", lambda: self.kubernetes.ready(HEAD) - {head}, 5 * MINUTE_S)
        self.say("the head has a successor")
        until("the new limit holds", lambda: self._pool().get("free") == CALL_SLOTS - 1, 5 * MINUTE_S)
        self.still_up(call)
        later = self.silent_call()
        self.say("it has other settings; the call went on meanwhile, and a new one came up")
        for one in (call, later):
            self.hang_up(one)

    def takes_a_job(self) -> None:
        """`ray job submit` of a campaign: it dials each of its contacts, and reports what they answered."""
        for name, text in (("campaign.yaml", CAMPAIGN), ("contacts.csv", "\n".join(("phone", *REFUSALS)))):
            self.kubernetes.on_head("sh", "-c", f'mkdir -p {FOLDER} && printf %s "$1" > "{FOLDER}/$0"', name, text)
        job = ("python", "-m", "actors.campaign", "campaign.yaml")
        said = self.kubernetes.on_head("ray", "job", "submit", "--working-dir", FOLDER, "--", *job)
        assert "succeeded" in said, said
        report = csv.DictReader(self.kubernetes.on_head("ringmaster", "campaign", "report", "kube").splitlines())
        outcomes = {row["number"]: row["outcome"] for row in report}
        assert outcomes == REFUSALS, outcomes
        self.say(f"a campaign ran as a job, and reported what its {len(outcomes)} contacts answered")

    def ring(self, **wish: Any) -> str:
        """A phone calls in; returns the carrier's id of the call."""
        body = {"from": f"+1415555{next(self._numbers)}", "to": NUMBER} | wish
        return str(self.carrier.post("/_calls", json=body).raise_for_status().json()["call_id"])

    def silent_call(self) -> str:
        """A caller who says nothing, once the agent is there."""
        call = self.ring(steps=[{"pause_ms": SILENCE_MS}])
        self.phone(call, "answered")
        self.still_up(call)
        return call

    def phone(self, call: str, state: str) -> dict[str, Any]:
        """The carrier's log of a call, once it got that far."""

        def look() -> dict[str, Any] | None:
            log: dict[str, Any] = self.carrier.get(f"/_calls/{call}", params={"until": state, "timeout_s": 20}).json()
            return log if log[f"{state}_s"] is not None else None

        return until(f"the phone call is {state}", look, 2 * MINUTE_S)

    def still_up(self, call: str) -> None:
        """The phone has not heard the end of it."""
        log = self.carrier.get(f"/_calls/{call}").json()
        assert log["status"] == "active", log

    def hang_up(self, call: str) -> None:
        """The phone hangs up, and the record says that it was the caller."""
        self.still_up(call)
        self.carrier.post(f"/_calls/{call}/hangup").raise_for_status()
        number = self.phone(call, "ended")["number"]
        record = until("the call has its record", lambda: self._ended(number), MINUTE_S)
        assert record["outcome"]["result"] in {"success", "caller"}, record

    def _pool(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.api.get("/readyz").json()
        except (httpx2.HTTPError, ValueError):
            return {}
        return found

    def _ended(self, number: str) -> dict[str, Any] | None:
        calls = self.api.get("/v1/calls", params={"state": "ended", "limit": 50}).raise_for_status().json()["calls"]
        return next((call for call in calls if call["from"] == number), None)

    def _all_placed(self, calls: list[str]) -> dict[str, str] | None:
        """The pod that holds each call, once every one is known."""
        numbers = {self.carrier.get(f"/_calls/{call}").json()["number"]: call for call in calls}
        pods: dict[str, str] = json.loads(self.kubernetes.on_head("python", "-c", PLACES).splitlines()[-1])
        live = self.api.get("/v1/calls", params={"state": "live", "limit": 50}).raise_for_status().json()["calls"]
        placed = {numbers[one["from"]]: pods.get(one["call_id"]) for one in live if one["from"] in numbers}
        found = {call: pod for call, pod in placed.items() if pod}
        return found if len(found) == len(calls) else None


@dataclass(frozen=True, slots=True)
class Redis:
    """Where the head keeps what it knows."""

    port: int
    password: str


@contextmanager
def running_redis(host: str) -> Iterator[Redis]:
    """A Redis of this machine's, which has to have `redis-server`."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        redis = Redis(probe.getsockname()[1], secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        options = ["--bind", host, "--port", str(redis.port), "--dir", folder, "--appendonly", "yes"]
        argv = ["redis-server", *options, "--requirepass", redis.password, "--save", ""]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            yield redis
        finally:
            process.terminate()
            process.wait(timeout=MINUTE_S)


def _object(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}


def _outside(name: str, host: str, port: int) -> Iterator[dict[str, Any]]:
    """A Service of that name for what listens outside of the cluster. Its port is the manifest's: Redis' own."""
    yield _object("Service", name, spec={"ports": [{"port": 6379, "targetPort": port}]})
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": port}],
        "endpoints": [{"addresses": [host]}],
    }
