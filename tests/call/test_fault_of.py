"""What the table of faults is told of a set-up that failed."""

from __future__ import annotations

import pytest
from google.auth.exceptions import RefreshError
from google.genai import errors
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidMessage, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from cluster.call.faults import Stage, diagnose
from cluster.call.live import fault_of


@pytest.mark.parametrize(
    ("error", "name", "blames_provider"),
    [
        (errors.APIError(1011, "You exceeded your current quota"), "quota", True),
        (errors.APIError(1011, "The service is currently unavailable."), "provider-down", True),
        (errors.APIError(1007, "API key not valid. Please pass a valid API key."), "bad-key", False),
        (InvalidStatus(Response(429, "Too Many Requests", Headers())), "quota", True),
        (InvalidStatus(Response(403, "Forbidden", Headers())), "unauthorized", False),
        (ConnectionClosedError(Close(1013, "Try again later"), None), "provider-down", True),
        (ConnectionClosedError(None, None), "provider-down", True),
        (ConnectionRefusedError(111, "refused"), "unreachable", True),
        (InvalidMessage("did not receive a valid HTTP response"), "unreachable", True),
        (RefreshError("Token has been expired or revoked."), "unauthorized", False),
    ],
)
def test_a_failed_set_up_has_a_diagnosis(error: Exception, name: str, blames_provider: bool) -> None:  # noqa: FBT001
    """Whose doing it was decides whether others are kept from trying."""
    found = diagnose(fault_of(error, Stage.SETUP))
    assert (found.name, found.blames_provider) == (name, blames_provider)
