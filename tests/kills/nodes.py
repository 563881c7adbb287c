"""A cluster of three nodes on this machine: a head for the control actors, and two for calls, of which one is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ray._private import ray_constants
from ray.cluster_utils import Cluster

from actors import names
from cluster.kube import CALL_SLOT, CALLS_ROLE, CONTROL, ROLE_LABEL
from cluster.messages import ActorStatus

SLOTS: Final = 8
"""Of each call node."""


class TwoNodes:
    """The call nodes, by their ids."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}
        for _ in range(2):
            self._add()

    def lose(self, victim: ActorStatus) -> None:
        """SIGKILL to the raylet of the node that the call is on, whose processes end with it; another node comes."""
        lost = self._nodes.pop(victim.node)
        (raylet,) = lost.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
        os.kill(raylet.process.pid, signal.SIGKILL)
        self._add()

    def _add(self) -> None:
        node = self._cluster.add_node(
            num_cpus=0, resources={CALL_SLOT: SLOTS}, labels={ROLE_LABEL: CALLS_ROLE}, wait=False
        )
        self._nodes[node.unique_id] = node


@contextmanager
def two_nodes() -> Iterator[tuple[str, TwoNodes]]:
    """The address of the cluster's head, and its call nodes."""
    names.prepare_nodes()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "resources": {CONTROL: 1}, "include_dashboard": False},
    )
    try:
        yield cluster.address, TwoNodes(cluster)
    finally:
        cluster.shutdown()
