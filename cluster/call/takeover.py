"""Where a call stands when a process gets it: at its beginning, or where another process left it. Pure.

Rules of this file:
1. A checkpoint has what was heard, not what was generated: what the next process says begins after that.
2. A caller who has heard nothing of the agent yet is greeted; everybody else never again.
3. What nobody can know (words spoken to a process that is gone) is asked for, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.call.states import Leg, Phase
from cluster.call.timers import TAIL_S, Timer, Timers
from cluster.messages import Checkpoint
from cluster.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.call.core import CallCore
    from cluster.messages import Metered

SETUP_LIMIT_S: Final = 45.0
"""Longest wait for both ends of an inbound call; LiveKit's own ringing limit is longer, a caller's patience is not."""
MAX_LINES: Final = 400
"""Twenty minutes of lively talk, some 30 kB; what was said before that is in the call's events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a process finds the call. Times are its own monotonic seconds."""

    began_at: float
    answered_at: float | None
    leg: Leg
    phase: Phase
    timers: Timers
    ending: Outcome | None


def start(at: Checkpoint, max_duration_s: float, now: float) -> Start:
    """The call as `at` left it; an empty checkpoint is that of a call that begins."""
    began_at = now - at.age_s
    answered_at = None if at.answered_s is None else began_at + at.answered_s
    is_under_way = answered_at is not None and bool(at.transcript or at.tools)
    phase = Phase(at.phase) if is_under_way else Phase.SETTING_UP
    timers = Timers(Timer.SETUP, now + SETUP_LIMIT_S)
    if answered_at is not None and is_under_way:
        timers.talk(answered_at, max_duration_s)
        if phase is not Phase.TALKING:
            timers.wrap_up(now)
        if phase is Phase.CLOSING and not at.agent_is_cut:
            timers.start(Timer.TAIL, now + TAIL_S)
    return Start(
        began_at=began_at,
        answered_at=answered_at,
        leg=Leg(at.leg),
        phase=phase,
        timers=timers,
        ending=Outcome.parse(at.ending) if at.ending else None,
    )


def checkpoint(
    core: CallCore,
    *,
    unheard_ms: float,
    metered: Metered,
    timings_ms: Mapping[str, float],
    processes: int,
    now: float,
) -> Checkpoint:
    """The call as it stands; `unheard_ms` of the agent's voice is still queued."""
    continuity = core.desk.continuity
    lines = core.turns.so_far(unheard_ms)
    is_cut, caller_waits = core.desk.unfinished()
    return Checkpoint(
        resumption_handle=continuity.handle,
        target=continuity.target,
        transcript=lines[-MAX_LINES:],
        unknown=min(len(core.turns.since(core.turns.marked)), len(lines), MAX_LINES),
        age_s=now - core.started_at,
        answered_s=None if core.answered_at is None else core.answered_at - core.started_at,
        leg=core.leg.value,
        phase=core.phase.value,
        ending=str(core.ending) if core.ending else "",
        agent_is_cut=is_cut or unheard_ms > 0,
        caller_waits=caller_waits,
        brief=core.prompts.brief,
        tools=core.tools.under_way(),
        metered=metered,
        timings_ms=timings_ms,
        processes=processes,
    )
