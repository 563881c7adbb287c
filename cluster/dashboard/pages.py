"""The dashboard's pages, as routes of the Serve application. Every page works without scripts; with them it is live.

Rules of this file:
1. A page shows what the HTTP API would tell the same key, and no more.
2. Errors are pages too; who is not logged in is sent to the login.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from cluster.dashboard.call_stream import call_stream
from cluster.dashboard.live import LiveCalls
from cluster.dashboard.render import render, render_row
from cluster.dashboard.session import Sessions
from cluster.dispatch.api import Front, find_call
from cluster.dispatch.ports import ControlPlaneDown
from cluster.dispatch.problems import TYPES, Problem, problem_of_validation
from cluster.keys import Principal
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
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the pages work with."""

    front: Front
    sessions: Sessions
    live: LiveCalls


def add_dashboard(app: FastAPI, front: Front, secret: str) -> None:
    """Give `app`, made by `build_api(front)`, its pages. `secret` is the same in every replica."""
    live = LiveCalls(front.pool, front.history, render_row)
    app.state.dashboard = Dashboard(front, Sessions(front.doorkeeper, secret), live)
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
async def follow_live(dashboard: TheDashboard, viewer: Viewer) -> Response:
    """The changes of that table, as server-sent events."""
    return _stream(dashboard.live.messages(viewer.tenant))


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
    dashboard: TheDashboard,
    viewer: Viewer,
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[int | None, Header(ge=0)] = None,
) -> Response:
    """What is added to that page as the call goes on, as server-sent events."""
    await find_call(dashboard.front, viewer, call_id)
    begin = after if last_event_id is None else last_event_id
    return _stream(call_stream(dashboard.front.history, dashboard.live, call_id, begin))


@pages.post("/calls/{call_id}/hangup")
async def hang_up(call_id: str, dashboard: TheDashboard, viewer: Viewer) -> Response:
    """End a call, and show it."""
    call = await find_call(dashboard.front, viewer, call_id)
    if call["state"] != ENDED:
        await dashboard.front.pool.hangup(call_id)
    return RedirectResponse(f"/calls/{call_id}", SEE_OTHER)


def _stream(messages: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(messages, media_type="text/event-stream", headers=STREAM_HEADERS)
