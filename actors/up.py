"""`ringmaster up`: the whole application on a cluster that is there, or on one that is started on this machine."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from actors import names
from cluster.budget.policy import load_policy
from cluster.budget.rules import desk_rules
from cluster.dispatch.ports import ControlPlaneDown
from cluster.errors import RingmasterError
from cluster.logs import redact
from cluster.models import load_models
from cluster.profiles import load_profiles

if TYPE_CHECKING:
    from cluster.settings import Settings

APPLICATION = "ringmaster"
ANSWERS_WITHIN_S = 30.0
"""`BudgetPool` has opened its database after 3 to 4 s, and did so while the application was deployed."""


def start(settings: Settings) -> str:
    """Connect, have the control actors and the Serve application running, and return the API's URL.

    Raises `RingmasterError`; what is wrong in a file is told before anything is started.
    """
    _read_files(settings)
    names.connect(settings)
    names.ensure_control_plane(settings)
    _serve(settings)
    _hear_budget_pool()
    return f"http://{settings.http.host}:{settings.http.port}"


def stop() -> None:
    """Take the Serve application down and end every actor of ours, so that nothing outlives the command."""
    serve.delete(APPLICATION)
    names.kill_all()


def _read_files(settings: Settings) -> None:
    """As the actors and replicas will, whose errors nobody would see."""
    desk_rules(settings, load_profiles(settings.profiles_dir, load_models()))
    if settings.policy_file is not None:
        load_policy(settings.policy_file)


def _serve(settings: Settings) -> None:
    from serve_app import app

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level=settings.log_level.upper())
    try:
        serve.start(http_options={"host": settings.http.host, "port": settings.http.port}, logging_config=quiet)
        serve.run(app, name=APPLICATION, route_prefix="/")
    except (OSError, RuntimeError, ray.exceptions.RayError, RayServeException) as error:
        # Serve's text ends with that of the replica's error.
        why = redact((str(error).strip().splitlines() or [type(error).__name__])[-1])
        raise RingmasterError(
            f"the application can't be deployed: {why}; its logs are in /tmp/ray/session_latest/logs/serve"
        ) from None


def _hear_budget_pool() -> None:
    """Raise `RingmasterError` where it does not answer, without which no call can be taken."""
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            ray.get(names.budget_pool().capacity.remote(), timeout=left_s)
        except (ControlPlaneDown, *names.UNREACHABLE, ValueError):
            time.sleep(names.ASK_AGAIN_S)
        else:
            return
    raise RingmasterError(
        "BudgetPool does not answer, most often since the database that DATABASE_URL names can't be opened; "
        "`ringmaster doctor` finds out"
    )
