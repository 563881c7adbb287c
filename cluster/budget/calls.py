"""An open call as admission knows it: its terms, its assignment, and its record should its actor die. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cluster import outcome as o
from cluster.budget.admission import Wish
from cluster.budget.leases import Lease, LeaseState
from cluster.budget.pricing import (
    SLICE_S,
    Ahead,
    Route,
    Talk,
    Tariff,
    ahead_usd_micros,
    dearer,
    estimate_usd_micros,
    instruction_tokens,
    priced,
)
from cluster.messages import Assignment, CallRecord, CallRequest, Checkpoint, Direction, Line, Metered, Renewal, Usage
from cluster.outcome import Outcome

if TYPE_CHECKING:
    import asyncio
    from datetime import date

    from cluster.budget.prices import Prices
    from cluster.profiles import Profile

Json = dict[str, Any]


HIGH_PRIORITY: Final = 5
"""Of 0 to 9: who asks for the upper half means it."""
WORTH_S: Final = 60.0
"""A call that there is no money for so long is not worth beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one call may take, with profile and request made one."""

    model: str
    max_duration_s: float
    max_cost_usd_micros: int
    talk: Talk
    tariff: Tariff
    important: bool
    """Somebody is on the line already, or the request has a high priority."""

    def wish(self, silent_s: float = SLICE_S) -> Wish:
        """What admission is asked for, if the call may go on for `silent_s` without being heard of."""
        return Wish(
            estimate_usd_micros=estimate_usd_micros(min(WORTH_S, self.max_duration_s), self.talk, self.tariff),
            ahead=self.ahead(0.0, silent_s),
            max_cost_usd_micros=self.max_cost_usd_micros,
            important=self.important,
        )

    def ahead(self, talk_s: float, silent_s: float, running_usd_micros: int = 0) -> Ahead:
        """What has to be held after so much talk, if the next sign of life may be `silent_s` away.

        `running_usd_micros` is the cost of a turn that goes on, and will be on the next bill.
        """
        goodbye, soon, slice_ = (
            running_usd_micros + ahead_usd_micros(talk_s, seconds, self.talk, self.tariff)
            for seconds in (0.0, silent_s, max(silent_s, SLICE_S))
        )
        return Ahead(goodbye=goodbye, soon=soon, slice=slice_)


def terms_of(request: CallRequest, profile: Profile, prices: Prices, day: date, used: Iterable[str] = ()) -> Terms:
    """The tighter one of the request's and the profile's limits, and the prices of the day.

    `used` are models that the call has used already: the profile may have had others then.
    Raises `PriceError` for a model without a price.
    """
    route = Route(request.direction, request.trunk, request.to)
    limits, compression = profile.limits, profile.compression
    max_cost = limits.max_cost_usd_micros
    asked_s, asked_cost = request.max_duration_s, request.max_cost_usd_micros
    return Terms(
        model=profile.model,
        max_duration_s=limits.max_duration_s if asked_s is None else min(asked_s, limits.max_duration_s),
        max_cost_usd_micros=max_cost if asked_cost is None else min(asked_cost, max_cost),
        talk=Talk(instruction_tokens(profile.instructions), compression.trigger_tokens, compression.target_tokens),
        important=request.direction is Direction.INBOUND or request.priority >= HIGH_PRIORITY,
        tariff=prices.tariff(route, [*dict.fromkeys((*(target.model for target in profile.targets()), *used))], day),
    )


@dataclass(slots=True, kw_only=True)
class OpenCall:
    """What is known of a call beside its lease."""

    request: CallRequest
    terms: Terms
    started_at: float
    """UTC seconds, as `renewed_at`."""
    renewal: Renewal | None = None
    """The newest one: cost so far and checkpoint."""
    renewed_at: float = 0.0
    recalled: Checkpoint | None = None
    """What the history knows of it, where an earlier process of the pool took the heartbeats with it."""
    raising: asyncio.Future[None] | None = None
    """The newest reservation beyond the first, done when it is durable. Nobody may spend it before."""
    hangup_asked: bool = False
    """Before the actor had begun; it is told when it has."""

    def nobody_was_called(self, lease: Lease) -> bool:
        """It is to be dialled, and certainly no phone has rung yet."""
        may_have_leg = lease.dialled or (self.recalled is not None and self.recalled.has_leg)
        return self.request.direction is Direction.OUTBOUND and not may_have_leg

    def too_late(self, lease: Lease, utc: float) -> Outcome | None:
        """Why nobody is to be dialled for it any more; it was admitted, and has not begun."""
        if self.hangup_asked or lease.state is LeaseState.WINDING_DOWN:
            return o.HUNG_UP_BY_API
        return o.WAITED_TOO_LONG if utc - self.started_at > BEGUN_WITHIN_S else None

    @property
    def has_listener(self) -> bool:
        """Somebody is on the phone, or rings."""
        talks = self.renewal is not None and self.renewal.talk_s > 0
        talked = self.recalled is not None and self.recalled.answered_s is not None
        return talks or talked or self.request.direction is Direction.INBOUND

    def assignment(
        self, lease: Lease, *, renew_every_s: float, lease_ttl_s: float, concise: bool, utc: float
    ) -> Assignment:
        """What the call's actor is told."""
        return Assignment(
            request=self.request,
            lease_id=lease.lease_id,
            fencing_token=lease.fencing_token,
            max_duration_s=self.terms.max_duration_s,
            max_cost_usd_micros=lease.max_cost_usd_micros,
            reserved_usd_micros=lease.reserved_usd_micros,
            renew_every_s=renew_every_s,
            lease_ttl_s=lease_ttl_s,
            tariff=self.terms.tariff,
            concise=concise,
            takeover=self._takeover(lease, utc),
        )

    def _takeover(self, lease: Lease, utc: float) -> Checkpoint | None:
        """Where the call stands, from its last heartbeat; None where it has not begun."""
        if self.renewal is not None:
            at, deaf_s = self.renewal.checkpoint, max(0.0, utc - self.renewed_at)
            return replace(at, age_s=at.age_s + deaf_s, is_deaf=deaf_s > DEAF_S)
        # What it has cost so far is in the lease alone; the next process's own bill begins there.
        age_s, metered = max(0.0, utc - self.started_at), lease.bill.metered
        if self.recalled is not None and self.recalled.has_leg:
            return replace(self.recalled, age_s=age_s, metered=metered)
        if lease.dialled:
            return Checkpoint(leg=DIALLING, age_s=age_s, metered=metered)
        return Checkpoint(age_s=age_s, metered=metered) if lease.bill.charges else None

    def lost_record(self, lease: Lease, outcome: Outcome, ended_at: float) -> CallRecord:
        """The record of a call whose actor can't write it any more, from its last checkpoint.

        The turn in which it was lost will be billed by the provider, and reported by nobody: its estimate counts.
        """
        request, renewal = self.request, self.renewal
        known = renewal.checkpoint if renewal else self.recalled or Checkpoint()
        talk_s = renewal.talk_s if renewal else 0.0
        bill = dearer(lease.bill, priced(known.metered, self.terms.tariff))
        answered_s = max(0.0, self.renewed_at - self.started_at - talk_s) if talk_s else None
        return CallRecord(
            call_id=request.call_id,
            request_id=request.request_id,
            tenant=request.tenant,
            direction=request.direction,
            profile=request.profile,
            model=self.terms.model,
            room=request.room,
            slot=lease.slot,
            node="",
            outcome=outcome,
            started_at=self.started_at,
            answered_s=answered_s,
            duration_s=round(max(0.0, ended_at - self.started_at), 3),
            talk_s=talk_s,
            cost_usd_micros=bill.usd_micros,
            usage=renewal.usage if renewal else Usage(),
            timings_ms={},
            quality={},
            to=request.to,
            from_=request.from_,
            transcript=known.transcript,
            detail=LOST_DETAIL if renewal or self.recalled else NEVER_RENEWED_DETAIL,
            metered=bill.metered,
            charges_usd_micros=bill.charges,
        )


