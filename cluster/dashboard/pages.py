"""The dashboard's pages, as routes of the Serve application. Every page works without scripts; with them it is live.

Rules of this file:
1. A page shows what the HTTP API would tell the same key, and no more.
2. Errors are pages too; who is not logged in is sent to the login.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

import fsspec
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from cluster.dashboard.call_stream import call_stream
from cluster.dashboard.live import LiveCalls
from cluster.dashboard.render import render, render_row
from cluster.dashboard.session import Sessions
from cluster.dispatch.access import while_permitted
from cluster.dispatch.api import Front
from cluster.dispatch.finding import find_call, find_calls, look_up
from cluster.dispatch.ports import ControlPlaneDown
from cluster.dispatch.problems import TYPES, Problem, problem_of_validation
from cluster.dispatch.requests import Storable
from cluster.keys import Principal
from cluster.messages import CallQuery
from cluster.records.timeline import LATENCIES, QUALITIES, timeline
from cluster.records.views import ENDED

SEE_OTHER: Final = HTTPStatus.SEE_OTHER
LOGIN: Final = "/login"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
PAGE: Final = 50
"""Calls on a page of the history."""
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

FindActor = Callable[[str], Awaitable[str | None]]
"""Where Ray's own dashboard shows the actor of a slot; None where there is no such actor."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the pages work with."""

    front: Front
    sessions: Sessions
    live: LiveCalls
    actor_url: FindActor


def add_dashboard(app: FastAPI, front: Front, secret: str, actor_url: FindActor) -> None:
    """Give `app`, made by `build_api(front)`, its pages. `secret` is the same in every replica."""
    live = LiveCalls(front.pool, front.history, render_row)
    app.state.dashboard = Dashboard(front, Sessions(front.doorkeeper, secret), live, actor_url)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))
    app.include_router(pages)


