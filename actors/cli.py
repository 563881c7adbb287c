"""The `ringmaster` command: `cluster.cli`, and what starts or examines a cluster."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from cluster import cli
from cluster.cli import AsJson, app
from cluster.doctor import Check
from cluster.logs import configure_logging
from cluster.settings import load_settings

if TYPE_CHECKING:
    from cluster.settings import Settings

CLUSTER_ANSWERS_WITHIN_S = 15.0


@app.command()
def up() -> None:
    """Run Ringmaster: join or start a Ray cluster and deploy the application.

    On a cluster that was there before it stays deployed; one that was started for it ends with this command, at Ctrl-C.
    """
    settings = load_settings()
    configure_logging(settings)
    from actors.up import start, stop

    url = start(settings)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Ringmaster answers at {url}, its documentation is at {url}/docs")
    console.print("`ringmaster key create` makes a key for it")
    if settings.ray.address:
        return
    console.print("Ctrl-C ends it")
    try:
        _wait_for_the_end()
    finally:
        stop()


@app.command()
def demo() -> None:
    """Show an inbound and an outbound call, with everything that they need on this machine."""
    from actors.demo import run

    raise typer.Exit(run())


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Try out everything that Ringmaster needs, and say what to do where it does not work."""
    from cluster.doctor import EXAMINATIONS, examine

    found = asyncio.run(examine((*EXAMINATIONS, check_ray)))
    cli.show_checks(found, as_json=as_json)
    if any(check.ok is False for check in found):
        raise typer.Exit(1)


async def check_ray(settings: Settings) -> Check:
    """The cluster takes a driver, has room for control actors and calls, and runs its workers at full priority."""
    if not settings.ray.address:
        return Check(name="ray", ok=None, detail="no address is set: `ringmaster up` starts a cluster on this machine")
    return await asyncio.to_thread(_look_at_cluster, settings)


def _look_at_cluster(settings: Settings) -> Check:
    import ray

    from actors import names

    try:
        names.connect(settings)
        resources = ray.cluster_resources()
        niceness = ray.get(ray.remote(num_cpus=0)(_niceness).remote(), timeout=CLUSTER_ANSWERS_WITHIN_S)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        fix = "set RINGMASTER_RAY_ADDRESS, and RAY_AUTH_MODE to the cluster's own"
        return Check(
            name="ray", ok=False, detail=f"no cluster at {settings.ray.address} ({type(error).__name__})", fix=fix
        )
    finally:
        ray.shutdown()
    missing = [name for name in ("control", "call_slot") if not resources.get(name)]
    if missing:
        fix = "start the head with --resources='{\"control\": 1}' and call nodes with '{\"call_slot\": 8}'"
        return Check(name="ray", ok=False, detail=f"no node has the resource {' or '.join(missing)}", fix=fix)
    if niceness > 0:
        fix = "start the nodes with RAY_worker_niceness=0 in their environment, or calls stutter under load"
        return Check(name="ray", ok=False, detail=f"workers run at niceness {niceness}", fix=fix)
    return Check(name="ray", ok=True, detail=f"{settings.ray.address} has room for {resources['call_slot']:g} calls")


def _niceness() -> int:
    return os.nice(0)


def _wait_for_the_end() -> None:
    """Until Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def main() -> None:
    """The script's entry."""
    cli.run(app)


if __name__ == "__main__":
    main()
