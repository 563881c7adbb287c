"""Nodes that may be lost, since an actor there did not answer. Pure; `now` is monotonic seconds."""

from __future__ import annotations

from typing import Final

SUSPECTED_FOR_S: Final = 60.0
"""By then the cluster has given up a node that is dead (15 s) or frozen (65 s, measured), or it is neither."""


class Suspects:
    """Where nothing is begun while there is another node."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, node: str, now: float) -> None:
        """From now on it is suspected."""
        self._until[node] = now + SUSPECTED_FOR_S

    def among(self, nodes: frozenset[str], now: float) -> frozenset[str]:
        """Those of these nodes that are suspected; none where there is just one, which has to do."""
        self._until = {node: until for node, until in self._until.items() if now < until}
        return nodes & self._until.keys() if len(nodes) > 1 else frozenset()
