"""Which nodes may be lost."""

from __future__ import annotations

from cluster.budget.suspects import SUSPECTED_FOR_S, Suspects

BOTH = frozenset({"left", "right"})


def test_a_node_is_suspected_for_a_while() -> None:
    """And again, if there is a reason."""
    suspects = Suspects()
    suspects.add("left", 0.0)
    assert suspects.among(BOTH, 1.0) == {"left"}
    assert suspects.among(BOTH, SUSPECTED_FOR_S) == frozenset()
    suspects.add("left", SUSPECTED_FOR_S)
    assert suspects.among(BOTH, SUSPECTED_FOR_S + 1.0) == {"left"}


def test_the_only_node_has_to_do() -> None:
    """And one that the cluster has given up is none to think of."""
    suspects = Suspects()
    suspects.add("left", 0.0)
    assert suspects.among(frozenset({"left"}), 1.0) == frozenset()
    assert suspects.among(frozenset({"right", "third"}), 1.0) == frozenset()
