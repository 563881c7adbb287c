"""Errors as the API tells them: RFC 9457 problem documents.

Rules of this file:
1. Every error answer of the API is made here, whoever found the error.
2. An answer says what was wrong, where, and what to do; it never shows an exception's text that we did not write.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.dispatch.ports import ControlPlaneDown
from cluster.messages import Refused, Wait
from cluster.outcome import WHY_NOT, Outcome, Result

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/docs/problems/"
CONTROL_PLANE_RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: what is always the same about it."""

    status: int
    title: str
    advice: str


TYPES: Final[Mapping[str, ProblemType]] = {
    "invalid-json": ProblemType(400, "The body is not JSON", "Send one JSON object as application/json."),
    "invalid-request": ProblemType(422, "The request is not valid", "Mend what `errors` points at."),
    "invalid-idempotency-key": ProblemType(
        400, "The idempotency key is not valid", "Use 1 to 200 printable ASCII characters, e.g. a UUID."
    ),
    "idempotency-key-reused": ProblemType(
        422, "The idempotency key was used with another body", "Use a new key for a new call."
    ),
    "unauthorized": ProblemType(
        401, "An API key is needed", "Send `Authorization: Bearer <key>`; `ringmaster key create` makes one."
    ),
    "forbidden": ProblemType(403, "The API key does not allow this", "Use a key with the scope that is named."),
    "not-found": ProblemType(404, "There is no such thing", "Check the path and the id."),
    "method-not-allowed": ProblemType(405, "The path does not have this method", "See /docs."),
    "too-large": ProblemType(413, "The body is too large", "Send less."),
    "unknown-profile": ProblemType(422, "There is no such profile", "Name one of the profiles that are installed."),
    "incomplete-context": ProblemType(
        422, "The context lacks a variable of the profile", "Give every variable that `detail` names."
    ),
    "over-capacity": ProblemType(
        429, "No more calls may run at once", "Send the same request again after `retry_after_s`."
    ),
    "over-budget": ProblemType(429, "The budget is used up", "Send the same request again after `retry_after_s`."),
    "refused": ProblemType(403, "A rule of the operator forbids this call", "See `reason`."),
    "draining": ProblemType(503, "No new calls are taken", "Send the same request again after `retry_after_s`."),
    "unavailable": ProblemType(503, "The service cannot do this now", "Send the same request again later."),
    "webhook-rejected": ProblemType(
        401, "The webhook is not LiveKit's", "Give LiveKit's webhook configuration the same API key as LIVEKIT_API_KEY."
    ),
    "http": ProblemType(400, "The request cannot be answered", "See `detail`."),
    "internal": ProblemType(500, "Something went wrong on our side", "Send the same request again later."),
}


class Problem(Exception):
    """An error on its way to become an answer."""

    def __init__(self, slug: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        """`slug` is a key of `TYPES`; `more` are extension members, those that are None are left out."""
        super().__init__(slug)
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = {name: value for name, value in more.items() if value is not None}

    def document(self, instance: str, status: int) -> dict[str, Any]:
        """The problem document. `instance` is the path that was asked for."""
        kind = TYPES[self.slug]
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": kind.title,
            "status": status,
            "detail": self.detail or kind.advice,
            "instance": instance,
            **self.more,
        }


_OF_REASON: Final[Mapping[str, str]] = {
    "capacity": "over-capacity",
    "tenant-calls": "over-capacity",
    "campaign-calls": "over-capacity",
    "trunk-calls": "over-capacity",
    "trunk-calls-per-second": "over-capacity",
    "gemini-sessions": "over-capacity",
    "budget": "over-budget",
    "draining": "draining",
    "unknown-profile": "unknown-profile",
    "idempotency-key-reused": "idempotency-key-reused",
}


def problem_of_admission(answer: Wait | Refused) -> Problem:
    """Why a call does not start now."""
    return Problem(
        _slug(answer.outcome, answer.retry_after_s),
        answer.detail if isinstance(answer, Refused) else WHY_NOT.get(answer.outcome, ""),
        headers=_retry_after(answer.retry_after_s),
        reason=str(answer.outcome),
        retry_after_s=answer.retry_after_s,
    )


def _slug(outcome: Outcome, retry_after_s: float | None) -> str:
    slug = _OF_REASON.get(outcome.reason)
    if slug is not None and (retry_after_s is not None or TYPES[slug].status != HTTPStatus.TOO_MANY_REQUESTS):
        return slug
    return "refused" if outcome.result is Result.POLICY else "unavailable"


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


def problem_of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """What pydantic found: where, as a JSON pointer into the body or the name of a parameter, and what."""
    if any(error["type"] == "json_invalid" for error in errors):
        return Problem("invalid-json")
    return Problem("invalid-request", errors=[_finding(error) for error in errors])


def _finding(error: Mapping[str, Any]) -> dict[str, str]:
    place, *path = error["loc"]
    detail = str(error["msg"]).removeprefix("Value error, ")
    if place == "body":
        return {"pointer": "".join(f"/{_escape(str(step))}" for step in path), "detail": detail}
    return {"parameter": str(path[0]), "detail": detail}


def _escape(step: str) -> str:
    """RFC 6901 section 3."""
    return step.replace("~", "~0").replace("/", "~1")


def problem_of_http(status: int, headers: Mapping[str, str] | None) -> Problem:
    """What the framework refused by itself."""
    slugs = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    detail = "" if status in slugs else f"{HTTPStatus(status).phrase}; see /docs"
    return Problem(slugs.get(status, "http"), detail, headers=headers)


def respond(problem: Problem, request: Request, status: int | None = None) -> Response:
    """The answer to `request`."""
    status = TYPES[problem.slug].status if status is None else status
    document = problem.document(request.url.path, status)
    return JSONResponse(document, status, problem.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    for error, problem_of in _OF_EXCEPTION.items():
        app.add_exception_handler(error, _answering(problem_of))
    app.add_middleware(Shield)


def _answering(problem_of: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else None
        return respond(problem_of(error), request, status)

    return answer


def _of_control_plane(_error: ControlPlaneDown) -> Problem:
    return Problem(
        "unavailable",
        "the control actors did not answer; nothing is lost if you send the same request, with its key, again",
        headers=_retry_after(CONTROL_PLANE_RETRY_S),
        reason="ours/control-plane-down",
        retry_after_s=CONTROL_PLANE_RETRY_S,
    )


_OF_EXCEPTION: Final[Mapping[type[Exception], Callable[[Any], Problem]]] = {
    Problem: lambda problem: problem,
    RequestValidationError: lambda error: problem_of_validation(error.errors()),
    HTTPException: lambda error: problem_of_http(error.status_code, error.headers),
    ControlPlaneDown: _of_control_plane,
}


class Shield:
    """The outermost layer: what nobody expected becomes a 500, and its text and traceback stay out of every log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 nothing may pass
            # Its text may hold personal data, so there is no traceback.
            log.error("an HTTP request failed", extra={"error": type(error).__name__})  # noqa: TRY400
            if not started:
                await respond(Problem("internal"), Request(scope))(scope, receive, send)
