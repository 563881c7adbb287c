"""The HTTP API: verifies, parses, asks `BudgetPool` and `Records`, answers. It owns nothing and decides nothing.

Every route is a function of a request and of a `Front`, so it runs the same in a Serve replica and in a test.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.budget.policy import Policy, contradictions
from cluster.dispatch import problems
from cluster.dispatch.access import Doorkeeper, permit, while_permitted
from cluster.dispatch.finding import find_call, find_calls, look_up
from cluster.dispatch.ports import ControlPlaneDown, History, Pool
from cluster.dispatch.problems import Problem
from cluster.dispatch.requests import CallBody, Storable, new_call_id, outbound_request
from cluster.dispatch.schemas import (
    BudgetList,
    CallAccepted,
    CallDetail,
    CallList,
    PoolView,
    ProblemDocument,
    QueueList,
)
from cluster.dispatch.streams import event_stream
from cluster.dispatch.webhook import Webhooks
from cluster.keys import Principal
from cluster.messages import CallQuery, Queued, Refused, Wait
from cluster.metrics import of_tenant
from cluster.records.views import ENDED, QUEUED, STARTING

log = logging.getLogger(__name__)

LARGEST_BODY_BYTES: Final = 1 << 20
KEY_LENGTH: Final = 200
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What the routes work with."""

    pool: Pool
    history: History
    webhooks: Webhooks
    doorkeeper: Doorkeeper
    profiles: Mapping[str, frozenset[str]]
    """Those that are installed, and the variables that the `context` of a call has to fill."""
    room_prefix: str
    can_dial: bool
    """There is an outbound trunk."""
    version: str
    metrics: Callable[[Mapping[str, Any]], str]
    """Prometheus text from the control actors' statistics."""
    close: Callable[[], Awaitable[None]]
    """Called when the application stops."""


async def _front(request: Request) -> Front:
    front: Front = request.app.state.front
    return front


TheFront = Annotated[Front, Depends(_front)]
_bearer = HTTPBearer(auto_error=False, description="An API key, from `ringmaster key create`")


def _key_for(scope: str | None) -> Any:
    async def check(request: Request, front: TheFront, _shown: Annotated[object, Security(_bearer)]) -> Principal:
        return await front.doorkeeper.admit(request.headers.get("Authorization"), scope)

    return Depends(check)


CallsKey = Annotated[Principal, _key_for("calls")]
AdminKey = Annotated[Principal, _key_for("admin")]
AnyKey = Annotated[Principal, _key_for(None)]


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    titles = {status: [k.title for k in problems.TYPES.values() if k.status == status] for status in statuses}
    return {status: {"description": "; ".join(titles[status]), "content": content} for status in statuses}


calls = APIRouter(prefix="/v1/calls", tags=["calls"], responses=_errors(401, 403, 422, 503))
system = APIRouter(tags=["system"])


@calls.post(
    "", status_code=202, response_model=CallAccepted, response_model_exclude_none=True, responses=_errors(400, 413, 429)
)
async def create_call(
    body: CallBody,
    front: TheFront,
    key: AnyKey,
    response: Response,
    idempotency_key: Annotated[str | None, Header(description="The same key within 24 h is the same call")] = None,
) -> dict[str, Any]:
    """Place an outbound call. It is dialled when this returns, or `queued` until it can be.

    Its course is at `GET /v1/calls/{call_id}/events`.
    """
    permit(key, "campaigns" if body.campaign else "calls")
    if not front.can_dial:
        detail = "there is no outbound trunk; set RINGMASTER_OUTBOUND_TRUNK_ID"
        raise Problem("unavailable", detail, reason="ours/no-outbound-trunk")
    if body.profile not in front.profiles:
        known = ", ".join(sorted(front.profiles))
        raise Problem("unknown-profile", f"there is no profile of this name; there are: {known}")
    if missing := sorted(front.profiles[body.profile] - body.context.keys()):
        raise Problem("incomplete-context", f"the profile {body.profile} also needs: {', '.join(missing)}")
    call_id = new_call_id(time.time(), secrets.token_bytes(10))
    request = outbound_request(
        body,
        call_id=call_id,
        tenant=key.tenant,
        idempotency_key=_checked(idempotency_key),
        room_prefix=front.room_prefix,
    )
    answer = await front.pool.admit(request)
    if isinstance(answer, Wait | Refused):
        raise problems.problem_of_admission(answer)
    log.info("a call was asked for", extra={"call_id": answer.call_id, "answer": type(answer).__name__})
    response.headers["Location"] = f"/v1/calls/{answer.call_id}"
    if isinstance(answer, Queued):
        return _queued_view(answer)
    # Without a lease it is a call that has left the queue for good, asked for once more.
    return {"call_id": answer.call_id, "state": STARTING if answer.lease_id else ENDED}


