"""Every actor's name, namespace, resources and restarts: the only place that says `ray.remote(...)`.

Ray's traps that are closed here (each one measured): an actor that is not detached dies with its creator; a name
lingers after death unless the actor is detached; any runtime environment on an actor costs 3 s; workers run at nice 15
unless the node is started otherwise; token authentication switches itself on for a new local cluster and off for a
joined one; a local cluster listens on every interface.
A call actor has no concurrency groups: Ray runs each in an event loop of its own, and a call lives in one.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions
from ray._private import ray_constants
from ray.util import list_named_actors

from cluster.errors import RingmasterError
from cluster.kube import CALL_SLOT, CALLS_ROLE, CONTROL, ROLE_LABEL

if TYPE_CHECKING:
    from cluster.messages import CallRequest
    from cluster.settings import Settings

log = logging.getLogger(__name__)

NAMESPACE = "ringmaster"
BUDGET_POOL = "budget-pool"
RECORDS = "records"
CAMPAIGN_BOOK = "campaign-book"
SLOT_PREFIX = "call-slot-"
"""Call actors are named by slot, never by call or number: a name is fixed at creation and shown on dashboards."""
LOOPBACK = ("127.0.0.1:", "localhost:")
CONTROL_SHARE = 0.01
"""Of the head's `control` resource: it says where an actor belongs, not how much of it there is."""
OFF_CALL_NODES = {ROLE_LABEL: f"!{CALLS_ROLE}"}
"""For what needs no resource and could land anywhere: a node without that label will do too."""
NODE_ID_LABEL = "ray.io/node-id"
"""Which Ray gives to every node."""

OPENS_WITHIN_S = 8.0
SAYS_WITHIN_S = 30.0
"""An actor that restarts takes 3 to 4 s to answer, and longer where its node comes up, too."""
ASK_AGAIN_S = 0.5

UNREACHABLE = (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ray.exceptions.RaySystemError)
"""What a call to an actor raises when the actor, not the method, is at fault."""


def connect(settings: Settings) -> None:
    """Join the cluster at `settings.ray.address`, or start one on this machine, on loopback only.

    Raises `RingmasterError`.
    """
    if ray.is_initialized():
        return
    address = settings.ray.address
    try:
        _connect(settings)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = f"no cluster at {address}" if address else "Ray can't be started on this machine"
        fix = (
            "set RINGMASTER_RAY_ADDRESS to the head's, and RAY_AUTH_MODE to what the cluster has"
            if address
            else "its logs are in /tmp/ray/session_latest/logs"
        )
        raise RingmasterError(f"{what} ({type(error).__name__}); {fix}") from None


def _connect(settings: Settings) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token" if _has_token() else "disabled")
    address = settings.ray.address
    if address is None or address.startswith(LOOPBACK):
        # Ray swaps a loopback address for the machine's own and then listens on every interface, unless it takes the
        # machine for one that has no cluster; what listens there runs anybody's code.
        ray_constants.ENABLE_RAY_CLUSTER = False
    if address is not None:
        _knock(address)
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        return
    # Ray's job agent is a process of its own and swaps addresses, too; and a job is started as `python`.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    prepare_nodes()
    ray.init(
        address="local",  # else Ray would join, or miss, whatever another program has left here
        namespace=NAMESPACE,
        resources={CONTROL: 1, CALL_SLOT: settings.pool.max_calls},
        include_dashboard=settings.ray.dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=OPENS_WITHIN_S).close()


def prepare_nodes() -> None:
    """Set what Ray's own processes read on every node of ours; `ray-cluster.yaml` sets the same."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - the name that Ray reads
    os.environ.setdefault("RAY_preload_python_modules", "livekit.rtc,google.genai,google.genai.live")
    # Ray's two dozen threads would each get an arena of their own, and what one has freed no other one uses.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _has_token() -> bool:
    return (
        bool(os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"})
        or (Path.home() / ".ray" / "auth_token").exists()
    )


def ensure_control_plane(settings: Settings) -> None:
    """Have `Records` and `BudgetPool` running; whoever comes second finds the first one's."""
    from actors.budget_pool import BudgetPool
    from actors.records import Records

    _control(Records, RECORDS, settings)
    _control(BudgetPool, BUDGET_POOL, settings)


def ensure_campaign_book(settings: Settings) -> None:
    """Have `CampaignBook` running. It costs a process, and only who has campaigns needs it."""
    from actors.campaign_book import CampaignBook

    _control(CampaignBook, CAMPAIGN_BOOK, settings)


