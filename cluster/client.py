"""The HTTP API from the caller's side, as the command line uses it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import httpx2

from cluster.errors import InputError, RingmasterError
from cluster.settings import ClientSettings

TIMEOUT_S: Final = 30.0
QUIET_S: Final = 45.0
"""The event stream sends a sign of life every 15 s."""
RESUME_AFTER_S: Final = 2.0
_SENDERS_FAULT: Final = frozenset({400, 401, 403, 404, 409, 413, 422})
Json = dict[str, Any]


class ApiRefused(InputError):
    """The API says that the request itself is wrong; the message is the API's own."""


class ApiUnavailable(RingmasterError):
    """The API can't be reached, or can't do it now."""


class Client:
    """A connection to the API. Every method raises `ApiRefused` or `ApiUnavailable`."""

    def __init__(self, settings: ClientSettings, transport: httpx2.BaseTransport | None = None) -> None:
        """`transport` is another way to the API than the network."""
        key = settings.api_key
        self._url = settings.url
        self._http = httpx2.Client(
            base_url=settings.url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=TIMEOUT_S,
            transport=transport,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def create_call(self, body: Mapping[str, Any], idempotency_key: str | None) -> Json:
        """`POST /v1/calls`."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._send("POST", "/v1/calls", json=dict(body), headers=headers)

    def calls(self, state: str | None, limit: int) -> list[Json]:
        """`GET /v1/calls`, newest first."""
        params: dict[str, str | int] = {"limit": limit} | ({"state": state} if state else {})
        found: list[Json] = self._send("GET", "/v1/calls", params=params)["calls"]
        return found

    def call(self, call_id: str) -> Json:
        """`GET /v1/calls/{id}`."""
        return self._send("GET", f"/v1/calls/{call_id}")

    def hang_up(self, call_id: str) -> Json:
        """`POST /v1/calls/{id}/hangup`."""
        return self._send("POST", f"/v1/calls/{call_id}/hangup")

    def apply_policy(self, policy: Mapping[str, Any]) -> None:
        """`PUT /v1/policy`."""
        self._send("PUT", "/v1/policy", json=dict(policy))

    def policy(self) -> Json:
        """`GET /v1/policy`."""
        return self._send("GET", "/v1/policy")

    def events(self, call_id: str) -> Iterator[Json]:
        """`GET /v1/calls/{id}/events`: each event as it happens, until the call has ended.

        A stream that ends earlier is taken up again where it was.
        """
        last = "0"
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            with (
                self._reached(),
                self._http.stream("GET", f"/v1/calls/{call_id}/events", headers=headers, timeout=QUIET_S) as response,
            ):
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                for event in httpx2.EventSource(response):
                    if not event.data:  # it only says when to come back
                        continue
                    last = event.id or last
                    fields: Any = event.json()
                    yield fields | {"kind": event.event}
                    if event.event == "ended":
                        return
            time.sleep(RESUME_AFTER_S)

    def _send(self, method: str, path: str, **arguments: Any) -> Json:
        with self._reached():
            response = self._http.request(method, path, **arguments)
        if response.is_error:
            raise _refusal(response)
        answer: Json = response.json() if response.content else {}
        return answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise ApiUnavailable(
                f"no answer from {self._url} ({type(error).__name__}); is `ringmaster up` running there? "
                "RINGMASTER_URL says where the API is"
            ) from None


def _refusal(response: httpx2.Response) -> RingmasterError:
    """What a problem document says, in one line."""
    try:
        problem: Json = response.json()
    except ValueError:
        problem = {"title": f"HTTP {response.status_code}", "detail": "the answer is not Ringmaster's"}
    parts = [problem.get("title"), problem.get("detail"), *map(_where, problem.get("errors") or ())]
    message = ": ".join(part for part in parts if part)
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        message += "; RINGMASTER_API_KEY holds it"
    return (ApiRefused if response.status_code in _SENDERS_FAULT else ApiUnavailable)(message)


def _where(error: Mapping[str, str]) -> str:
    return f"{error.get('pointer') or error.get('parameter') or 'body'}: {error.get('detail', '')}"