@calls.get("", response_model=CallList)
async def list_calls(
    front: TheFront,
    key: CallsKey,
    *,
    state: Annotated[Literal["live", "ended"] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[
        Storable | None, Query(description="`next_before` of the page before this one", max_length=64)
    ] = None,
    search: Annotated[
        Storable,
        Query(
            description="In ids, profiles, outcomes, words and whole numbers; with the scope `admin` in parts of them",
            max_length=200,
        ),
    ] = "",
) -> dict[str, Any]:
    """The calls of the key's tenant, newest first."""
    full = key.may("admin")
    query = CallQuery(state=state, limit=limit, before=before, search=search, parts_of_numbers=full)
    page = await find_calls(front, key, query, full_numbers=full)
    return {"calls": page, "next_before": page[-1]["call_id"] if len(page) == limit else None}


@calls.get("/{call_id}", response_model=CallDetail, responses=_errors(404))
async def get_call(call_id: str, front: TheFront, key: CallsKey) -> dict[str, Any]:
    """One call: state, legs, transcript, cost so far, timings, quality, outcome, timeline."""
    return await find_call(front, key, call_id)


@calls.post(
    "/{call_id}/hangup",
    status_code=202,
    response_model=CallAccepted,
    response_model_exclude_none=True,
    responses=_errors(404),
)
async def hang_up(call_id: str, front: TheFront, key: CallsKey) -> dict[str, Any]:
    """End a call now. To end one that has ended changes nothing and is no error."""
    call = await find_call(front, key, call_id)
    ending = call["state"] != ENDED and await front.pool.hangup(call_id)
    return {"call_id": call_id, "state": "ending" if ending else ENDED}


@calls.get(
    "/{call_id}/events",
    responses=_errors(404)
    | {200: {"description": "Events until the call's end", "content": {"text/event-stream": {}}}},
    response_class=StreamingResponse,
)
async def watch_call(
    call_id: str,
    request: Request,
    front: TheFront,
    key: CallsKey,
    last_event_id: Annotated[int, Header(ge=0, description="Go on after this one")] = 0,
) -> StreamingResponse:
    """What happens in a call, as it happens (server-sent events), from its beginning or from `Last-Event-ID` on."""
    await find_call(front, key, call_id)
    events = event_stream(front.history, call_id, last_event_id, partial(look_up, front, key, call_id))
    stream = while_permitted(events, partial(front.doorkeeper.admit, request.headers.get("Authorization"), "calls"))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@system.get("/v1/budgets", response_model=BudgetList, responses=_errors(401, 403, 503))
async def list_budgets(front: TheFront, _key: AdminKey) -> dict[str, Any]:
    """Every budget of everybody: its cap, what is spent and held of it, what is free, and what it allows now."""
    return {"budgets": await front.pool.budgets()}


@system.get("/v1/queue", response_model=QueueList, responses=_errors(401, 403, 503))
async def show_queue(front: TheFront, _key: AdminKey) -> dict[str, Any]:
    """The calls of every tenant that can't start yet, in the order of their arrival. Numbers are masked."""
    return {"calls": await front.pool.queue(None)}


@system.get("/v1/policy", responses=_errors(401, 403, 503))
async def show_policy(front: TheFront, _key: AdminKey) -> dict[str, Any]:
    """The policy that holds."""
    return await front.pool.policy()


@system.put("/v1/policy", status_code=204, responses=_errors(400, 401, 403, 413, 422, 503))
async def apply_policy(policy: Policy, front: TheFront, _key: AdminKey) -> None:
    """From now on this policy holds, also after a restart, until RINGMASTER_POLICY_FILE itself is changed.

    Calls that run go on; those that wait are looked at anew.
    """
    if found := list(contradictions(policy)):
        errors = [{"pointer": "".join(f"/{step}" for step in where), "detail": what} for where, what in found]
        raise Problem("invalid-request", errors=errors)
    await front.pool.adopt_policy(policy.model_dump(mode="json"))


@system.get("/v1/pool", response_model=PoolView, responses=_errors(401, 403, 503))
async def show_pool(front: TheFront, _key: AdminKey) -> dict[str, Any]:
    """The call actors: how many are parked for each profile and how many should be, where, and what bounds it."""
    return await front.pool.pool()


@system.post("/livekit/webhook", responses=_errors(401, 503))
async def take_webhook(
    request: Request, front: TheFront, authorization: Annotated[str, Header(description="LiveKit's signature")] = ""
) -> dict[str, str]:
    """LiveKit's webhooks go here; they are signed with LIVEKIT_API_KEY's secret."""
    return {"status": await front.webhooks.receive(await request.body(), authorization)}


@system.get("/healthz")
async def healthz() -> dict[str, str]:
    """This replica is alive."""
    return {"status": "ok"}


@system.get("/readyz", responses=_errors(503))
async def readyz(front: TheFront) -> JSONResponse:
    """Calls can be taken now: `free` more of them, `parked` at once and the others after 3 to 4 s."""
    try:
        statistics = await front.pool.statistics()
    except ControlPlaneDown:
        raise Problem("unavailable", "the control actors did not answer", reason="control-plane-down") from None
    if statistics.get("draining"):
        raise Problem("draining")
    return JSONResponse({"status": "ready"} | {name: statistics.get(name) for name in ("free", "parked")})


@system.get("/metrics", response_class=PlainTextResponse, responses=_errors(401, 503))
async def metrics(front: TheFront, key: AnyKey) -> PlainTextResponse:
    """Prometheus text. Any API key will do; the money of other tenants is shown only to one for `admin`."""
    pool, history = await asyncio.gather(front.pool.statistics(), front.history.statistics())
    shown = {**history, **pool} if key.may("admin") else of_tenant({**history, **pool}, key.tenant)
    return PlainTextResponse(front.metrics(shown), media_type=METRICS_TYPE)


@system.get("/docs/problems/{slug}", responses=_errors(404))
async def explain(slug: str) -> dict[str, Any]:
    """What a problem's `type` means and what to do about it."""
    kind = problems.TYPES.get(slug)
    if kind is None:
        raise Problem("not-found")
    return {"type": problems.TYPE_PREFIX + slug, "title": kind.title, "status": kind.status, "advice": kind.advice}


def build_api(front: Front) -> FastAPI:
    """The application, ready to serve."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await front.close()

    app = FastAPIOffline(
        lifespan=lifespan,
        title="Ringmaster",
        version=front.version,
        description="AI phone calls on Ray, LiveKit and Gemini Live.",
        redoc_url=None,
        responses={500: {"model": ProblemDocument, "description": problems.TYPES["internal"].title}},
    )
    app.state.front = front
    app.include_router(calls)
    app.include_router(system)
    app.add_middleware(_BodyLimit)
    problems.install(app)
    return app


def _queued_view(answer: Queued) -> dict[str, Any]:
    return {
        "call_id": answer.call_id,
        "state": QUEUED,
        "position": answer.position,
        "estimated_wait_s": answer.estimated_wait_s,
        "waits_for": str(answer.outcome),
    }


def _checked(idempotency_key: str | None) -> str | None:
    if idempotency_key is None:
        return None
    if not (0 < len(idempotency_key) <= KEY_LENGTH and idempotency_key.isascii() and idempotency_key.isprintable()):
        raise Problem("invalid-idempotency-key")
    return idempotency_key


class _BodyLimit:
    """Refuses bodies that no honest request has, before they are read into memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LARGEST_BODY_BYTES:
                # The framework lets only its own exception out of its reading of a body.
                raise HTTPException(413)
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)
