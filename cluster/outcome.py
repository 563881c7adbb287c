"""How a call ended, and whose doing it was.

Every call ends with exactly one `Outcome`. What nobody can attribute counts as ours, so that it is
seen and repaired (the rule and the shape are livekit-sip's `Termination{Result, Reason}`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """Whose doing the ending was."""

    SUCCESS = "success"
    """The conversation took place and ended as one should."""
    CALLER = "caller"
    """The far end: busy, no answer, declined, hung up before anything was said."""
    CARRIER = "carrier"
    """The trunk or the network between LiveKit and the phone."""
    MODEL = "model"
    """The Gemini Live service."""
    POLICY = "policy"
    """A limit or rule of the operator: budget, concurrency, hours, duration."""
    OURS = "ours"
    """Ringmaster, and everything that is not known to be somebody else."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One value that says how a call ended: `result` is whose doing, `reason` a stable kebab-case word."""

    result: Result
    reason: str

    def __str__(self) -> str:
        return f"{self.result}/{self.reason}"

    @classmethod
    def parse(cls, text: str) -> Outcome:
        """Read back what `str()` wrote; an unknown result counts as ours."""
        head, _, reason = text.partition("/")
        known = head in Result.__members__.values()
        return cls(Result(head) if known else Result.OURS, reason or "unknown")


AGENT_ENDED = Outcome(Result.SUCCESS, "agent-ended")
CALLER_HUNG_UP = Outcome(Result.SUCCESS, "caller-hung-up")
TRANSFERRED = Outcome(Result.SUCCESS, "transferred")
HUNG_UP_BY_API = Outcome(Result.SUCCESS, "hung-up-by-api")
CALLER_LEFT_EARLY = Outcome(Result.CALLER, "hung-up-before-answer")
BUSY = Outcome(Result.CALLER, "busy")
NO_ANSWER = Outcome(Result.CALLER, "no-answer")
DECLINED = Outcome(Result.CALLER, "declined")
NOT_FOUND = Outcome(Result.CALLER, "number-not-found")
SILENCE = Outcome(Result.CALLER, "silence")
CONNECTION_LOST = Outcome(Result.CARRIER, "connection-lost")
CPS_LIMIT = Outcome(Result.CARRIER, "trunk-cps-limit")
MAX_DURATION = Outcome(Result.POLICY, "max-duration")
MAX_COST = Outcome(Result.POLICY, "max-cost")
OVER_BUDGET = Outcome(Result.POLICY, "budget")
OVER_CAPACITY = Outcome(Result.POLICY, "capacity")
DRAINING = Outcome(Result.POLICY, "draining")
LIVE_UNREACHABLE = Outcome(Result.MODEL, "live-unreachable")
LIVE_UNAVAILABLE = Outcome(Result.MODEL, "live-unavailable")
LIVE_LOST = Outcome(Result.MODEL, "live-lost")
ROOM_UNREACHABLE = Outcome(Result.OURS, "room-unreachable")
ACTOR_DIED = Outcome(Result.OURS, "actor-died")
LEASE_EXPIRED = Outcome(Result.OURS, "lease-expired")
LEASE_LOST = Outcome(Result.OURS, "lease-lost")
UNKNOWN = Outcome(Result.OURS, "unknown")
