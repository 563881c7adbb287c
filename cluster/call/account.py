"""What a call adds up: tokens, money, times, quality, events. Pure; it ends as the call's one record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from cluster.budget.pricing import charges
from cluster.call.faults import Fault, diagnose
from cluster.call.meter import LiveMeter
from cluster.call.quality import LineStats, score
from cluster.call.takeover import checkpoint
from cluster.call.usage import UsageBook, add_up
from cluster.messages import Assignment, CallEvent, CallRecord, Checkpoint, LiveFault, Metered, Renewal, Usage

if TYPE_CHECKING:
    from cluster.call.core import CallCore
    from cluster.call.live_messages import LiveMessage
    from cluster.outcome import Outcome
    from cluster.profiles import Target

MAX_EVENTS = 5_000
"""An hour's events of a lively call, should the history be away for that long."""
MAX_FAULTS = 10
"""Told with one heartbeat: twice of what opens a circuit breaker."""


class Account:
    """The books of one call. `began` and every `now` are seconds of the same monotonic clock."""

    def __init__(
        self, assignment: Assignment, model: str, slot: str, node: str, *, began: float, instructions: int = 0
    ) -> None:
        """`model` is the profile's main one; `instructions` how many tokens its instructions are."""
        before = assignment.takeover or Checkpoint()
        self.assignment = assignment
        self.timings_ms: dict[str, float] = dict(before.timings_ms)
        self.processes = before.processes + (assignment.takeover is not None)
        self._before = before.metered.usage_by_model
        self.recording_url = ""
        self.caller_number = ""  # pii
        """Of an inbound call that was asked for before anybody knew who was calling."""
        self._model = model
        self._slot = slot
        self._node = node
        self._began = began
        self._book = UsageBook(model, instructions)
        self._meters: dict[int, LiveMeter] = {}
        self._live_faults: list[LiveFault] = []
        self._live_ok = False
        self._live_model = ""
        self._events: list[CallEvent] = []
        self._lines: list[LineStats] = []
        self._tool_calls = Counter(before.metered.tool_calls)
        self._tools_ahead: Counter[str] = Counter()
        # A tool that is run again under its idempotency key is paid for once.
        self._tool_calls.subtract(run.name for run in before.tools if run.response is None)
        self.note("actor", began + before.age_s, slot=slot, node=node)

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
        """`name` was reached, so many milliseconds after the call began. A takeover's has its process's number."""
        key = name if self.processes == 1 else f"{name}_{self.processes}"
        self.timings_ms[key] = round((now - self._began) * 1000, 1)

    def live_opened(self, connection: int, target: Target, opened_at: float) -> None:
        """The call has a new Live connection. One that was parked says nothing of how its model serves now."""
        self._meters[connection] = LiveMeter(self._book, connection, target.model)
        self._live_model = str(target)
        self._live_ok = opened_at >= self._began

    def live_failed(self, target: Target, fault: Fault) -> None:
        """A Live connection could not be had, or was lost. The oldest of too many faults are forgotten."""
        diagnosis = diagnose(fault)
        told = LiveFault(model=str(target), name=diagnosis.name, blames_provider=diagnosis.blames_provider)
        self._live_faults = [*self._live_faults, told][-MAX_FAULTS:]
        self._live_ok = False

    def live_closed(self, connection: int) -> None:
        """A Live connection is gone, whoever closed it."""
        self._meters[connection].disconnected()

    def see(self, connection: int, message: LiveMessage) -> None:
        """Something came from the model; every message has to pass here, also of a connection that serves no more."""
        self._meters[connection].see(message)

    def sent(self, connection: int, seconds: float) -> None:
        """So much of the caller's audio was sent to the model."""
        self._meters[connection].sent(seconds)

    def tool_ran(self, name: str) -> None:
        """A tool was started."""
        self._tool_calls[name] += 1

    @contextmanager
    def about_to_run(self, name: str) -> Iterator[None]:
        """Meanwhile a heartbeat asks for the tool's price, and a checkpoint has it."""
        self._tools_ahead[name] += 1
        try:
            yield
        finally:
            self._tools_ahead[name] -= 1

    def line(self, stats: LineStats) -> float:
        """A reading of the line; returns its score."""
        self._lines.append(stats)
        return score(stats)

    def metered(self, core: CallCore, now: float, *, cut_off: bool = False) -> Metered:
        """What the call has to pay for so far; `cut_off`: should nothing more be reported, though it is under way."""
        return Metered(
            usage_by_model=self._by_model(cut_off=cut_off),
            line_s=_talk_s(core, now),
            room_s=round(now - self._began, 3),
            tool_calls=dict(self._tool_calls + self._tools_ahead if cut_off else self._tool_calls),
        )

    def _by_model(self, *, cut_off: bool = False) -> dict[str, Usage]:
        """What each model is paid for, with what the processes before this one used."""
        own = self._book.by_model(cut_off=cut_off)
        models = dict.fromkeys((*own, *self._before))
        return {m: add_up(part[m] for part in (self._before, own) if m in part) for m in models}

    def renewal(self, core: CallCore, unheard_ms: float, now: float) -> Renewal:
        """The heartbeat as it stands; faults are told once. `unheard_ms` of the agent's voice is still queued."""
        ok, self._live_ok = self._live_ok, False
        metered = self.metered(core, now)
        cut_off = self.metered(core, now, cut_off=True)
        by_kind, with_turn = (charges(found, self.assignment.tariff) for found in (metered, cut_off))
        return Renewal(
            lease_id=self.assignment.lease_id,
            fencing_token=self.assignment.fencing_token,
            usage=add_up(metered.usage_by_model.values()),
            cost_usd_micros=sum(by_kind.values()),
            talk_s=metered.line_s,
            metered=metered,
            charges_usd_micros=by_kind,
            running_usd_micros=max(0, sum(with_turn.values()) - sum(by_kind.values())),
            live_faults=self._take_faults(),
            live_ok=ok,
            live_model=self._live_model,
            checkpoint=checkpoint(
                core,
                unheard_ms=unheard_ms,
                metered=cut_off,
                timings_ms=self._timings(core),
                processes=self.processes,
                now=now,
            ),
        )

    def record(self, core: CallCore, outcome: Outcome, *, started_at: float, now: float) -> CallRecord:
        """The one row of this call, whose last turn is over too."""
        for meter in self._meters.values():
            meter.disconnected()
        metered = self.metered(core, now)
        by_kind = charges(metered, self.assignment.tariff)
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
            duration_s=metered.room_s,
            talk_s=metered.line_s,
            cost_usd_micros=sum(by_kind.values()),
            usage=add_up(metered.usage_by_model.values()),
            timings_ms=self._timings(core),
            quality=self._quality(),
            to=request.to,
            from_=request.from_ or self.caller_number,
            transcript=tuple(core.turns.lines),
            recording_url=self.recording_url,
            detail=core.detail,
            live_faults=self._take_faults(),
            metered=metered,
            charges_usd_micros=by_kind,
        )

    def _timings(self, core: CallCore) -> dict[str, float]:
        return self.timings_ms | {f"{k}_p50": round(median(v), 1) for k, v in core.floor.latencies_ms.items()}

    def _take_faults(self) -> tuple[LiveFault, ...]:
        faults, self._live_faults = self._live_faults, []
        return tuple(faults)

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
