"""The `ringmaster` command: `cluster.cli`, and what starts or examines a cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from actors.campaign_cli import campaigns
from cluster import cli
from cluster.cli import AsJson, app
from cluster.doctor import Check
from cluster.errors import InputError, RingmasterError
from cluster.kube import CALL_SLOT, CONTROL
from cluster.logs import configure_logging
from cluster.settings import load_settings

if TYPE_CHECKING:
    from cluster.settings import Settings

CLUSTER_ANSWERS_WITHIN_S = 8.0
EVERY_NODE = "all"

app.add_typer(campaigns, name="campaign")


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


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="A node's id, host name or address; or `all`.", show_default=False)],
    *,
    off: Annotated[bool, typer.Option("--off", help="Only for `all`: take calls again.")] = False,
) -> None:
    """Let a node end with its last call, or take no new calls at all. Calls that run go on."""
    settings = load_settings()
    if not settings.ray.address:
        raise InputError("there is no cluster to drain; set RINGMASTER_RAY_ADDRESS")
    if off and node != EVERY_NODE:
        raise InputError("a node that drains does not come back; --off is for `ringmaster drain all`")
    from actors.drain import drain_all, drain_node

    if node == EVERY_NODE:
        drain_all(settings, on=not off)
        typer.echo(
            "calls are taken again" if off else "no new calls are taken; `ringmaster drain all --off` undoes that"
        )
        return
    if not drain_node(settings, node):
        raise InputError(f"there is no node {node!r}, or several; `ray list nodes` shows those there are")
    typer.echo(f"{node} takes no more calls, and ends with its last one")


async def check_ray(settings: Settings) -> Check:
    """The cluster takes a driver, has room for control actors and calls, and runs its workers at full priority."""
    address = settings.ray.address
    if not address:
        return Check(name="ray", ok=None, detail="no address is set: `ringmaster up` starts a cluster on this machine")
    try:
        return _judge(address, *await asyncio.to_thread(_look_at_cluster, settings))
    except RingmasterError as error:
        detail, _, fix = str(error).partition("; ")
    except (OSError, RuntimeError) as error:
        detail = f"the cluster at {address} runs no task ({type(error).__name__})"
        fix = "see `ray status` there for what it waits for"
    return Check(name="ray", ok=False, detail=detail, fix=fix)


def _look_at_cluster(settings: Settings) -> tuple[Mapping[str, float], int]:
    """Its resources, and the niceness of its workers."""
    import ray

    from actors import names

    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)  # that this is not the main thread
    names.connect(settings)
    try:
        return ray.cluster_resources(), ray.get(
            ray.remote(num_cpus=0)(_niceness).remote(), timeout=CLUSTER_ANSWERS_WITHIN_S
        )
    finally:
        ray.shutdown()


def _judge(address: str, resources: Mapping[str, float], niceness: int) -> Check:
    missing = [name for name in (CONTROL, CALL_SLOT) if not resources.get(name)]
    if missing:
        fix = """start the head with --resources='{"control": 1}' and call nodes with --resources='{"call_slot": 8}'"""
        return Check(name="ray", ok=False, detail=f"no node of {address} has {' or '.join(missing)}", fix=fix)
    if niceness > 0:
        fix = "start the nodes with RAY_worker_niceness=0 in their environment, or calls stutter under load"
        return Check(name="ray", ok=False, detail=f"the workers of {address} run at niceness {niceness}", fix=fix)
    return Check(name="ray", ok=True, detail=f"{address} has room for {resources[CALL_SLOT]:g} calls")


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
