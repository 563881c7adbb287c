"""Numbers decide: what a dialled phone does follows from the last four digits of its number.

A number that is not in the table answers after a short ring and plays its script. Where a SIP status tells the
behaviour, the digits are that status: ``+1 415 555 0486`` is busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SUFFIX_DIGITS: Final = 4


class Way(StrEnum):
    """How a callee treats the call."""

    ANSWERS = "answers"
    REFUSES = "refuses"
    RINGS_OUT = "rings-out"
    """Rings until the caller gives up."""
    NO_RESPONSE = "no-response"
    """Not even a 100 Trying comes back."""
    WANTS_CREDENTIALS = "wants-credentials"
    """407 to a trunk that has none."""
    OVERLOADED = "overloaded"
    """The SIP service itself has no capacity and sends no INVITE."""


class Manner(StrEnum):
    """What a callee does once it has answered."""

    SCRIPT = "script"
    VOICEMAIL = "voicemail"
    SILENT = "silent"
    HANGS_UP = "hangs-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """The behaviour behind a number."""

    way: Way
    about: str
    manner: Manner = Manner.SCRIPT
    status: int = 200
    """Final SIP status."""
    phrase: str = "OK"
    """Its reason phrase."""
    trying_ms: int = 30
    """From INVITE to ringing."""
    ring_ms: int = 300
    """From ringing to the final response."""
    calls_per_second: int | None = None
    """More than this are refused with 503."""


def _refuses(status: int, phrase: str, ring_ms: int = 0) -> Callee:
    about = f"refuses with {status} {phrase}"
    return Callee(way=Way.REFUSES, about=about, status=status, phrase=phrase, ring_ms=ring_ms)


ORDINARY: Final = Callee(way=Way.ANSWERS, about="answers and plays its script")
NUMBERS: Final[Mapping[str, Callee]] = {
    "0183": Callee(
        way=Way.ANSWERS, about="slow: rings after 3 s, answers after 6, plays its script", trying_ms=3000, ring_ms=3000
    ),
    "0202": Callee(way=Way.ANSWERS, about="answers and hangs up a second later", manner=Manner.HANGS_UP),
    "0204": Callee(way=Way.ANSWERS, about="answers and never says a word", manner=Manner.SILENT),
    "0403": _refuses(403, "Forbidden"),
    "0404": _refuses(404, "Not Found"),
    "0407": Callee(way=Way.WANTS_CREDENTIALS, about="wants credentials, which the trunk lacks", status=407),
    "0408": Callee(way=Way.RINGS_OUT, about="rings and is never answered", status=487),
    "0429": Callee(
        way=Way.ANSWERS, about="answers and plays its script; above one call per second 503", calls_per_second=1
    ),
    "0480": _refuses(480, "Temporarily Unavailable"),
    "0486": _refuses(486, "Busy Here", ring_ms=200),
    "0488": _refuses(488, "Not Acceptable Here"),
    "0500": _refuses(500, "Server Internal Error"),
    "0503": _refuses(503, "CPS limit exceeded"),
    "0504": Callee(way=Way.NO_RESPONSE, about="no SIP response at all", status=408),
    "0599": Callee(way=Way.OVERLOADED, about="the SIP service is overloaded and sends no INVITE", status=0),
    "0603": _refuses(603, "Decline", ring_ms=500),
    "0700": Callee(
        way=Way.ANSWERS, about="voicemail: greeting, beep, ten seconds of listening, hang-up", manner=Manner.VOICEMAIL
    ),
}


def callee_of(number: str) -> Callee:
    """The behaviour behind ``number``, which may be a plain number or a ``tel:`` or ``sip:`` URI."""
    user = number.strip("<>").removeprefix("tel:").removeprefix("sips:").removeprefix("sip:").partition("@")[0]
    return NUMBERS.get(user[-_SUFFIX_DIGITS:], ORDINARY)


class CallsPerSecond:
    """Counts the calls of the last second per trunk or number."""

    def __init__(self) -> None:
        self._recent: dict[str, list[float]] = {}

    def allows(self, key: str, limit: int | None, now: float) -> bool:
        """Whether one more call may go to ``key`` at ``now`` (monotonic seconds); counts it if so."""
        if limit is None:
            return True
        recent = [at for at in self._recent.get(key, []) if now - at < 1.0]
        allowed = len(recent) < limit
        self._recent[key] = [*recent, now] if allowed else recent
        return allowed