DEAF_S: Final = 1.0
"""Between two heartbeats is half of it; in a longer time a sentence has room."""
IDLE: Final = "idle"
DIALLING: Final = "dialling"
ANSWERED: Final = "answered"
PHONE_STATES: Final = frozenset({DIALLING, "ringing", ANSWERED})
"""States of a leg with a phone, as `cluster.call.states` names them."""
BEGUN_WITHIN_S: Final = 300.0
"""Nobody expects a call later that was admitted; processes and nodes are there sooner."""
NOT_DIALLED: Final = "It was admitted, and nobody was dialled."
LOST_DETAIL: Final = "The call's process ended; transcript and cost are those of its last sign of life."
NEVER_RENEWED_DETAIL: Final = "The call's process gave no sign of life."


def recollection(shown: Mapping[str, Any]) -> Checkpoint:
    """Where a call stands, as its history shows it (`cluster.records.views.call_view`).

    No handle restores any of it, and what was said last may be missing.
    """
    lines = tuple(Line(**line) for line in shown["transcript"])
    (leg,) = shown["legs"]
    is_answered = leg["state"] == ANSWERED
    return Checkpoint(
        transcript=lines,
        unknown=len(lines),
        answered_s=leg[f"{ANSWERED}_s"] if is_answered else None,
        leg=leg["state"] if leg["state"] in PHONE_STATES else IDLE,
        phase="talking" if is_answered and lines else "setting-up",
        caller_waits=bool(lines) and lines[-1].who == "caller",
        is_deaf=True,
    )


