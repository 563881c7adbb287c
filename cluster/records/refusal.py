"""The record of a call that was never begun. Pure."""

from __future__ import annotations

from cluster.messages import CallRecord, CallRequest, Usage
from cluster.outcome import Outcome


def refusal(request: CallRequest, outcome: Outcome, detail: str, *, asked_at: float, ended_at: float) -> CallRecord:
    """Why nothing came of a request. Both times are UTC seconds; `detail` holds no personal data."""
    return CallRecord(
        call_id=request.call_id,
        request_id=request.request_id,
        tenant=request.tenant,
        direction=request.direction,
        profile=request.profile,
        model="",
        room=request.room,
        slot="",
        node="",
        outcome=outcome,
        started_at=asked_at,
        answered_s=None,
        duration_s=round(max(0.0, ended_at - asked_at), 3),
        talk_s=0.0,
        cost_usd_micros=0,
        usage=Usage(),
        timings_ms={},
        quality={},
        to=request.to,
        from_=request.from_,
        detail=detail,
    )
