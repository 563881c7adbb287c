"""What the actors' processes load: memory that every call's process takes, times the calls on a node."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CALL = ("actors.call", "actors.budget_pool", "actors.records", "cluster.call.slot", "cluster.logs")
"""An actor's class, those of the actors whose handles it holds (Ray imports them), and what it makes its parts of."""
BUDGET_POOL = ("actors.budget_pool", "actors.call", "actors.records", "actors.assembly", "cluster.logs")


def loaded_by(*modules: str) -> set[str]:
    """Every package, and every module of ours, that a fresh process has after importing these."""
    program = f"import sys, json, {', '.join(modules)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {name for name in found if name.startswith(("cluster", "ray.serve", "google.", "livekit."))} | {
        name.partition(".")[0] for name in found
    }


@pytest.mark.parametrize(
    ("modules", "needed", "spared"),
    [
        pytest.param(
            CALL,
            {"cluster.call.call", "google.genai", "livekit.rtc", "numpy"},
            {
                "sqlalchemy",
                "alembic",
                "prometheus_client",
                "fastapi",
                "fsspec",
                "rich",
                "ray.serve",
                "cluster.budget.desk",
            },
            id="a call",
        ),
        pytest.param(
            BUDGET_POOL,
            {"cluster.budget.desk", "sqlalchemy"},
            {"cluster.call.call", "google.genai", "livekit.rtc", "fastapi", "ray.serve"},
            id="BudgetPool",
        ),
    ],
)
def test_a_process_loads_only_what_it_uses(modules: tuple[str, ...], needed: set[str], spared: set[str]) -> None:
    """A call's process has no database in it, and the one that lends them has no media."""
    loaded = loaded_by(*modules)
    assert needed <= loaded
    assert not spared & loaded