class _Page(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with every problem that a person can meet turned into something to read."""
        handle = super().get_route_handler()

        async def show(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                return _sorry(problem)
            except RequestValidationError as error:
                return _sorry(problem_of_validation(error.errors()))
            except ControlPlaneDown:
                return _sorry(Problem("unavailable", "the control actors do not answer; they may be restarting"))

        return show


def _sorry(problem: Problem) -> Response:
    if problem.slug == "unauthorized":
        return RedirectResponse(LOGIN, SEE_OTHER)
    kind = TYPES[problem.slug]
    return _page("error.html", kind.status, title=kind.title, detail=problem.detail or kind.advice)


def _page(template: str, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
    return HTMLResponse(render(template, now=time.time(), **values), status, HEADERS)


def _dashboard(request: Request) -> Dashboard:
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


TheDashboard = Annotated[Dashboard, Depends(_dashboard)]


async def _viewer(request: Request, dashboard: TheDashboard) -> Principal:
    return await dashboard.sessions.viewer(request)


Viewer = Annotated[Principal, Depends(_viewer)]
pages = APIRouter(route_class=_Page, include_in_schema=False)


@pages.get(LOGIN)
async def ask_for_key() -> Response:
    """The login."""
    return _page("login.html")


@pages.post(LOGIN)
async def log_in(request: Request, dashboard: TheDashboard) -> Response:
    """Take an API key and begin a session."""
    form = parse_qs((await request.body()).decode(errors="replace"))
    answer = RedirectResponse("/", SEE_OTHER)
    try:
        await dashboard.sessions.begin(request, form.get("key", [""])[0], answer)
    except Problem as problem:
        return _page("login.html", TYPES[problem.slug].status, problem=problem.detail)
    return answer


@pages.post("/logout")
async def log_out(request: Request, dashboard: TheDashboard) -> Response:
    """End the session."""
    answer = RedirectResponse(LOGIN, SEE_OTHER)
    dashboard.sessions.end(request, answer)
    return answer


@pages.get("/")
async def show_live(dashboard: TheDashboard, viewer: Viewer) -> Response:
    """The live calls."""
    rows = await dashboard.live.rows(viewer.tenant)
    usd = sum(row.cost_usd_micros for row in rows) / 1_000_000
    return _page("live.html", viewer=viewer, rows=[dashboard.live.html(row) for row in rows], usd=usd)


@pages.get("/live")
async def follow_live(request: Request, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """The changes of that table, as server-sent events."""
    return _stream(request, dashboard, dashboard.live.messages(viewer.tenant))


@pages.get("/history")
async def show_history(
    dashboard: TheDashboard,
    viewer: Viewer,
    search: Annotated[Storable, Query(max_length=200)] = "",
    before: Annotated[Storable | None, Query(max_length=64)] = None,
) -> Response:
    """The calls that are over, newest first."""
    search = search.strip()
    parts = viewer.may("admin")
    query = CallQuery(state=ENDED, limit=PAGE, before=before, search=search, parts_of_numbers=parts)
    calls = await find_calls(dashboard.front, viewer, query, full_numbers=False)
    more = calls[-1]["call_id"] if len(calls) == PAGE else None
    return _page("history.html", viewer=viewer, calls=calls, search=search, next_before=more)


@pages.get("/pool")
async def show_pool(dashboard: TheDashboard, viewer: Viewer) -> Response:
    """The viewer's calls that wait, and its budgets; everybody's, and the call actors, for whoever may see them."""
    pool = dashboard.front.pool
    numbers, actors, budgets, queue = await asyncio.gather(
        pool.statistics(), pool.pool(), pool.budgets(), pool.queue(viewer.tenant)
    )
    if not viewer.may("admin"):
        own = ("tenant", viewer.tenant)
        actors, budgets = None, [one for one in budgets if (one["scope"], one["name"]) == own]
    return _page("pool.html", viewer=viewer, pool=numbers, actors=actors, budgets=budgets, queue=queue)


@pages.get("/calls/{call_id}")
async def show_call(call_id: str, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """One call."""
    call = await find_call(dashboard.front, viewer, call_id)
    events = call["events"]
    return _page(
        "call.html",
        viewer=viewer,
        call=call,
        live=call["state"] != ENDED,
        entries=timeline(events),
        latencies=LATENCIES,
        qualities=QUALITIES,
        row=dashboard.live.row(call_id),
        after=events[-1]["seq"] if events else 0,
    )


@pages.get("/calls/{call_id}/live")
async def follow_call(
    call_id: str,
    request: Request,
    dashboard: TheDashboard,
    viewer: Viewer,
    *,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> Response:
    """What is added to that page as the call goes on, as server-sent events."""
    front, live = dashboard.front, dashboard.live
    await find_call(front, viewer, call_id)
    begin = after if last_event_id is None else last_event_id
    stands = partial(look_up, front, viewer, call_id)
    return _stream(request, dashboard, call_stream(front.history, live, call_id, begin, look_up=stands))


@pages.get("/calls/{call_id}/actor")
async def find_actor(call_id: str, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """To the call's actor in Ray's own dashboard."""
    await find_call(dashboard.front, viewer, call_id)
    await dashboard.live.rows(viewer.tenant)
    row = dashboard.live.row(call_id)
    url = None if row is None else await dashboard.actor_url(row.slot)
    if url is None:
        raise Problem("not-found", "the call has no actor any more")
    return RedirectResponse(url, SEE_OTHER)


@pages.get("/calls/{call_id}/recording")
async def play_recording(call_id: str, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """The recording of a call that is over: FLAC, the caller left, the agent right."""
    call = await find_call(dashboard.front, viewer, call_id)
    if not call.get("recording_url"):
        raise Problem("not-found", "the call was not recorded")
    try:
        sound = await asyncio.to_thread(fsspec.open(call["recording_url"]).open)
    except (OSError, ValueError, ImportError):
        raise Problem("not-found", "the recording is not where it was kept, or cannot be read from here") from None
    return StreamingResponse(
        sound, media_type="audio/flac", headers={"Cache-Control": "no-store"}, background=BackgroundTask(sound.close)
    )


@pages.post("/calls/{call_id}/hangup")
async def hang_up(call_id: str, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """End a call, and show it."""
    call = await find_call(dashboard.front, viewer, call_id)
    if call["state"] != ENDED:
        await dashboard.front.pool.hangup(call_id)
    return RedirectResponse(f"/calls/{call_id}", SEE_OTHER)


def _stream(request: Request, dashboard: Dashboard, messages: AsyncGenerator[bytes, None]) -> Response:
    """For as long as the session lasts and its key is good."""
    permitted = while_permitted(messages, partial(dashboard.sessions.viewer, request))
    return StreamingResponse(permitted, media_type="text/event-stream", headers=STREAM_HEADERS)
