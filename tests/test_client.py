"""The API's client: what answers that are not Ringmaster's become, and how an event stream is taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from cluster import client as c
from cluster.errors import InputError
from cluster.settings import load_client_settings

EVENT = b'id: 4\nevent: line\ndata: {"text": "Hello."}\n\n'
ENDED = b'id: 5\nevent: ended\ndata: {"result": "success"}\n\n'


class Breaking(httpx2.SyncByteStream):
    """A body that breaks off after one chunk."""

    def __iter__(self) -> Iterator[bytes]:
        """The chunk, and the break."""
        yield b"retry: 2000\n\n" + EVENT
        raise httpx2.ReadError("connection reset")


def client(handler: Callable[[httpx2.Request], httpx2.Response], **environ: str) -> c.Client:
    """One whose requests go to `handler`."""
    return c.Client(load_client_settings(environ), httpx2.MockTransport(handler))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx2.Response(301, headers={"Location": "https://calls.example/v1/calls"}), "leads to https://calls.exam"),
        (httpx2.Response(200, text="<html>It works!</html>"), "HTTP 200: the answer is not Ringmaster's"),
        (httpx2.Response(200), "not Ringmaster's"),
        (httpx2.Response(200, json=["calls"]), "not Ringmaster's"),
        (httpx2.Response(502, text="Bad Gateway"), "HTTP 502"),
        (httpx2.Response(404, json={"detail": ["Not Found"]}), "HTTP 404"),
    ],
)
def test_an_answer_of_somebody_else(answer: httpx2.Response, said: str) -> None:
    """Is one line that says where the API was looked for, whatever was asked."""
    somewhere = client(lambda _request: answer)
    for ask in (lambda: somewhere.call("call_1"), lambda: somewhere.calls(None, 1), somewhere.policy):
        with pytest.raises(c.ApiUnavailable, match=said) as error:
            ask()
        assert "RINGMASTER_URL" in str(error.value)


def test_a_stream_that_breaks_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was, also past an API that restarts."""
    monkeypatch.setattr(c, "RESUME_AFTER_S", 0.0)
    sse = {"Content-Type": "text/event-stream"}
    answers = [
        httpx2.Response(200, headers=sse, stream=Breaking()),
        httpx2.Response(503, text="restarting"),
        httpx2.Response(200, headers=sse, content=ENDED),
    ]
    begun_after: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        begun_after.append(request.headers["Last-Event-ID"])
        return answers.pop(0)

    assert [event["kind"] for event in client(answer).events("call_1")] == ["line", "ended"]
    assert begun_after == ["0", "4", "4"]


def test_a_stream_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers any more; at once where the API refuses."""
    monkeypatch.setattr(c, "RESUME_AFTER_S", 0.0)
    asked = 0

    def nobody(_request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        raise httpx2.ConnectError("refused")

    with pytest.raises(c.ApiUnavailable, match="is `ringmaster up` running there"):
        list(client(nobody).events("call_1"))
    assert asked == c.RESUMES + 1
    problem = {"type": "/docs/problems/unauthorized", "title": "An API key is needed", "status": 401}
    with pytest.raises(c.ApiRefused, match="An API key is needed; RINGMASTER_API_KEY holds it"):
        list(client(lambda _request: httpx2.Response(401, json=problem)).events("call_1"))


def test_an_id_stays_one_part_of_the_path() -> None:
    """Whatever was typed."""
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.raw_path.decode())
        return httpx2.Response(200, json={})

    client(answer).call("a/../b?\n")
    assert asked == ["/v1/calls/a%2F..%2Fb%3F%0A"]


@pytest.mark.parametrize("url", ["http://localhost:80a", "http://[::1", "http://a..b"])
def test_a_url_that_is_none(url: str) -> None:
    """Is the input's fault."""
    with pytest.raises(InputError, match="is no URL"):
        c.Client(load_client_settings({"RINGMASTER_URL": url})).policy()
