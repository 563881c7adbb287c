"""The cluster's nodes as Ray has them. Every function blocks, for as long as Ray's head takes to answer.

Ray places nothing on a node that drains, and a drained node ends 0.1 s after its last actor (measured). A drain has no
deadline that Ray itself would enforce: whoever asks for it waits, or kills.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import ray
from ray._private.state import state
from ray._private.worker import global_worker
from ray.autoscaler.sdk import request_resources
from ray.core.generated import autoscaler_pb2

from actors import names
from cluster.budget.fleet import Fleet
from cluster.kube import CALL_SLOT, CONTROL

WITHIN_S: Final = 10.0
SHORTEST_ID: Final = 6
"""As many characters of an id as Ray's own tools show at least."""


def fleet() -> Fleet:
    """The living nodes that calls run on."""
    slots = {node["NodeID"]: int(node["Resources"][CALL_SLOT]) for node in _call_nodes()}
    return Fleet(slots, frozenset(state.get_draining_nodes()) & slots.keys())


def request_slots(slots: int, without: frozenset[str] = frozenset()) -> None:
    """Ask the autoscaler for so many call slots on other nodes than those. On a cluster that has none it is only noted.

    It keeps a node that it counts on for a request, however idle; of equal ones it may count on one that should go.
    """
    if ray.cluster_resources().get(CONTROL):
        selector = names.off_nodes(without)
        request_resources(
            bundles=[{CALL_SLOT: 1}] * slots, bundle_label_selectors=[selector] * slots if selector else None
        )


def drain(node: str) -> bool:
    """Drain a call node, named by its id (or the start of it), its host's name or its address.

    False where there is none, or more than one.
    """
    found = [one["NodeID"] for one in _call_nodes() if node in _names(one) or _begins(one["NodeID"], node)]
    if len(found) != 1:
        return False
    reasons: Any = autoscaler_pb2
    preemption = reasons.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    worker: Any = global_worker
    accepted, _ = worker.gcs_client.drain_node(found[0], preemption, "ringmaster drain", 0, timeout=WITHIN_S)
    return bool(accepted)


def _call_nodes() -> Iterator[Mapping[str, Any]]:
    """Those that live."""
    return (node for node in ray.nodes() if node["Alive"] and CALL_SLOT in node["Resources"])


def _names(node: Mapping[str, Any]) -> tuple[str, ...]:
    """A pod's host name is the pod's name."""
    return node["NodeManagerHostname"], node["NodeManagerAddress"]


def _begins(node_id: str, text: str) -> bool:
    return len(text) >= SHORTEST_ID and node_id.startswith(text)
