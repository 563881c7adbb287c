"""What of `ray-cluster.yaml` is other for a small test cluster: sizes, times and the image. The rest is as shipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

CALL_SLOTS: Final = 3
WORKERS: Final = 3
IDLE_S: Final = 20
CPU: Final = {"ray-head": "500m", "ray-worker": "300m"}
"""Of two cores, which also have the media server and the Live endpoint on them. Ray gives a node 30 s to start."""


def overlay(documents: list[Any], image: str, settings: dict[str, str]) -> list[Any]:
    """The manifest for the test; `settings` lead to the LiveKit server and the Live endpoint outside of it."""
    for document in documents:
        match document["kind"]:
            case "ConfigMap":
                document["data"] |= settings | {
                    "RINGMASTER_MAX_CALLS": str(CALL_SLOTS * WORKERS),
                    "RINGMASTER_PARKED": "receptionist=1",
                    "RINGMASTER_MIN_NODES": "1",
                }
            case "RayCluster":
                spec = document["spec"]
                spec["autoscalerOptions"]["idleTimeoutSeconds"] = IDLE_S
                spec["autoscalerOptions"]["resources"]["requests"] = {"cpu": "50m", "memory": "100Mi"}
                (calls,) = spec["workerGroupSpecs"]
                calls |= {"minReplicas": 1, "maxReplicas": WORKERS}
                calls["resources"]["call_slot"] = str(CALL_SLOTS)
        for container in _containers(document):
            container["image"] = image
            container["imagePullPolicy"] = "IfNotPresent"
            container["resources"]["requests"] = {"cpu": CPU.get(container["name"], "50m"), "memory": "256Mi"}
    return documents


def _containers(document: Any) -> Iterator[Any]:
    if document["kind"] == "RayCluster":
        spec = document["spec"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            yield from group["template"]["spec"]["containers"]
    elif document["kind"] == "Job":
        yield from document["spec"]["template"]["spec"]["containers"]
