"""The nodes of a real Ray cluster: a head, and two that calls run on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from actors import names, nodes
from cluster.kube import CALL_SLOT, CONTROL
from cluster.settings import load_settings
from tests.test_settings import REQUIRED

WITHIN_S = 60.0


@pytest.fixture(scope="module")
def call_nodes() -> Iterator[list[str]]:
    """Their ids."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head = {"num_cpus": 0, "resources": {CONTROL: 1}, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        workers = [cluster.add_node(num_cpus=1, resources={CALL_SLOT: 2}) for _ in range(2)]
        names.connect(load_settings(REQUIRED | {"RINGMASTER_RAY_ADDRESS": cluster.address}))
        yield [worker.node_id for worker in workers]
    finally:
        ray.shutdown()
        cluster.shutdown()
        monkeypatch.undo()


class Placed:
    """Says where it was placed."""

    def node(self) -> str:
        """The id of its node."""
        return names.this_node()


def placed(off: str) -> Any:
    """One that takes a call slot, on any node but that one."""
    keep_off = names.off_nodes(frozenset({off}))
    return ray.remote(Placed).options(num_cpus=0, resources={CALL_SLOT: 1}, label_selector=keep_off).remote()


def test_a_node_is_kept_free_and_then_drained(call_nodes: list[str]) -> None:
    """The head is no call node; actors keep off the one that leaves; a drain shows, and ends with the last actor."""
    leaves, stays = call_nodes
    assert nodes.fleet().slots == {leaves: 2, stays: 2}
    guest = placed(off=stays)
    assert ray.get(guest.node.remote(), timeout=WITHIN_S) == leaves
    others = [placed(off=leaves) for _ in range(2)]
    assert ray.get([other.node.remote() for other in others], timeout=WITHIN_S) == [stays, stays]

    assert not nodes.drain("nowhere")
    assert not nodes.drain("127.0.0.1")  # the head's address
    assert not nodes.drain(socket.gethostname())  # all three are on it
    assert nodes.drain(leaves[:10])
    assert nodes.fleet().draining == {leaves}
    assert ray.get(guest.node.remote(), timeout=WITHIN_S) == leaves
    ray.kill(guest)
    deadline = time.monotonic() + WITHIN_S
    while nodes.fleet().slots != {stays: 2}:
        assert time.monotonic() < deadline, "the drained node did not end"
        time.sleep(0.2)


def test_room_can_be_asked_for_where_there_is_no_autoscaler(call_nodes: list[str]) -> None:
    """It is noted, and nothing else happens."""
    nodes.request_slots(3)
    nodes.request_slots(3, frozenset(call_nodes[:1]))
    assert nodes.fleet().slots.keys() <= set(call_nodes)
