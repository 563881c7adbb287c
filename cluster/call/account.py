"""What a call adds up: tokens, money, times, quality, events. Pure; it ends as the call's one record."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from cluster.budget.pricing import cost_usd_micros
from cluster.call.quality import LineStats, score
from cluster.call.usage import UsageReport, add
from cluster.messages import Assignment, CallEvent, CallRecord, Checkpoint, Renewal, Usage

if TYPE_CHECKING:
    from cluster.call.core import CallCore
    from cluster.outcome import Outcome

MAX_EVENTS = 5_000
"""An hour's events of a lively call, should the history be away for that long."""
CHECKPOINT_LINES = 50
"""Enough for another process to go on with the conversation; the whole transcript is in the events already."""


class Account:
    """The books of one call. `began` and every `now` are seconds of the same monotonic clock."""

    def __init__(self, assignment: Assignment, model: str, slot: str, node: str, *, began: float) -> None:
        self.assignment = assignment
        self.timings_ms: dict[str, float] = {}
        self.recording_url = ""
        self._model = model
        self._slot = slot
        self._node = node
        self._began = began
        self._usage = Usage()
        self._events: list[CallEvent] = []
        self._lines: list[LineStats] = []

    def note(self, kind: str, now: float, **fields: Any) -> None:
        """Add an event to the timeline."""
        at_s = round(now - self._began, 3)
        self._events.append(CallEvent(call_id=self.assignment.request.call_id, kind=kind, at_s=at_s, fields=fields))

    def take_events(self) -> list[CallEvent]:
        """The events since the last taking."""
        events, self._events = self._events, []
        return events

    def put_back(self, events: list[CallEvent]) -> None:
        """Nobody took them: they come before what happened since. The newest `MAX_EVENTS` are kept."""
        self._events = (events + self._events)[-MAX_EVENTS:]

    def took(self, name: str, now: float) -> None:
        """`name` was reached, so many milliseconds after the call began."""
        self.timings_ms[name] = round((now - self._began) * 1000, 1)

    def use(self, report: UsageReport, _connection: int) -> None:
        """The Live API reported tokens."""
        self._usage = add(self._usage, report)

    def line(self, stats: LineStats) -> float:
        """A reading of the line; returns its score."""
        self._lines.append(stats)
        return score(stats)

    def usage(self, core: CallCore) -> Usage:
        """Tokens so far, with the transcripts, which the API does not report."""
        return replace(self._usage, transcript_chars=core.turns.transcript_chars)

    def cost_usd_micros(self, core: CallCore) -> int:
        """What the call has cost so far."""
        return cost_usd_micros(self.usage(core), self._model)

    def renewal(self, core: CallCore, now: float) -> Renewal:
        """The heartbeat as it stands."""
        return Renewal(
            lease_id=self.assignment.lease_id,
            fencing_token=self.assignment.fencing_token,
            usage=self.usage(core),
            cost_usd_micros=self.cost_usd_micros(core),
            talk_s=_talk_s(core, now),
            checkpoint=Checkpoint(
                resumption_handle=core.desk.continuity.handle,
                transcript=tuple(core.turns.lines[-CHECKPOINT_LINES:]),
            ),
        )

    def record(self, core: CallCore, outcome: Outcome, *, started_at: float, now: float) -> CallRecord:
        """The one row of this call."""
        request = self.assignment.request
        answered_s = None if core.answered_at is None else round(core.answered_at - self._began, 3)
        return CallRecord(
            call_id=request.call_id,
            request_id=request.request_id,
            tenant=request.tenant,
            direction=request.direction,
            profile=request.profile,
            model=self._model,
            room=request.room,
            slot=self._slot,
            node=self._node,
            outcome=outcome,
            started_at=started_at,
            answered_s=answered_s,
            duration_s=round(now - self._began, 3),
            talk_s=_talk_s(core, now),
            cost_usd_micros=self.cost_usd_micros(core),
            usage=self.usage(core),
            timings_ms=self.timings_ms | {f"{k}_p50": round(median(v), 1) for k, v in core.latencies_ms.items()},
            quality=self._quality(),
            to=request.to,
            from_=request.from_,
            transcript=tuple(core.turns.lines),
            recording_url=self.recording_url,
            detail=core.detail,
        )

    def _quality(self) -> dict[str, float]:
        if not self._lines:
            return {}
        return {
            "mos": round(fmean(score(s) for s in self._lines), 2),
            "mos_min": round(min(score(s) for s in self._lines), 2),
            "loss": round(self._lines[-1].loss, 5),
            "jitter_ms": round(fmean(s.jitter_ms for s in self._lines), 2),
            "rtt_ms": round(fmean(s.rtt_ms for s in self._lines), 2),
        }


def _talk_s(core: CallCore, now: float) -> float:
    return 0.0 if core.answered_at is None else round(now - core.answered_at, 3)