def fingerprint(request: CallRequest) -> str:
    """A hash over what a caller of the API chose: the same key with another one is a mistake, not a repetition."""
    chosen = {name: value for name, value in request_to_json(request).items() if name not in _NOT_CHOSEN}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


_NOT_CHOSEN: Final = frozenset({"request_id", "call_id", "room", "identity", "trunk", "dial_before"})


def request_to_json(request: CallRequest) -> Json:
    """The request as JSON."""
    return _fields(request) | {"context": dict(request.context)}


def request_from_json(fields: Mapping[str, Any]) -> CallRequest:
    """Read back what `request_to_json` wrote."""
    return CallRequest(**{**fields, "direction": Direction(fields["direction"])})


def record_to_json(record: CallRecord) -> Json:
    """The record as JSON, for the time until the history has it."""
    return _fields(record) | {
        "outcome": str(record.outcome),
        "usage": _fields(record.usage),
        "timings_ms": dict(record.timings_ms),
        "quality": dict(record.quality),
        "transcript": [_fields(line) for line in record.transcript],
        "live_faults": [],
        "metered": metered_to_json(record.metered),
        "charges_usd_micros": dict(record.charges_usd_micros),
    }


def record_from_json(fields: Mapping[str, Any]) -> CallRecord:
    """Read back what `record_to_json` wrote."""
    return CallRecord(
        **{
            **{name: value for name, value in fields.items() if name in CallRecord.__slots__},
            "direction": Direction(fields["direction"]),
            "outcome": Outcome.parse(fields["outcome"]),
            "usage": Usage(**fields["usage"]),
            "transcript": tuple(Line(**line) for line in fields["transcript"]),
            "live_faults": (),
            "metered": metered_from_json(fields["metered"]) if "metered" in fields else Metered(),
        }
    )


def metered_to_json(metered: Metered) -> Json:
    """What was metered, as JSON."""
    return _fields(metered) | {
        "usage_by_model": {model: _fields(usage) for model, usage in metered.usage_by_model.items()},
        "tool_calls": dict(metered.tool_calls),
    }


def metered_from_json(fields: Mapping[str, Any]) -> Metered:
    """Read back what `metered_to_json` wrote."""
    return Metered(
        **{**fields, "usage_by_model": {model: Usage(**usage) for model, usage in fields["usage_by_model"].items()}}
    )


def _fields(message: Any) -> Json:
    """`dataclasses.asdict` copies deeply, which takes as long as everything else in an admission."""
    return {name: getattr(message, name) for name in message.__slots__}