def speak_to_itself(method: str) -> None:
    """Have the actor that is being constructed get that message first, in the process after a death too.

    Ray tells nobody that it has restarted an actor. A class that is used without Ray gets none.
    """
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        getattr(ray.get_runtime_context().current_actor, method).remote()


def budget_pool() -> Any:
    """The handle of the one budget and pool actor."""
    return ray.get_actor(BUDGET_POOL, namespace=NAMESPACE)


def records() -> Any:
    """The handle of the one history actor."""
    return ray.get_actor(RECORDS, namespace=NAMESPACE)


def campaign_book() -> Any:
    """The handle of the one actor that remembers campaigns."""
    return ray.get_actor(CAMPAIGN_BOOK, namespace=NAMESPACE)


def this_node() -> str:
    """The id of the node that this process runs on."""
    return ray.get_runtime_context().get_node_id()


def create_call_actor(slot: str, settings: Settings, avoid: frozenset[str] = frozenset()) -> Any:
    """Start a call actor on any node but those. It outlives its creator, and holds one call slot.

    It has no restarts: a new process has no call.
    """
    from actors.call import CallActor

    return (
        ray.remote(CallActor)
        .options(
            name=slot,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            resources=_if_declared(CALL_SLOT, 1),
            label_selector=off_nodes(avoid),
            max_restarts=0,
            max_task_retries=0,
        )
        .remote(slot, settings)
    )


def off_nodes(avoid: frozenset[str]) -> dict[str, str] | None:
    """The label selector that keeps an actor off nodes, by their ids; None where there are none to keep off."""
    return {NODE_ID_LABEL: f"!in({', '.join(sorted(avoid))})"} if avoid else None


def find_call_actors() -> dict[str, Any]:
    """The handles of every call actor that lives, by slot."""
    names = [n["name"] for n in list_named_actors(all_namespaces=True) if n["namespace"] == NAMESPACE]
    return {n: ray.get_actor(n, namespace=NAMESPACE) for n in names if n.startswith(SLOT_PREFIX)}


def actor_id(slot: str) -> str | None:
    """The id by which Ray knows a call actor, in hex; None where there is none of that name."""
    try:
        found: str = ray.get_actor(slot, namespace=NAMESPACE)._actor_id.hex()  # noqa: SLF001 - Ray has no other way
    except ValueError:
        return None
    return found


def farewell(settings: Settings, request: CallRequest) -> Any:
    """Have a caller told that the call is lost; a task that needs nothing but a process."""
    from actors.farewell import say_farewell

    return ray.remote(say_farewell).options(num_cpus=0, max_retries=0).remote(settings, request)


def kill(handle: Any) -> None:
    """End an actor's process at once."""
    ray.kill(handle)


def _control(cls: type, name: str, settings: Settings) -> None:
    """Have that actor running with these settings. One with others is replaced, which it may be at any moment."""
    from cluster.fingerprint import fingerprint

    with suppress(ValueError):  # there is none
        running = ray.get_actor(name, namespace=NAMESPACE)
        if _fingerprint_of(running) not in {fingerprint(settings), None}:
            log.warning("%s was made with other settings, and is replaced", name)
            kill(running)
    ray.remote(cls).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        resources=_if_declared(CONTROL, CONTROL_SHARE),
        max_restarts=-1,
        max_task_retries=0,
    ).remote(settings)


def _fingerprint_of(actor: Any) -> str | None:
    """What it says of its settings; None where it is gone for good, or does not say in time."""
    deadline = time.monotonic() + SAYS_WITHIN_S
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            said: str = ray.get(actor.fingerprint.remote(), timeout=left_s)
        except ray.exceptions.ActorDiedError:
            return None
        except UNREACHABLE:  # while it restarts, Ray does not even let it be asked
            time.sleep(ASK_AGAIN_S)
        else:
            return said
    return None


def _if_declared(resource: str, amount: float) -> dict[str, float]:
    """A cluster of somebody's own may declare neither resource; an actor that asked for one would wait for ever.

    The head's tells: call nodes may come later, and until then no call actor may land on the head.
    """
    return {resource: amount} if ray.cluster_resources().get(CONTROL) else {}


def kill_all() -> None:
    """End every actor of this namespace; for a cluster that was started for one command."""
    for slot in find_call_actors().values():
        kill(slot)
    for name in (BUDGET_POOL, RECORDS, CAMPAIGN_BOOK):
        with suppress(ValueError):  # not every cluster has all of them
            kill(ray.get_actor(name, namespace=NAMESPACE))
