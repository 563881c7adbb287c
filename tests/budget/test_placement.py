"""Actors gather where calls are, and leave the nodes that drain or are not needed."""

from __future__ import annotations

import pytest

from cluster.budget.placement import Node, headroom, leaving

A, B, C = (Node(name, 8) for name in "abc")


def test_the_cluster_offers_what_is_lent_and_parked_and_some_more() -> None:
    """Never more than the installation may have."""
    assert headroom(lent=5, parked=3, most=20) == 10
    assert headroom(lent=5, parked=3, most=8) == 8


@pytest.mark.parametrize(
    ("nodes", "lent", "waiting", "needed", "gone"),
    [
        pytest.param((), {}, {}, 4, set(), id="nobody knows the nodes"),
        pytest.param((A,), {}, {"a": 2}, 4, set(), id="there is no other one"),
        pytest.param((A, B), {}, {"a": 2, "b": 1}, 4, {"b"}, id="the one with the fewest waiting"),
        pytest.param((A, B), {"b": 1}, {"a": 2, "b": 1}, 4, {"a"}, id="never one with a call"),
        pytest.param((A, B), {"a": 1, "b": 1}, {}, 2, set(), id="each has a call"),
        pytest.param((A, B), {"a": 5}, {"b": 2}, 7, set(), id="hardly room elsewhere"),
        pytest.param((A, B, C), {"a": 1}, {"a": 1}, 3, {"b", "c"}, id="as many as can be missed"),
        pytest.param((A, B, C), {"a": 7}, {"a": 1, "b": 3}, 12, {"c"}, id="only as many"),
        pytest.param((Node("a", 8, draining=True), B), {"a": 2}, {"a": 2}, 5, {"a"}, id="one that drains"),
    ],
)
def test_which_nodes_are_left(
    nodes: tuple[Node, ...], lent: dict[str, int], waiting: dict[str, int], needed: int, gone: set[str]
) -> None:
    """Those that drain, and those that nobody would miss."""
    assert leaving(nodes, lent, waiting, needed) == gone


def test_the_last_node_stays() -> None:
    """Where nothing is needed, the next call still has a place."""
    assert leaving((A, B, C), {}, {}, 0) == {"a", "b"}
