"""Why a Live connection failed, and the right answer to it: one table.

Rules of this file:
1. The first row that fits is the diagnosis; the last rows fit everything, so there is always one.
2. A row's answer is for this one failure. How often it is tried, and for how long, is decided in `continuity`.

The codes and texts are those seen on the real services: the Live API's documentation, its SDK's issues and the forum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

NO_CONNECTION: Final = 0
"""Code of a failure below HTTP: nobody there, or nobody answered in time."""
WENT_MUTE: Final = -1
"""Code of a connection that is open and of no use: our own verdict, not the server's."""


class Stage(StrEnum):
    """How far the connection had come."""

    UPGRADE = "upgrade"
    """The code is an HTTP status, or `NO_CONNECTION`."""
    SETUP = "setup"
    """The code is a WebSocket close code (RFC 6455, 7.4), as it is in a session."""
    SESSION = "session"


class Remedy(StrEnum):
    """What may help."""

    RESUME = "resume"
    """Connect again at once, with the newest handle."""
    RESUME_WITHOUT_AUDIO = "resume-without-audio"
    """The same, but what was last sent is what the server choked on: it is not sent again."""
    FRESH = "fresh"
    """The handle is worthless: a new session that is told what was said so far."""
    BACK_OFF = "back-off"
    """The provider is down or out of quota: again in a while, elsewhere sooner."""
    GIVE_UP = "give-up"
    """The same request will never be accepted; another model or place may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure of a Live connection."""

    stage: Stage
    code: int
    reason: str = ""
    """In the server's own words; holds nothing of a caller."""
    with_handle: bool = False
    """A handle was presented; matters for a setup only."""

    def __str__(self) -> str:
        said = f": {self.reason}" if self.reason else ""
        if self.code == NO_CONNECTION:
            return f"no connection to the Live endpoint{said}"
        if self.code == WENT_MUTE:
            return f"the Live session went mute{said}"
        if self.stage is Stage.UPGRADE:
            return f"the upgrade was refused with HTTP {self.code}{said}"
        return f"closed with {self.code}{said or ': no reason given'}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One row: what it is called in metrics and records, and what may help."""

    name: str
    remedy: Remedy
    codes: frozenset[int] = field(default=frozenset(), repr=False)
    """Empty fits every code."""
    words: tuple[str, ...] = field(default=(), repr=False)
    """One of them stands in the reason, without regard to case; empty fits every reason."""
    stages: frozenset[Stage] = field(default=frozenset(Stage), repr=False)
    with_handle: bool | None = field(default=None, repr=False)

    @property
    def blames_provider(self) -> bool:
        """Whether other calls will meet the same: what the circuit breaker counts."""
        return self.remedy is Remedy.BACK_OFF

    def fits(self, fault: Fault) -> bool:
        """Whether this row describes the failure."""
        reason = fault.reason.lower()
        return (
            fault.stage in self.stages
            and (not self.codes or fault.code in self.codes)
            and (not self.words or any(word in reason for word in self.words))
            and self.with_handle in {None, fault.with_handle}
        )


_UPGRADE = frozenset({Stage.UPGRADE})
_SETUP = frozenset({Stage.SETUP})
_SESSION = frozenset({Stage.SESSION})
_REFUSALS = frozenset({1007, 1008})

DIAGNOSES: Final = (
    Diagnosis("bad-key", Remedy.GIVE_UP, _REFUSALS, ("api key",)),
    Diagnosis("wrong-place", Remedy.GIVE_UP, _REFUSALS, ("location is not supported",)),
    Diagnosis("no-such-model", Remedy.GIVE_UP, _REFUSALS, ("not found for api version", "not supported for bidi")),
    Diagnosis("quota", Remedy.BACK_OFF, frozenset({1008, 1011, 1013, 429}), ("quota", "exhausted", "rate limit")),
    Diagnosis("handle-refused", Remedy.FRESH, _REFUSALS, stages=_SETUP, with_handle=True),
    Diagnosis("handle-refused", Remedy.FRESH, words=("entity was not found",), with_handle=True),
    Diagnosis("conflict", Remedy.RESUME, stages=_SETUP, with_handle=True),
    Diagnosis("setup-refused", Remedy.GIVE_UP, _REFUSALS, stages=_SETUP),
    Diagnosis("not-now", Remedy.RESUME_WITHOUT_AUDIO, frozenset({1008}), ("not implemented, or supported",)),
    Diagnosis("aborted", Remedy.RESUME, frozenset({1008})),
    Diagnosis("invalid-argument", Remedy.RESUME_WITHOUT_AUDIO, frozenset({1007}), stages=_SESSION),
    Diagnosis("deadline", Remedy.RESUME, frozenset({1011}), ("deadline",), stages=_SESSION),
    Diagnosis("mute", Remedy.RESUME, frozenset({WENT_MUTE})),
    Diagnosis("unauthorized", Remedy.GIVE_UP, frozenset({400, 401, 403, 404}), stages=_UPGRADE),
    Diagnosis("conflict", Remedy.BACK_OFF, frozenset({409}), stages=_UPGRADE),
    Diagnosis("quota", Remedy.BACK_OFF, frozenset({429}), stages=_UPGRADE),
    Diagnosis("unreachable", Remedy.BACK_OFF, frozenset({NO_CONNECTION})),
    Diagnosis("provider-down", Remedy.BACK_OFF, stages=_UPGRADE | _SETUP),
    Diagnosis("connection-lost", Remedy.RESUME, frozenset({1006})),
    Diagnosis("closed", Remedy.RESUME),
)


def diagnose(fault: Fault) -> Diagnosis:
    """The first row that fits."""
    return next(row for row in DIAGNOSES if row.fits(fault))
