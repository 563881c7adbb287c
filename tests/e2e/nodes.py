"""A cluster of several nodes on this machine: a head for the control actors, and others for calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from ray._private import ray_constants
from ray.cluster_utils import Cluster

from actors import names
from cluster.kube import CALL_SLOT, CALLS_ROLE, CONTROL, ROLE_LABEL

SLOTS: Final = 8
"""Of each call node."""
LOOK_EVERY_S: Final = 0.5


@asynccontextmanager
async def call_nodes(number: int) -> AsyncIterator[str]:
    """Start them with this process's environment, and another one for each that is lost; yields the head's address."""
    names.prepare_nodes()
    head = {"num_cpus": 0, "resources": {CONTROL: 1}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [_add(cluster) for _ in range(number)]
    keeping = asyncio.create_task(_keep(cluster, nodes))
    try:
        yield cluster.address
    finally:
        keeping.cancel()
        cluster.shutdown()


async def _keep(cluster: Any, nodes: list[Any]) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        for node in [node for node in nodes if _is_lost(node)]:
            nodes.remove(node)
            nodes.append(_add(cluster))  # in this thread: Ray sets signal handlers


def _add(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=0, resources={CALL_SLOT: SLOTS}, labels={ROLE_LABEL: CALLS_ROLE}, wait=False)


def _is_lost(node: Any) -> bool:
    (raylet,) = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
    return raylet.process.poll() is not None
