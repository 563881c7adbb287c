"""Problem documents: which error becomes which answer."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from cluster import outcome as o
from cluster.dispatch import problems as p
from cluster.messages import Refused, Wait
from cluster.outcome import Outcome, Result


def refused(outcome: Outcome, retry_after_s: float | None = None) -> Refused:
    """A refusal with its sentence."""
    return Refused(outcome=outcome, detail="Because.", retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("answer", "slug", "status", "retry_after"),
    [
        (Wait(outcome=o.OVER_CAPACITY, retry_after_s=0.2), "over-capacity", 429, "1"),
        (Wait(outcome=o.OVER_BUDGET, retry_after_s=30), "over-budget", 429, "30"),
        (Wait(outcome=o.OVER_TRUNK_RATE, retry_after_s=1), "over-capacity", 429, "1"),
        (Wait(outcome=o.LIVE_UNAVAILABLE, retry_after_s=7.5), "unavailable", 503, "8"),
        (refused(o.OVER_BUDGET, 3600.5), "over-budget", 429, "3601"),
        (refused(o.OVER_BUDGET), "refused", 403, None),
        (refused(o.MAX_COST), "refused", 403, None),
        (refused(o.DRAINING, 30), "draining", 503, "30"),
        (refused(Outcome(Result.POLICY, "idempotency-key-reused")), "idempotency-key-reused", 422, None),
        (refused(Outcome(Result.OURS, "unknown-profile")), "unknown-profile", 422, None),
        (refused(o.LIVE_UNREACHABLE, 5), "unavailable", 503, "5"),
        (refused(o.UNKNOWN), "unavailable", 503, None),
    ],
)
def test_answers_of_admission(answer: Wait | Refused, slug: str, status: int, retry_after: str | None) -> None:
    """What waiting mends is 429 with Retry-After, what a rule forbids is 403, what is our fault is 503."""
    problem = p.problem_of_admission(answer)
    assert (problem.slug, p.TYPES[slug].status) == (slug, status)
    assert problem.headers.get("Retry-After") == retry_after
    assert problem.more["reason"] == str(answer.outcome)
    assert problem.more.get("retry_after_s") == answer.retry_after_s


def test_a_document() -> None:
    """The members of RFC 9457, the advice where there is no detail, and what was added."""
    document = p.Problem("over-capacity", reason="policy/capacity", retry_after_s=None).document("/v1/calls", 429)
    assert document == {
        "type": "/docs/problems/over-capacity",
        "title": "No more calls may run at once",
        "status": 429,
        "detail": "Send the same request again after `retry_after_s`.",
        "instance": "/v1/calls",
        "reason": "policy/capacity",
    }


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        ({"loc": ("body", "to"), "msg": "Value error, it is empty"}, {"pointer": "/to", "detail": "it is empty"}),
        ({"loc": ("body", "context", "a/b~c"), "msg": "Bad"}, {"pointer": "/context/a~1b~0c", "detail": "Bad"}),
        ({"loc": ("body",), "msg": "Field required"}, {"pointer": "", "detail": "Field required"}),
        ({"loc": ("query", "limit"), "msg": "Too big"}, {"parameter": "limit", "detail": "Too big"}),
    ],
)
def test_findings_of_validation(error: dict[str, Any], finding: dict[str, str]) -> None:
    """A JSON pointer into the body, or the name of a parameter."""
    assert p.problem_of_validation([error | {"type": "x"}]).more["errors"] == [finding]


def test_a_body_that_is_no_json() -> None:
    """Is told apart from one that is JSON and wrong."""
    assert p.problem_of_validation([{"type": "json_invalid", "loc": ("body", 1), "msg": "x"}]).slug == "invalid-json"


@pytest.mark.parametrize(
    ("status", "slug", "detail"),
    [
        (404, "not-found", ""),
        (405, "method-not-allowed", ""),
        (413, "too-large", ""),
        (418, "http", "I'm a Teapot; see /docs"),
    ],
)
def test_what_the_framework_refuses(status: int, slug: str, detail: str) -> None:
    """Keeps its status and its headers."""
    problem = p.problem_of_http(status, {"Allow": "GET"})
    assert (problem.slug, problem.detail, problem.headers) == (slug, detail, {"Allow": "GET"})


def test_every_type_says_what_to_do() -> None:
    """None without a title and an advice."""
    assert all(kind.title and kind.advice and 400 <= kind.status < 600 for kind in p.TYPES.values())


async def test_an_answer_that_has_begun_is_broken_off(caplog: pytest.LogCaptureFixture) -> None:
    """No second answer follows it; and what is no request passes through."""
    sent: list[MutableMapping[str, Any]] = []
    passed: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        passed.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            raise RuntimeError("+15551230001")

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    for kind in ("lifespan", "http"):
        await p.Shield(app)({"type": kind}, receive, send)
    assert (passed, [message["type"] for message in sent]) == (["lifespan", "http"], ["http.response.start"])
    assert "15551230001" not in caplog.text
