"""The HTTP API from the caller's side, as the command line uses it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx2

from cluster.errors import InputError, RingmasterError
from cluster.settings import ClientSettings

TIMEOUT_S: Final = 30.0
QUIET_S: Final = 45.0
"""The event stream sends a sign of life every 15 s."""
RESUME_AFTER_S: Final = 2.0
RESUMES: Final = 30
"""So often in a row the API may be out of reach before an event stream is given up: a restart takes less."""
_SENDERS_FAULT: Final = frozenset({400, 401, 403, 404, 409, 413, 422})
Json = dict[str, Any]


class ApiRefused(InputError):
    """The request itself is wrong: the API says so, in its own words, or it can't even be sent."""


class ApiUnavailable(RingmasterError):
    """The API can't be reached, or can't do it now."""


class Client:
    """A connection to the API. Every method raises `ApiRefused` or `ApiUnavailable`."""

    def __init__(self, settings: ClientSettings, transport: httpx2.BaseTransport | None = None) -> None:
        """`transport` is another way to the API than the network."""
        self._url = settings.url
        key = _sendable("RINGMASTER_API_KEY", settings.api_key.get_secret_value() if settings.api_key else "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with self._reached():
            self._http = httpx2.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S, transport=transport)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def create_call(self, body: Mapping[str, Any], idempotency_key: str | None) -> Json:
        """`POST /v1/calls`."""
        key = _sendable("the idempotency key", idempotency_key or "")
        headers = {"Idempotency-Key": key} if key else {}
        return self._send("POST", "/v1/calls", json=dict(body), headers=headers)

    def calls(self, state: str | None, limit: int) -> list[Json]:
        """`GET /v1/calls`, newest first."""
        params: dict[str, str | int] = {"limit": limit} | ({"state": state} if state else {})
        found: list[Json] = self._send("GET", "/v1/calls", params=params)["calls"]
        return found

    def call(self, call_id: str) -> Json:
        """`GET /v1/calls/{id}`."""
        return self._send("GET", _path(call_id))

    def hang_up(self, call_id: str) -> Json:
        """`POST /v1/calls/{id}/hangup`."""
        return self._send("POST", f"{_path(call_id)}/hangup")

    def apply_policy(self, policy: Mapping[str, Any]) -> None:
        """`PUT /v1/policy`."""
        self._send("PUT", "/v1/policy", json=dict(policy))

    def policy(self) -> Json:
        """`GET /v1/policy`."""
        return self._send("GET", "/v1/policy")

    def events(self, call_id: str) -> Iterator[Json]:
        """`GET /v1/calls/{id}/events`: each event as it happens, until the call has ended.

        A stream that ends or breaks earlier is taken up again where it was.
        """
        last, failures = "0", 0
        while True:
            try:
                for event in self._stream(call_id, last):
                    failures = 0
                    if not event.data:  # it only says when to come back
                        continue
                    last = event.id or last
                    fields: Any = event.json()
                    yield fields | {"kind": event.event}
                    if event.event == "ended":
                        return
            except ApiUnavailable:
                failures += 1
                if failures > RESUMES:
                    raise
            time.sleep(RESUME_AFTER_S)

    def _stream(self, call_id: str, last: str) -> Iterator[httpx2.ServerSentEvent]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with (
            self._reached(),
            self._http.stream("GET", f"{_path(call_id)}/events", headers=headers, timeout=QUIET_S) as response,
        ):
            if not response.is_success:
                response.read()
                raise _refusal(response)
            yield from httpx2.EventSource(response)

    def _send(self, method: str, path: str, **arguments: Any) -> Json:
        with self._reached():
            response = self._http.request(method, path, **arguments)
        if response.status_code == HTTPStatus.NO_CONTENT:
            return {}
        answer = _object(response)
        if answer is None or not response.is_success:
            raise _refusal(response)
        return answer

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.InvalidURL, UnicodeError):
            raise ApiRefused(f"{self._url!r} is no URL; RINGMASTER_URL says where the API is") from None
        except httpx2.HTTPError as error:
            raise ApiUnavailable(
                f"no answer from {self._url} ({type(error).__name__}); is `ringmaster up` running there? "
                "RINGMASTER_URL says where the API is"
            ) from None


def _refusal(response: httpx2.Response) -> RingmasterError:
    """What a problem document says, in one line."""
    problem = _object(response)
    if problem is None or "type" not in problem:
        leads = f", it leads to {response.headers['Location']}" if response.has_redirect_location else ""
        return ApiUnavailable(
            f"HTTP {response.status_code}: the answer is not Ringmaster's{leads}; RINGMASTER_URL says where the API is"
        )
    parts = [problem.get("title"), problem.get("detail"), *map(_where, problem.get("errors") or ())]
    message = ": ".join(part for part in parts if part)
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        message += "; RINGMASTER_API_KEY holds it"
    return (ApiRefused if response.status_code in _SENDERS_FAULT else ApiUnavailable)(message)


def _object(response: httpx2.Response) -> Json | None:
    """The JSON object that the answer is, None if it is anything else."""
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _path(call_id: str) -> str:
    return f"/v1/calls/{quote(call_id, safe='')}"


def _sendable(what: str, text: str) -> str:
    """What a header can hold."""
    if not (text.isascii() and text.isprintable()):
        raise ApiRefused(f"{what} has a character that can't be sent; only printable ASCII can")
    return text


def _where(error: Mapping[str, str]) -> str:
    return f"{error.get('pointer') or error.get('parameter') or 'body'}: {error.get('detail', '')}"
