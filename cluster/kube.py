"""What Ringmaster and the manifest of its cluster on KubeRay agree on, and whether a manifest leaves calls their time.

Kubernetes ends a worker's pod for many reasons: the autoscaler takes it back, its machine is emptied, somebody deletes
it. Each begins with SIGTERM, at which Ray drains the node: nothing new is placed there, and what runs may end within
`RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S`. Then Ray kills it; and the kubelet kills the pod after its grace period,
whatever Ray waits for. Both have to be longer than the longest call. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from cluster.errors import ManifestError
from cluster.profiles import Profile

CONTROL: Final = "control"
"""Ray resource of the head alone: where the control actors live, which no scale-down may take away."""
CALL_SLOT: Final = "call_slot"
"""Ray resource of the nodes that calls run on, one for each call that a node has room for."""
ROLE_LABEL: Final = "ringmaster-role"
"""Label of a Ray node that says what it is for."""
CALLS_ROLE: Final = "calls"
"""`ROLE_LABEL` of the nodes that only calls may run on: anything else there would keep an empty node from going."""

DRAIN_VARIABLE: Final = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
RAY_DRAIN_S: Final = 30.0
"""How long Ray lets a node drain that does not say (Ray 2.60, `ray_constants.py`)."""
KUBERNETES_GRACE_S: Final = 30.0
"""How long the kubelet lets a pod end that does not say."""
AROUND_A_CALL_S: Final = 120.0
"""What a call takes besides its talk: 80 s of ringing at most, as LiveKit allows, then the goodbye and the closing."""
RAY_ENDS_WITHIN_S: Final = 30.0
"""From the end of a drain until Ray's processes are gone: 1 s on an idle machine."""


@dataclass(frozen=True, slots=True)
class CallGroup:
    """A worker group that calls run on."""

    name: str
    where: str
    """`file:line` of it."""
    drain_s: float
    grace_s: float


def check_manifest(text: str, file: str, profiles: Mapping[str, Profile]) -> list[CallGroup]:
    """The call groups of a manifest, each of which leaves the longest call of the profiles its time.

    `file` is how messages name it. Raises `ManifestError`, one line for each problem.
    """
    groups = list(_call_groups(text, file))
    if not groups:
        raise ManifestError(f"{file}:1: no RayCluster here has a worker group with the resource {CALL_SLOT}")
    problems = [problem for group in groups for problem in _problems(group, profiles)]
    if problems:
        raise ManifestError("\n".join(problems))
    return groups


def longest_call(profiles: Mapping[str, Profile]) -> Profile:
    """The profile whose calls may last longest."""
    return max(profiles.values(), key=lambda profile: profile.limits.max_duration_s)


def _problems(group: CallGroup, profiles: Mapping[str, Profile]) -> Iterator[str]:
    profile = longest_call(profiles)
    longest_s = profile.limits.max_duration_s
    needed_s = longest_s + AROUND_A_CALL_S
    if group.drain_s < needed_s:
        yield (
            f"{group.where}: {group.name}: {DRAIN_VARIABLE} is {group.drain_s:g} s, and a call of the profile "
            f"{profile.name} may last {longest_s:g} s; set it to {needed_s:g} or more"
        )
    if group.grace_s < (needed_s := max(group.drain_s, needed_s) + RAY_ENDS_WITHIN_S):
        yield (
            f"{group.where}: {group.name}: terminationGracePeriodSeconds is {group.grace_s:g}, and the drain before it "
            f"may take {needed_s - RAY_ENDS_WITHIN_S:g} s; set it to {needed_s:g} or more"
        )


def _call_groups(text: str, file: str) -> Iterator[CallGroup]:
    for root, document in _documents(text, file):
        if not isinstance(document, dict) or document.get("kind") != "RayCluster":
            continue
        groups = _at(document, "spec", "workerGroupSpecs")
        for line, group in zip(_lines_of_groups(root), groups if isinstance(groups, list) else (), strict=True):
            if CALL_SLOT in (_at(group, "resources") or {}) or CALL_SLOT in str(
                _at(group, "rayStartParams", "resources")
            ):
                yield _call_group(group, f"{file}:{line}")


def _call_group(group: Any, where: str) -> CallGroup:
    pod = _at(group, "template", "spec") or {}
    variables = {entry.get("name"): entry.get("value") for entry in _at(pod, "containers", 0, "env") or []}
    try:
        return CallGroup(
            name=str(_at(group, "groupName")),
            where=where,
            drain_s=float(variables.get(DRAIN_VARIABLE, RAY_DRAIN_S)),
            grace_s=float(pod.get("terminationGracePeriodSeconds", KUBERNETES_GRACE_S)),
        )
    except (TypeError, ValueError):
        message = f"{where}: {DRAIN_VARIABLE} and terminationGracePeriodSeconds have to be numbers of seconds"
        raise ManifestError(message) from None


def _documents(text: str, file: str) -> Iterator[tuple[yaml.Node | None, Any]]:
    """Each YAML document of a file, as it stands there and as plain data."""
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            root = loader.get_node()
            yield root, loader.construct_document(root)
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark else 1
        raise ManifestError(f"{file}:{line}: not YAML: {str(error).splitlines()[0]}") from None


def _at(document: Any, *path: str | int) -> Any:
    """What stands at a place of plain data; None where there is no such place."""
    for part in path:
        try:
            document = document[part]
        except (TypeError, KeyError, IndexError):
            return None
    return document


def _lines_of_groups(root: yaml.Node | None) -> list[int]:
    groups = _child(_child(root, "spec"), "workerGroupSpecs")
    return [item.start_mark.line + 1 for item in groups.value] if isinstance(groups, yaml.SequenceNode) else []


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)
