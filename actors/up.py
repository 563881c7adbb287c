"""`ringmaster up`: the whole application on a cluster that is there, or on one that is started on this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ray import serve
from ray.serve.schema import LoggingConfig

from actors import names

if TYPE_CHECKING:
    from cluster.settings import Settings

APPLICATION = "ringmaster"


def start(settings: Settings) -> str:
    """Connect, have the control actors and the Serve application running, and return the API's URL."""
    from serve_app import app

    names.connect(settings)
    names.ensure_control_plane(settings)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level=settings.log_level.upper())
    serve.start(http_options={"host": settings.http.host, "port": settings.http.port}, logging_config=quiet)
    serve.run(app, name=APPLICATION, route_prefix="/")
    return f"http://{settings.http.host}:{settings.http.port}"


def stop() -> None:
    """Take the Serve application down and end every actor of ours, so that nothing outlives the command."""
    serve.delete(APPLICATION)
    names.kill_all()
