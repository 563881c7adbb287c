"""How a dial failed and how a leg ended, in our own words.

Rules of this file:
1. LiveKit's answer is read in this order: the SIP status, then the code. The HTTP status says nothing: 429 is busy.
2. What no table has counts as ours, so that it is seen.
3. `retryable` means that no phone rang, so that the same dial may be repeated by us a little later.

Sources: livekit-server 1.11.0 with livekit-sip of 2026-08-21, run against SIP peers that gave each of these answers;
RFC 3261 section 21, RFC 8197 (607), RFC 8688 (608).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cluster import outcome as o
from cluster.outcome import Outcome, Result

UNAVAILABLE = Outcome(Result.CALLER, "unavailable")
TRUNK_FORBIDDEN = Outcome(Result.CARRIER, "trunk-forbidden")
TRUNK_AUTH_FAILED = Outcome(Result.CARRIER, "trunk-auth-failed")
TRUNK_OVERLOADED = Outcome(Result.CARRIER, "trunk-overloaded")
TRUNK_FAILURE = Outcome(Result.CARRIER, "trunk-failure")
MEDIA_REFUSED = Outcome(Result.CARRIER, "media-refused")
SIP_OVERLOADED = Outcome(Result.OURS, "sip-overloaded")
SIP_UNREACHABLE = Outcome(Result.OURS, "sip-unreachable")
UNKNOWN_TRUNK = Outcome(Result.OURS, "unknown-trunk")
BAD_DIAL = Outcome(Result.OURS, "bad-dial")
KEY_REFUSED = Outcome(Result.OURS, "livekit-key-refused")
LIVEKIT_SHUTDOWN = Outcome(Result.OURS, "livekit-shutdown")


@dataclass(frozen=True, slots=True)
class DialFailure:
    """Why nobody answered, and whether the same dial may be repeated by us because no phone rang."""

    outcome: Outcome
    retryable: bool = False


_SIP: Final[Mapping[int, DialFailure]] = {
    401: DialFailure(TRUNK_AUTH_FAILED),
    403: DialFailure(TRUNK_FORBIDDEN),
    404: DialFailure(o.NOT_FOUND),
    407: DialFailure(TRUNK_AUTH_FAILED),
    408: DialFailure(o.NO_ANSWER),
    410: DialFailure(o.NOT_FOUND),
    415: DialFailure(MEDIA_REFUSED),
    480: DialFailure(UNAVAILABLE),
    484: DialFailure(o.NOT_FOUND),
    486: DialFailure(o.BUSY),
    487: DialFailure(o.NO_ANSWER),
    488: DialFailure(MEDIA_REFUSED),
    503: DialFailure(TRUNK_OVERLOADED, retryable=True),
    600: DialFailure(o.BUSY),
    603: DialFailure(o.DECLINED),
    604: DialFailure(o.NOT_FOUND),
    606: DialFailure(MEDIA_REFUSED),
    607: DialFailure(o.DECLINED),
    608: DialFailure(o.DECLINED),
}

_CODE: Final[Mapping[str, DialFailure]] = {
    # The ringing limit passed and LiveKit sent CANCEL; also where no SIP answer came at all.
    "canceled": DialFailure(o.NO_ANSWER),
    "deadline_exceeded": DialFailure(o.NO_ANSWER),
    # The trunk asked for a password and has none; a refused password is a SIP status.
    "failed_precondition": DialFailure(TRUNK_AUTH_FAILED),
    # A number that does not exist is a SIP 404; without a status it is the trunk id.
    "not_found": DialFailure(UNKNOWN_TRUNK),
    "invalid_argument": DialFailure(BAD_DIAL),
    "unauthenticated": DialFailure(KEY_REFUSED),
    "permission_denied": DialFailure(KEY_REFUSED),
    "unavailable": DialFailure(SIP_UNREACHABLE),
}

_NO_INVITE_SENT: Final[Mapping[str, Outcome]] = {
    "cpu exhausted": SIP_OVERLOADED,
    "no response from servers": SIP_UNREACHABLE,
}


def outcome_of_dial_error(code: str, sip_status: int | None, message: str) -> DialFailure:
    """What a failed `create_sip_participant` means.

    `code` is the Twirp code of LiveKit's error (`ServerError.code`), `sip_status` its `sip_status_code` where it has
    one, `message` its text, which is read for the two things no code tells and is never kept.
    """
    text = message.lower()
    if sip_status is not None:
        if sip_status == 503 and "cps" in text:  # noqa: PLR2004 a SIP status is its own name
            return DialFailure(o.CPS_LIMIT, retryable=True)
        return _SIP.get(sip_status) or DialFailure(Outcome(Result.CARRIER, f"sip-{sip_status}"))
    if code == "unavailable":
        for phrase, outcome in _NO_INVITE_SENT.items():
            if phrase in text:
                return DialFailure(outcome, retryable=True)
    return _CODE.get(code) or DialFailure(o.UNKNOWN)


@dataclass(frozen=True, slots=True)
class _Ending:
    before_answer: Outcome
    after_answer: Outcome


def _always(outcome: Outcome) -> _Ending:
    return _Ending(outcome, outcome)


_DISCONNECT: Final[Mapping[str, _Ending | None]] = {
    "UNKNOWN_REASON": None,
    "CLIENT_INITIATED": _Ending(o.CALLER_LEFT_EARLY, o.CALLER_HUNG_UP),
    # Another connection of the same participant took over: the leg goes on in that one.
    "DUPLICATE_IDENTITY": None,
    "MIGRATION": None,
    "SERVER_SHUTDOWN": _always(LIVEKIT_SHUTDOWN),
    "PARTICIPANT_REMOVED": _always(o.HUNG_UP_BY_API),
    "ROOM_DELETED": _always(o.HUNG_UP_BY_API),
    "ROOM_CLOSED": _always(o.HUNG_UP_BY_API),
    "STATE_MISMATCH": _always(o.CONNECTION_LOST),
    "JOIN_FAILURE": _always(o.CONNECTION_LOST),
    "SIGNAL_CLOSE": _always(o.CONNECTION_LOST),
    "CONNECTION_TIMEOUT": _always(o.CONNECTION_LOST),
    "MEDIA_FAILURE": _always(o.CONNECTION_LOST),
    "USER_UNAVAILABLE": _Ending(o.NO_ANSWER, o.CALLER_HUNG_UP),
    "USER_REJECTED": _Ending(o.DECLINED, o.CALLER_HUNG_UP),
    "SIP_TRUNK_FAILURE": _always(TRUNK_FAILURE),
    "AGENT_ERROR": _always(o.UNKNOWN),
}


def outcome_of_disconnect(reason_name: str | None, answered: bool) -> Outcome | None:  # noqa: FBT001 two arguments, both needed
    """How the leg ended when its participant left the room; None if it has not ended.

    `reason_name` is the name of LiveKit's `DisconnectReason`. None and `UNKNOWN_REASON` (which the SDK gives for
    "not set") come while LiveKit reconnects; a real departure always had a reason.
    """
    if reason_name is None:
        return None
    ending = _DISCONNECT.get(reason_name, _always(o.UNKNOWN))
    if ending is None:
        return None
    return ending.after_answer if answered else ending.before_answer
