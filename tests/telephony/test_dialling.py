"""What LiveKit's answers to a dial mean, answer by answer as they were measured."""

from __future__ import annotations

import pytest
from livekit.protocol.models import DisconnectReason

from cluster import outcome as o
from cluster.outcome import Outcome, Result
from cluster.telephony import dialling as d


@pytest.mark.parametrize(
    ("code", "sip_status", "message", "outcome", "retryable"),
    [
        pytest.param("resource_exhausted", 486, "Busy Here", o.BUSY, False, id="busy"),
        pytest.param("unknown", 600, "Busy Everywhere", o.BUSY, False, id="busy everywhere"),
        pytest.param("permission_denied", 603, "Decline", o.DECLINED, False, id="declined"),
        pytest.param("permission_denied", 607, "Unwanted", o.DECLINED, False, id="unwanted"),
        pytest.param("permission_denied", 608, "Rejected", o.DECLINED, False, id="rejected by a filter"),
        pytest.param("resource_exhausted", 480, "", d.UNAVAILABLE, False, id="unavailable"),
        pytest.param("not_found", 404, "", o.NOT_FOUND, False, id="no such number"),
        pytest.param("not_found", 604, "", o.NOT_FOUND, False, id="no such number anywhere"),
        pytest.param("permission_denied", 403, "", d.TRUNK_FORBIDDEN, False, id="forbidden by the trunk"),
        pytest.param("unauthenticated", 401, "", d.TRUNK_AUTH_FAILED, False, id="wrong trunk password"),
        pytest.param("invalid_argument", 488, "", d.MEDIA_REFUSED, False, id="no common codec"),
        pytest.param("failed_precondition", 500, "", Outcome(Result.CARRIER, "sip-500"), False, id="any other status"),
        pytest.param(
            "failed_precondition", 503, "Trunk CPS limit exceeded", o.CPS_LIMIT, True, id="too many calls a second"
        ),
        pytest.param(
            "failed_precondition", 503, "Service Unavailable", d.TRUNK_OVERLOADED, True, id="trunk overloaded"
        ),
        pytest.param("canceled", None, "sip request timed out", o.NO_ANSWER, False, id="rang out"),
        pytest.param("deadline_exceeded", None, "", o.NO_ANSWER, False, id="rang past every limit"),
        pytest.param("failed_precondition", None, "", d.TRUNK_AUTH_FAILED, False, id="trunk without a password"),
        pytest.param("not_found", None, "", d.UNKNOWN_TRUNK, False, id="no such trunk, which is no SIP 404"),
        pytest.param("unavailable", None, "cpu exhausted", d.SIP_OVERLOADED, True, id="livekit-sip has no CPU left"),
        pytest.param("unavailable", None, "no response from servers", d.SIP_UNREACHABLE, True, id="no livekit-sip"),
        pytest.param(
            "unavailable", None, "whatever", d.SIP_UNREACHABLE, False, id="unavailable, perhaps after the INVITE"
        ),
        pytest.param("invalid_argument", None, "", d.BAD_DIAL, False, id="malformed request"),
        pytest.param("unauthenticated", None, "", d.KEY_REFUSED, False, id="wrong LiveKit key"),
        pytest.param("permission_denied", None, "", d.KEY_REFUSED, False, id="LiveKit key without the SIP grant"),
        pytest.param("internal", None, "", o.UNKNOWN, False, id="anything else is ours"),
        pytest.param("unreachable", None, "ClientConnectorError", o.UNKNOWN, False, id="LiveKit did not answer"),
    ],
)
def test_dial_errors(code: str, sip_status: int | None, message: str, outcome: Outcome, retryable: bool) -> None:  # noqa: FBT001
    """Each answer has its outcome, and only those where no phone rang may be repeated."""
    assert d.outcome_of_dial_error(code, sip_status, message) == d.DialFailure(outcome, retryable)


@pytest.mark.parametrize(
    ("reason", "before_answer", "after_answer"),
    [
        (None, None, None),
        ("UNKNOWN_REASON", None, None),
        ("DUPLICATE_IDENTITY", None, None),
        ("MIGRATION", None, None),
        ("CLIENT_INITIATED", o.CALLER_LEFT_EARLY, o.CALLER_HUNG_UP),
        ("USER_REJECTED", o.DECLINED, o.CALLER_HUNG_UP),
        ("USER_UNAVAILABLE", o.NO_ANSWER, o.CALLER_HUNG_UP),
        ("SIP_TRUNK_FAILURE", d.TRUNK_FAILURE, d.TRUNK_FAILURE),
        ("CONNECTION_TIMEOUT", o.CONNECTION_LOST, o.CONNECTION_LOST),
        ("ROOM_DELETED", o.HUNG_UP_BY_API, o.HUNG_UP_BY_API),
        ("SERVER_SHUTDOWN", d.LIVEKIT_SHUTDOWN, d.LIVEKIT_SHUTDOWN),
        ("A_REASON_OF_NEXT_YEAR", o.UNKNOWN, o.UNKNOWN),
    ],
)
def test_disconnect_reasons(reason: str | None, before_answer: Outcome | None, after_answer: Outcome | None) -> None:
    """A reason means one thing before the answer and another after it; no reason is no end."""
    assert d.outcome_of_disconnect(reason, False) == before_answer  # noqa: FBT003
    assert d.outcome_of_disconnect(reason, True) == after_answer  # noqa: FBT003


def test_the_table_has_every_reason_of_livekit() -> None:
    """A reason that LiveKit adds is noticed here."""
    assert set(DisconnectReason.keys()) == set(d._DISCONNECT)
