"""A Kubernetes cluster, by `kubectl`."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import yaml

T = TypeVar("T")
POLL_EVERY_S: Final = 1.0
EVENTS_SHOWN: Final = 4_000
"""Characters."""
CALLS: Final = "ringmaster-role=calls"
HEAD: Final = "ray.io/node-type=head"


class Kubernetes:
    """The cluster that KUBECONFIG names, in a namespace that is made for one run."""

    def __init__(self) -> None:
        self.namespace = f"ringmaster-test-{secrets.token_hex(3)}"

    @contextmanager
    def own_namespace(self) -> Iterator[None]:
        """Have it, and nothing of it afterwards; what went wrong is shown before it is gone."""
        self.run("create", "namespace", self.namespace)
        try:
            yield
        except BaseException:
            sys.stderr.write(self.run("get", "pods,rayclusters,jobs", "--output", "wide", check=False))
            sys.stderr.write(self.run("get", "events", "--sort-by=.lastTimestamp", check=False)[-EVENTS_SHOWN:])
            raise
        finally:
            # Its calls are over; what is left need not wait an hour for them.
            self.run("delete", "raycluster,job", "--all", "--wait=false", check=False)
            time.sleep(POLL_EVERY_S)  # until the operator knows, or it makes new ones
            self.run("delete", "pods", "--all", "--grace-period=1", "--wait=false", check=False)
            self.run("delete", "namespace", self.namespace, "--wait=false", check=False)

    def run(self, *arguments: str, said: str | None = None, check: bool = True) -> str:
        """`kubectl` in the namespace, with `said` on its input; returns its output."""
        argv = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(argv, input=said, check=False, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{' '.join(argv[:6])}: {done.stderr}{done.stdout}"
        return done.stdout

    def apply(self, *documents: Any) -> None:
        """Have them there."""
        self.run("apply", "-f", "-", said=yaml.safe_dump_all(documents))

    def pods(self, selector: str) -> dict[str, Any]:
        """The pods with these labels, by name."""
        found = json.loads(self.run("get", "pods", "--selector", selector, "--output", "json"))["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def ready(self, selector: str) -> set[str]:
        """The names of those that are ready and stay."""
        return {name for name, pod in self.pods(selector).items() if _is_ready(pod)}

    def on_head(self, *command: str) -> str:
        """Run a command in the head's container."""
        (head,) = self.ready(HEAD)
        return self.run("exec", head, "--container", "ray-head", "--", *command)

    def address(self, service: str) -> str:
        """The address of a Service, good on the cluster's nodes."""
        return self.run("get", "service", service, "--output", "jsonpath={.spec.clusterIP}")


def _is_ready(pod: Any) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def until(what: str, probe: Callable[[], T | None], timeout_s: float) -> T:
    """What `probe` returns once it is true; fails with `what` if it never is."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"in {timeout_s:.0f} s it did not come about that {what}"
        time.sleep(POLL_EVERY_S)
    return found
