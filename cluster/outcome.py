"""How a call ended, and whose doing it was.

Every call ends with exactly one `Outcome`. What nobody can attribute counts as ours, so that it is
seen and repaired (the rule and the shape are livekit-sip's `Termination{Result, Reason}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


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
PRIORITY_ONLY = Outcome(Result.POLICY, "budget-priority-only")
OVER_CAPACITY = Outcome(Result.POLICY, "capacity")
OVER_TENANT_CALLS = Outcome(Result.POLICY, "tenant-calls")
OVER_CAMPAIGN_CALLS = Outcome(Result.POLICY, "campaign-calls")
OVER_TRUNK_CALLS = Outcome(Result.POLICY, "trunk-calls")
OVER_TRUNK_RATE = Outcome(Result.POLICY, "trunk-calls-per-second")
OVER_SESSIONS = Outcome(Result.POLICY, "gemini-sessions")
BLOCKED_NUMBER = Outcome(Result.POLICY, "blocked-number")
OUTSIDE_HOURS = Outcome(Result.POLICY, "calling-hours")
UNKNOWN_HOURS = Outcome(Result.POLICY, "calling-hours-unknown")
DRAINING = Outcome(Result.POLICY, "draining")
QUEUE_FULL = Outcome(Result.POLICY, "queue-full")
WAITED_TOO_LONG = Outcome(Result.POLICY, "waited-too-long")
WITHDRAWN = Outcome(Result.POLICY, "withdrawn")
"""Whoever asked for the call took it from the queue again."""
LIVE_UNREACHABLE = Outcome(Result.MODEL, "live-unreachable")
LIVE_UNAVAILABLE = Outcome(Result.MODEL, "live-unavailable")
LIVE_LOST = Outcome(Result.MODEL, "live-lost")
ROOM_UNREACHABLE = Outcome(Result.OURS, "room-unreachable")
ACTOR_DIED = Outcome(Result.OURS, "actor-died")
LEASE_EXPIRED = Outcome(Result.OURS, "lease-expired")
LEASE_LOST = Outcome(Result.OURS, "lease-lost")
FAULT = Outcome(Result.OURS, "fault")
UNKNOWN = Outcome(Result.OURS, "unknown")

WHY_NOT: Final[Mapping[Outcome, str]] = {
    DRAINING: "The service takes no new calls at the moment, because it is being replaced.",
    BLOCKED_NUMBER: "The policy blocks the number.",
    OUTSIDE_HOURS: "It is outside the calling hours at the place that the number belongs to.",
    UNKNOWN_HOURS: "There are calling hours, and the number does not tell in which time zone it is.",
    MAX_COST: "The call's cost limit is too low to say anything.",
    OVER_BUDGET: "A budget is used up, or running calls hold what is left of it.",
    PRIORITY_ONLY: "A budget is all but used up, and the rest of it is kept for calls of high priority.",
    OVER_CAPACITY: "Every slot is taken, or those that are free are kept for inbound calls.",
    OVER_TENANT_CALLS: "The tenant has as many calls as it may have at once.",
    OVER_CAMPAIGN_CALLS: "The campaign has as many calls as it may have at once.",
    OVER_TRUNK_CALLS: "The trunk has as many calls as it may have at once.",
    OVER_SESSIONS: "Google allows the project no more Live sessions at once.",
    OVER_TRUNK_RATE: "The trunk takes no more calls in this second.",
    LIVE_UNAVAILABLE: "The model does not serve, so nobody is dialled.",
    QUEUE_FULL: "As many of the tenant's calls wait as may.",
    WAITED_TOO_LONG: "The call could not start before its time in the queue was up.",
}
"""Why a call may not start, or not yet: every reason that admission has, in the order in which it looks."""
