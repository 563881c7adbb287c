"""The Serve application as it is declared. That it serves is shown end to end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from fastapi import FastAPI

import serve_app

FRONTDOOR: Any = serve_app.Frontdoor
RECEPTIONIST: Any = serve_app.Receptionist


def test_it_can_be_imported_where_there_are_no_settings() -> None:
    """`serve build` and a cluster's head import it without the replicas' environment."""
    command = [sys.executable, "-c", "import serve_app; print(type(serve_app.app).__name__)"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": ""}, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("Application", 0), done.stderr


def test_two_of_each_that_cost_no_cpu() -> None:
    """Either may go at any time, and none takes the place of a call."""
    for deployment in (FRONTDOOR, RECEPTIONIST):
        assert deployment.num_replicas == 2
        assert deployment.ray_actor_options["num_cpus"] == 0
    assert FRONTDOOR.max_ongoing_requests == serve_app.REQUESTS


def test_only_the_front_door_has_routes() -> None:
    """The receptionist speaks to LiveKit alone."""
    assert hasattr(FRONTDOOR.func_or_class, "__serve_build_asgi_app__")
    assert not hasattr(RECEPTIONIST.func_or_class, "__serve_build_asgi_app__")
    assert FastAPI.__name__ in str(FRONTDOOR.func_or_class.__serve_build_asgi_app__.__annotations__)
