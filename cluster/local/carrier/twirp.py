"""Twirp as LiveKit's SIP API speaks it: error codes, their HTTP statuses, and how SIP statuses become errors.

The texts and codes are those of livekit-server 1.11 with a real livekit-sip behind it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status
from livekit.protocol.sip import SIPStatus

HTTP_STATUS: Final[Mapping[str, int]] = {
    "aborted": 409,
    "bad_route": 404,
    "canceled": 408,
    "deadline_exceeded": 408,
    "failed_precondition": 412,
    "invalid_argument": 400,
    "malformed": 400,
    "not_found": 404,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "unauthenticated": 401,
    "unavailable": 503,
    "unknown": 500,
}

_GRPC: Final[Mapping[str, int]] = {
    "invalid_argument": 3,
    "deadline_exceeded": 4,
    "not_found": 5,
    "permission_denied": 7,
    "resource_exhausted": 8,
    "failed_precondition": 9,
    "aborted": 10,
    "unauthenticated": 16,
}

_OF_SIP: Final[Mapping[int, str]] = {
    401: "permission_denied",
    403: "permission_denied",
    404: "not_found",
    407: "unauthenticated",
    408: "deadline_exceeded",
    410: "not_found",
    480: "resource_exhausted",
    486: "resource_exhausted",
    487: "aborted",
    500: "failed_precondition",
    503: "failed_precondition",
    504: "deadline_exceeded",
    600: "resource_exhausted",
    603: "permission_denied",
    604: "not_found",
}


class TwirpError(Exception):
    """An error answer: ``code`` is one of Twirp's, ``message`` what the real service says, ``meta`` its string map."""

    def __init__(self, code: str, message: str, meta: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.meta = dict(meta or {})

    @property
    def http_status(self) -> int:
        """The HTTP status that Twirp gives this code."""
        return HTTP_STATUS[self.code]

    def as_json(self) -> dict[str, object]:
        """The body of the answer."""
        body: dict[str, object] = {"code": self.code, "msg": self.message}
        if self.meta:
            body["meta"] = self.meta
        return body


def invalid(message: str) -> TwirpError:
    """A request that can't be meant."""
    return TwirpError("invalid_argument", message)


def refused(request: str, status: int, phrase: str) -> TwirpError:
    """The answer to a call or transfer that got a final SIP ``status``; ``request`` is INVITE or REFER."""
    code = _OF_SIP.get(status, "invalid_argument")
    details = AnyMessage()
    details.Pack(SIPStatus(code=status, status=phrase))  # type: ignore[arg-type]
    packed = Status(code=_GRPC[code], message=f"sip status {status}: {phrase}", details=[details])
    meta = {
        "sip_status_code": str(status),
        "sip_status": phrase,
        "error_details": base64.b64encode(packed.SerializeToString()).decode(),
    }
    return TwirpError(code, f"twirp error unknown: {request} failed: sip status: {status}: {phrase}", meta)


def timed_out() -> TwirpError:
    """Nobody answered within the ringing timeout, or there was no SIP response at all."""
    return TwirpError("canceled", "twirp error unknown: sip request timed out")


def canceled() -> TwirpError:
    """The participant was removed, or its room deleted, while the phone rang."""
    return TwirpError("canceled", "twirp error unknown: sip request canceled")
