"""The tools that the model calls in one call: when they run, when they count as failed, and what is said of them. Pure.

Rules of this file:
1. Every call of the model is answered exactly once per conversation that knows of it, whatever the tool does.
2. A call is one id; a run is one piece of work. Several calls share a run where the model asks twice for the same.
3. `now` is any clock in seconds that does not jump; `deadline()` says when `tick` wants to be called.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from cluster.call import events as ev
from cluster.call.prompts import say_filler, tool_result
from cluster.machine import Table, step
from cluster.messages import ToolRun
from cluster.tools import END_CALL, OPT_OUT, SCHEDULE_CALLBACK, SEND_DTMF, TRANSFER_CALL, Tool, Toolbox

Response = Mapping[str, Any]

FILLER_AFTER_S: Final = 1.5
"""Silence on the telephone that makes people ask whether anybody is there."""
SAME_CALL_S: Final = 2.0
"""The same call again so soon after its answer is a duplicate (pipecat #4118), later it is a new wish."""
LOOP_CALLS: Final = 6
LOOP_S: Final = 30.0
"""So many equal calls within this time are a loop, not a conversation."""
MAX_RUNNING: Final = 8
_NEVER_TWICE: Final = frozenset({TRANSFER_CALL, SEND_DTMF})
"""They act on the phone itself, and nobody knows how far they got."""
MAX_KEPT: Final = 64
"""Answers that are kept for a call that comes again."""
MAX_REMEMBERED: Final = 256
"""Calls that are remembered to see a loop."""
DELIVERY_S: Final = 1.0
"""A handle that comes later than this after an answer was made with it; one that crossed it was not."""

LOOP: Final = {"error": "this call was repeated too often; do not call it again, tell the caller that it does not work"}
INTERRUPTED: Final = {"error": "this was interrupted; ask the caller whether to try it again"}
TOO_MANY: Final = {"error": "too many tools are running; wait for their results"}


class Run(StrEnum):
    """Where one run of a tool stands."""

    RUNNING = "running"
    ANSWERED = "answered"
    CANCELLED = "cancelled"


class RunEvent(StrEnum):
    """What moves a run. A tool may return, and the model may change its mind, after it is too late."""

    FINISH = "finish"
    CANCEL = "cancel"


RUN: Table[Run, RunEvent] = {
    Run.RUNNING: {RunEvent.FINISH: Run.ANSWERED, RunEvent.CANCEL: Run.CANCELLED},
    Run.ANSWERED: {RunEvent.FINISH: Run.ANSWERED, RunEvent.CANCEL: Run.ANSWERED},
    Run.CANCELLED: {RunEvent.FINISH: Run.CANCELLED, RunEvent.CANCEL: Run.CANCELLED},
}


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    id: str
    tool: Tool
    args: Mapping[str, Any] = field(repr=False)  # pii
    key: str
    began: float
    calls: list[str] = field(default_factory=list)
    """The calls that it answers, the first of them first."""
    state: Run = Run.RUNNING
    due: float = 0.0
    filler_at: float | None = None
    holds: bool = False
    """The model waits for it and takes nothing else."""
    response: Response = field(default_factory=dict)
    answered_at: float = 0.0
    delivered: bool = False
    """The conversation that can be restored has the answer in it."""
    forgotten: set[str] = field(default_factory=set)
    """Calls that the conversation does not know: their answer is told as text."""
    doubtful: set[str] = field(default_factory=set)
    """Calls that it may have lost by a resumption, and has lost if it asks again."""
    open: bool = True
    """The caller's question that led to it has no whole answer yet."""
    asked_again: bool = False
    """The question is sent to the model once more, on another connection."""

    def move(self, event: RunEvent) -> bool:
        """False where it was too late."""
        before, self.state = self.state, step(RUN, self.state, event)
        return self.state is not before

    @property
    def first(self) -> str | None:
        """The first call that the conversation knows."""
        return next((call_id for call_id in self.calls if call_id not in self.forgotten), None)

    def is_twin(self, key: str, now: float) -> bool:
        """The same call now is the same wish.

        An answer that was lost on its way is asked for again, however late; so is one to a question that is sent again.
        """
        was_lost = bool(self.forgotten or self.doubtful) and not self.delivered
        is_same_wish = was_lost or self.asked_again or now - self.answered_at <= SAME_CALL_S
        is_fresh = self.state is Run.ANSWERED and is_same_wish
        return self.key == key and (self.state is Run.RUNNING or is_fresh)


class ToolDesk:
    """The tools of one call. Every method returns the effects that follow, in order."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self._runs: dict[str, _Run] = {}
        self._run_of: dict[str, _Run] = {}
        self._recent: deque[tuple[float, str]] = deque(maxlen=MAX_REMEMBERED)
        self._nameless = 0
        self._held = False

    @property
    def running(self) -> int:
        """How many tools run."""
        return len(self._active())

    @property
    def holding_audio(self) -> bool:
        """A blocking tool runs, and the model takes nothing but its result."""
        return any(run.holds for run in self._active())

    def is_running(self, name: str) -> bool:
        """Whether this tool runs."""
        return any(run.tool.name == name for run in self._active())

    def has(self, name: str) -> bool:
        """Whether the call has this tool."""
        return name in self.toolbox.tools

    def called(self, call: ev.ToolCalled, now: float) -> list[ev.Effect]:
        """The model calls a tool: run it, or answer at once."""
        if (known := self._run_of.get(call.id)) is not None:
            return [] if known.state is Run.RUNNING else [_note(known, "repeated"), *self._answer(known, [call.id])]
        run = self._run(call, call.id or self._name(), now)
        refusal = self._refusal(call, run.key, now)
        if refusal is None and (twin := self._twin(run.key, now)) is not None:
            return self._join(twin, run.id)
        self._keep(run)
        if refusal is not None:
            return self._refuse(run, refusal, now)
        if (act := _AT_ONCE.get(call.name)) is not None:
            notes, response = act(call.args)
            return [_note(run, "called"), *notes, *self._finish(run, response, now)]
        return self._start(run, now)

    def finished(self, run_id: str, response: Response, now: float) -> list[ev.Effect]:
        """A tool has returned; what comes too late is dropped."""
        run = self._runs.get(run_id)
        return [] if run is None else self._finish(run, response, now)

    def cancelled(self, ids: Iterable[str]) -> list[ev.Effect]:
        """The model takes calls back: they are not answered, and a run that answers no other call is stopped."""
        effects: list[ev.Effect] = []
        taken_back = [self._run_of.pop(call_id) for call_id in ids if call_id in self._run_of]
        for run in dict.fromkeys(taken_back):
            run.calls = [call_id for call_id in run.calls if self._run_of.get(call_id) is run]
            if run.calls or run.state is not Run.RUNNING:
                continue
            effects.append(_note(run, "cancelled"))
            run.holds, run.filler_at = False, None
            if run.tool.can_be_cancelled and run.move(RunEvent.CANCEL):
                effects.append(ev.CancelTool(run.id))
        return effects + self._hold()

    def deadline(self) -> float | None:
        """When `tick` is due next, or None."""
        runs = self._active()
        return min([*(r.due for r in runs), *(r.filler_at for r in runs if r.filler_at is not None)], default=None)

    def tick(self, now: float, *, quiet: bool) -> list[ev.Effect]:
        """End what takes too long, and fill the silence; `quiet` is whether nobody speaks."""
        effects: list[ev.Effect] = []
        for run in self._active():
            if run.due <= now:
                error = {"error": f"the tool gave no result within {run.tool.timeout_s:g} s"}
                effects += [ev.CancelTool(run.id), *self._finish(run, error, now)]
            elif run.filler_at is not None and run.filler_at <= now:
                effects += self._fill(run, now, quiet=quiet)
        return effects

    def under_way(self) -> tuple[ToolRun, ...]:
        """What the model waits for, or may not have got."""
        return tuple(
            ToolRun(
                id=run.id,
                name=run.tool.name,
                args=run.args,
                response=None if run.state is Run.RUNNING else run.response,
            )
            for run in self._runs.values()
            if run.calls and not run.delivered and run.state is not Run.CANCELLED
        )

    def restore(self, runs: Iterable[ToolRun], now: float) -> list[ev.Effect]:
        """Go on with what another process had under way: run again, under the same id, what can be repeated."""
        effects: list[ev.Effect] = []
        for known in runs:
            run = self._run(ev.ToolCalled(known.id, known.name, known.args), known.id, now)
            self._keep(run)
            self._nameless += run.id.startswith("#")
            response = INTERRUPTED if known.response is None and known.name in _NEVER_TWICE else known.response
            if response is None:
                effects += self._start(run, now)
            else:
                run.move(RunEvent.FINISH)
                run.response, run.answered_at = response, now
        return effects

    def marked(self, now: float) -> None:
        """The server gave a handle: the conversation that it restores has all but the newest answers in it."""
        for run in self._runs.values():
            if run.state is Run.ANSWERED and run.answered_at <= now - DELIVERY_S:
                run.delivered = True

    def settled(self) -> None:
        """What the caller asked so far is answered and will not be sent again: the same call is a new wish."""
        for run in self._runs.values():
            run.open, run.asked_again = False, False

    def reconnected(self, now: float, *, resumed: bool) -> list[ev.Effect]:
        """Another connection serves. What it may not know is offered again: as an answer, or as text if it is fresh."""
        effects: list[ev.Effect] = []
        for run in self._runs.values():
            run.holds = False
            run.asked_again = run.open
            (run.doubtful if resumed else run.forgotten).update(run.calls)
            if run.state is Run.ANSWERED and not run.delivered and run.calls:
                run.answered_at = now
                effects += self._answer(run, run.calls)
        return effects + self._hold()

    def _active(self) -> list[_Run]:
        return [run for run in self._runs.values() if run.state is Run.RUNNING]

    def _name(self) -> str:
        """Vertex AI may leave a call's id out."""
        self._nameless += 1
        return f"#{self._nameless}"

    def _refusal(self, call: ev.ToolCalled, key: str, now: float) -> Response | None:
        self._recent.append((now, key))
        if sum(key == other and now - at <= LOOP_S for at, other in self._recent) >= LOOP_CALLS:
            return LOOP
        if (tool := self.toolbox.tools.get(call.name)) is None:
            return {"error": f"there is no tool {call.name}"}
        if problem := tool.problem(call.args):
            return {"error": f"the arguments do not fit: {problem}"}
        return TOO_MANY if self.running >= MAX_RUNNING and self._twin(key, now) is None else None

    def _twin(self, key: str, now: float) -> _Run | None:
        return next((run for run in reversed(self._runs.values()) if run.is_twin(key, now)), None)

    def _join(self, twin: _Run, call_id: str) -> list[ev.Effect]:
        twin.forgotten |= twin.doubtful
        twin.calls.append(call_id)
        self._run_of[call_id] = twin
        return [_note(twin, "duplicate"), *(self._answer(twin, [call_id]) if twin.state is Run.ANSWERED else [])]

    def _keep(self, run: _Run) -> None:
        self._runs[run.id] = self._run_of[run.id] = run
        spare = [old for old in self._runs.values() if old.state is not Run.RUNNING][
            : max(0, len(self._runs) - MAX_KEPT)
        ]
        for old in spare:
            del self._runs[old.id]
            for call_id in old.calls:
                self._run_of.pop(call_id, None)

    def _refuse(self, run: _Run, refusal: Response, now: float) -> list[ev.Effect]:
        """It did not run, so it is nobody's twin, and after a reconnection there is nothing to tell."""
        run.key = ""
        effects = [_note(run, "refused"), *self._finish(run, refusal, now)]
        run.delivered = True
        if refusal is LOOP:
            effects.append(ev.Note("fault", {"what": "tool-loop", "name": run.tool.name}))
        return effects

    def _run(self, call: ev.ToolCalled, run_id: str, now: float) -> _Run:
        tool = self.toolbox.tools.get(call.name) or Tool(name=call.name, description="", blocking=True)
        key = f"{call.name}({json.dumps(call.args, sort_keys=True, default=str)})"
        return _Run(id=run_id, tool=tool, args=call.args, key=key, began=now, calls=[run_id], due=now + tool.timeout_s)

    def _start(self, run: _Run, now: float) -> list[ev.Effect]:
        run.filler_at = now + FILLER_AFTER_S
        run.holds = run.tool.blocking and self.toolbox.input_refused
        return [_note(run, "called"), *self._hold(), ev.RunTool(run.id, run.tool.name, run.args)]

    def _finish(self, run: _Run, response: Response, now: float) -> list[ev.Effect]:
        if not run.move(RunEvent.FINISH):
            return []
        run.response, run.answered_at = response, now
        run.holds, run.filler_at = False, None
        took_ms = round((now - run.began) * 1000)
        ended = ev.Note(
            "tool", {"name": run.tool.name, "state": "answered", "ok": "error" not in response, "ms": took_ms}
        )
        return [ended, *self._answer(run, run.calls), *self._hold()]

    def _answer(self, run: _Run, calls: list[str]) -> list[ev.Effect]:
        if calls and run.first is None:
            return [ev.Prompt(tool_result(run.tool.name, run.response), respond=not run.tool.silent)]
        return [
            ev.AnswerTool("" if call_id.startswith("#") else call_id, run.tool.name, run.response, _when(run, call_id))
            for call_id in calls
            if call_id not in run.forgotten
        ]

    def _fill(self, run: _Run, now: float, *, quiet: bool) -> list[ev.Effect]:
        says = run.tool.filler and not run.tool.blocking
        if says and not quiet:
            run.filler_at = now + FILLER_AFTER_S
            return []
        run.filler_at = None
        return [_note(run, "slow"), *([ev.Prompt(say_filler(run.tool.filler))] if says else [])]

    def _hold(self) -> list[ev.Effect]:
        """Say so where holding begins or ends."""
        before, self._held = self._held, self.holding_audio
        return [] if before == self._held else [ev.HoldInput(self._held)]


def _when(run: _Run, call_id: str) -> ev.Scheduling | None:
    """The second answer to the same question is not spoken about."""
    if run.tool.blocking:
        return None
    return "SILENT" if run.tool.silent or call_id != run.first else "WHEN_IDLE"


def _note(run: _Run, state: str) -> ev.Note:
    return ev.Note("tool", {"name": run.tool.name, "state": state})


# Tools that need nothing but the call's own timeline.


def _end_call(_args: Mapping[str, Any]) -> tuple[list[ev.Note], Response]:
    return [], {"result": "the call ends after your goodbye"}


def _opt_out(args: Mapping[str, Any]) -> tuple[list[ev.Note], Response]:
    note = ev.Note("opt-out", {"reason": args["reason"]})
    return [note], {"result": "noted: this person will not be called again"}


def _schedule_callback(args: Mapping[str, Any]) -> tuple[list[ev.Note], Response]:
    note = ev.Note("callback", {"time": args["time"], "at": _iso(args["time"]), "reason": args["reason"]})
    return [note], {"result": "noted: somebody will call back"}


def _iso(text: str) -> str:
    """The same in ISO 8601; empty where it is not a date and a time."""
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return ""


_AT_ONCE: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[list[ev.Note], Response]]]] = {
    END_CALL: _end_call,
    OPT_OUT: _opt_out,
    SCHEDULE_CALLBACK: _schedule_callback,
}
