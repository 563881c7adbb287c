"""One phone call as a machine: events in, effects out, time passed in.

Rules of this file:
1. It decides and does nothing: the shell (`cluster.call.call`) carries out every effect at once and in order.
2. `now` is any clock in seconds that does not jump; `deadline()` says when `tick` wants to be called.
3. An event that the state tables do not have raises `IllegalTransition` and changes nothing. A leg that ended stays
   ended: what arrives after `Finish` is ignored, since a network has always something in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call import rules as limits
from cluster.call.floor import Floor
from cluster.call.live_desk import LiveDesk
from cluster.call.prompts import Prompts
from cluster.call.rules import Patience, Rules
from cluster.call.states import LEG, PHASE, Leg, LegEvent, Live, Phase, PhaseEvent
from cluster.call.takeover import start
from cluster.call.timers import TAIL_S, Timer
from cluster.call.tools import ToolDesk
from cluster.call.turns import Turns
from cluster.machine import step
from cluster.messages import Checkpoint, Line
from cluster.outcome import Outcome
from cluster.tools import END_CALL, TRANSFER_CALL


class CallCore:
    """The decisions of one call."""

    def __init__(self, rules: Rules, prompts: Prompts, now: float, takeover: Checkpoint | None = None) -> None:
        """`takeover` is where another process left the call."""
        self._rules = rules
        self.prompts = prompts
        at = start(takeover or Checkpoint(), rules.max_duration_s, now)
        self.started_at, self.answered_at = at.began_at, at.answered_at
        self.leg, self.phase, self.ending = at.leg, at.phase, at.ending
        self.turns = Turns(started_at=at.began_at)
        self.desk = LiveDesk(rules.live, rules.answer_within_s, rules.keypad, prompts, self.turns)
        self.tools = ToolDesk(rules.toolboxes[0])
        self.floor = Floor()
        self.detail = ""
        self._timers = at.timers
        self._effects: list[ev.Effect] = []
        self._goodbye_done = self._line_is_wanted = self._turn_is_cut = False
        self._patience = Patience(rules)
        self._was_connected = at.phase is not Phase.SETTING_UP
        if takeover is not None:
            self._restore(takeover, now)

    def handle(self, event: ev.Event, now: float) -> list[ev.Effect]:
        """What follows from `event`, in the order in which it is to be done."""
        if self.phase is Phase.OVER:
            return []
        self._REACTIONS[type(event)](self, event, now)
        return self._drain()

    def deadline(self) -> float | None:
        """When `tick` is due next, or None."""
        if self.phase is Phase.OVER:
            return None
        dues = [self._timers.deadline(), self.desk.deadline(), self.tools.deadline()]
        return min((due for due in dues if due is not None), default=None)

    def tick(self, now: float) -> list[ev.Effect]:
        """Fire every timer that is due at `now`."""
        while (timer := self._timers.take_due(now)) is not None:
            self._TIMEOUTS[timer](self, now)
        if self.phase is not Phase.OVER:
            self._follow(self.desk.tick(now, agent_is_heard=self.floor.agent_speaking), now)
            self._run_tools(self.tools.tick(now, quiet=self.phase is Phase.TALKING and self.floor.is_free), now)
        return self._drain()

    def _restore(self, at: Checkpoint, now: float) -> None:
        self.prompts.brief = self.prompts.brief or at.brief
        self.turns.restore(at.transcript, at.unknown)
        if self._was_connected:
            self._line_is_wanted = True
            self._effects.append(ev.OpenLine())
            self.desk.restore(at, speak_first=self._rules.speak_first)
            self._run_tools(self.tools.restore(at.tools, now), now)
            self._listen(now)

    def _drain(self) -> list[ev.Effect]:
        effects, self._effects = self._effects, []
        return effects

    def _note(self, kind: str, **fields: Any) -> None:
        self._effects.append(ev.Note(kind, fields))

    def _move_leg(self, event: LegEvent) -> None:
        self.leg = step(LEG, self.leg, event)
        self._note("leg", state=self.leg.value)

    def _move_phase(self, event: PhaseEvent) -> None:
        self.phase = step(PHASE, self.phase, event)
        self._note("phase", state=self.phase.value)

    # The leg.

    def _on_dialling(self, _event: ev.Event, _now: float) -> None:
        self._move_leg(LegEvent.DIAL)
        if self.desk.continuity.state is Live.READY:
            # The dial has a limit of its own, the ringing timeout.
            self._timers.stop(Timer.SETUP)

    def _on_ringing(self, _event: ev.Event, _now: float) -> None:
        if self.leg in {Leg.IDLE, Leg.DIALLING}:
            self._move_leg(LegEvent.RING)

    def _on_answered(self, _event: ev.Event, now: float) -> None:
        if self.leg is Leg.ANSWERED:
            return
        self._move_leg(LegEvent.ANSWER)
        self.answered_at = now
        self._connect(now)

    def _on_gone(self, event: ev.PhoneGone, now: float) -> None:
        if self.leg is Leg.ENDED:
            return
        self._move_leg(LegEvent.END)
        outcome = event.outcome
        if outcome == o.CALLER_HUNG_UP and self.answered_at is None:
            outcome = o.CALLER_LEFT_EARLY
        # A goodbye under way is how the call ended, even if the caller put the phone down first.
        self.ending = self.ending or outcome
        if self.tools.is_running(TRANSFER_CALL):
            self._timers.only(Timer.TRANSFER, now + limits.TRANSFER_NEWS_S)
        else:
            self._finish(self.ending)

    # The Live session.

    def _on_live(self, event: ev.Event, now: float) -> None:
        if isinstance(event, ev.Resumable):
            self.tools.marked(now)
        self._follow(self.desk.handle(event, now), now)

    def _follow(self, effects: list[ev.Effect], now: float) -> None:
        """Pass on what the desk wants done, and draw the conclusions."""
        for effect in effects:
            self._effects.append(effect)
            match effect:
                case ev.OpenLive(connection) | ev.SwitchLive(connection):
                    self._note("live", state=self.desk.continuity.state.value, connection=connection)
                case ev.LiveGone(why):
                    self._live_is_gone(why, now)
                case ev.Silence():
                    self.floor.agent_speaking = False
                case ev.Settled() | ev.KeepTape(anew=True):
                    self.tools.settled()
            if isinstance(effect, ev.Settled):
                self._add_lines(self.turns.close())
            if isinstance(effect, ev.SwitchLive):
                self._serve(effect, now)

    def _serve(self, switch: ev.SwitchLive, now: float) -> None:
        """A connection serves: the first one opens the line, a later one does not know of what is under way."""
        self.tools.toolbox = self._rules.toolboxes[switch.target]
        self._turn_is_cut = False
        if not self._line_is_wanted:
            self._line_is_wanted = True
            self._effects.append(ev.OpenLine())
        if self._was_connected:
            self._effects += self.tools.reconnected(now, resumed=switch.resumed)
            if self.phase is Phase.WRAPPING_UP and not self._goodbye_done:
                self._effects.append(ev.Prompt(self.prompts.time_is_up))
        self._connect(now)

    def _live_is_gone(self, why: str, now: float) -> None:
        outcome = o.LIVE_LOST if self._was_connected else o.LIVE_UNREACHABLE
        self.detail = f"the Live session could not be {'kept' if self._was_connected else 'opened'}: {why}"
        self._note("live", state=Live.GONE.value)
        self.desk.stop()
        # A call that was closing when its process died has only lost its last words.
        if self.phase is Phase.CLOSING or (self.leg in {Leg.IDLE, Leg.DIALLING} and not self._rules.inbound):
            self._finish(self.ending or outcome)
            return
        self._move_phase(PhaseEvent.CLOSE)
        self.ending = outcome
        self.floor.agent_speaking = True
        self._goodbye_done = True
        self._effects.append(ev.SayUnavailable())
        self._timers.only(Timer.GOODBYE, now + limits.GOODBYE_LIMIT_S)

    def _connect(self, now: float) -> None:
        if self.leg is not Leg.ANSWERED or not self.desk.continuity.serves or self.phase is not Phase.SETTING_UP:
            return
        self._was_connected = True
        self._move_phase(PhaseEvent.CONNECTED)
        self._timers.talk(now, self._rules.max_duration_s)
        self._effects.append(ev.Prompt(self.prompts.opening(), respond=self._rules.speak_first))
        self.desk.connected(now, speak_first=self._rules.speak_first)
        if not self._rules.speak_first:
            self._listen(now)

    # Speech.

    def _on_agent_audio(self, event: ev.AgentAudio, now: float) -> None:
        if self._turn_is_cut:
            self._effects.append(ev.Silence())
            return
        self.turns.agent_audio(event.ms)
        self._follow(self.desk.agent_audio(event.ms, event.rms, now), now)
        self._timers.stop(Timer.IDLE, Timer.TAIL)
        self._effects += self.floor.agent_began(now, self.answered_at)

    def _on_drained(self, _event: ev.Event, now: float) -> None:
        self.floor.agent_speaking = False
        self._follow(self.desk.drained(now), now)
        if self.phase is Phase.CLOSING:
            self._hang_up_soon(now)
        elif self.phase is Phase.WRAPPING_UP and self._goodbye_done:
            self._close(self.ending or o.AGENT_ENDED, now)
        elif not self.floor.caller_speaking:
            self._listen(now)

    def _on_agent_text(self, event: ev.AgentText, now: float) -> None:
        if not self._turn_is_cut:
            self.turns.agent_text(event.text, now)
            self._note("speaking", who="agent", text=event.text)

    def _on_caller_text(self, event: ev.CallerText, now: float) -> None:
        self.turns.caller_text(event.text, now)
        self._note("speaking", who="caller", text=event.text)
        self._caller_active()
        self.desk.caller_text(now, agent_is_heard=self.floor.agent_speaking)

    def _on_interrupted(self, event: ev.Interrupted, now: float) -> None:
        self._note("interrupted", unheard_ms=round(event.unheard_ms))
        self._effects += self.floor.agent_was_cut(now)
        self._add_lines(self.turns.cut(event.unheard_ms))
        self._follow(self.desk.interrupted(now), now)
        if self.phase is Phase.CLOSING:
            self._timers.start(Timer.TAIL, now + limits.AFTER_TOOL_QUIET_S)

    def _on_turn_done(self, _event: ev.Event, now: float) -> None:
        self._turn_is_cut = False
        self._add_lines(self.turns.close())
        self._follow(self.desk.turn_done(now), now)
        if self.phase in {Phase.WRAPPING_UP, Phase.CLOSING}:
            self._goodbye_done = True
            if not self.floor.agent_speaking:
                self._on_drained(_event, now)

    def _add_lines(self, lines: list[Line]) -> None:
        for line in lines:
            self._note("line", who=line.who, text=line.text, heard=line.heard)

    def _on_caller_spoke(self, _event: ev.Event, now: float) -> None:
        self.floor.caller_began(now)
        self._caller_active()
        if self._rules.backchannels and self.floor.agent_speaking:
            self._timers.start(Timer.BARGE_IN, now + limits.BACKCHANNEL_S)
        self._follow(self.desk.caller_spoke(now), now)

    def _on_key(self, event: ev.KeyPressed, now: float) -> None:
        self._caller_active()
        self._on_live(event, now)

    def _on_caller_paused(self, event: ev.CallerPaused, now: float) -> None:
        ended_at = now - event.ago_s
        self._timers.stop(Timer.BARGE_IN)
        self.floor.caller_ended(ended_at)
        self._follow(self.desk.caller_paused(ended_at, now, agent_is_heard=self.floor.agent_speaking), now)
        if not self.floor.agent_speaking and self.phase is Phase.TALKING:
            self._listen(ended_at)

    def _caller_active(self) -> None:
        self._timers.stop(Timer.IDLE)
        self._patience.renew()

    def _listen(self, now: float) -> None:
        if self.phase is Phase.TALKING:
            self._timers.start(Timer.IDLE, now + self._rules.idle_reminder_s)

    # Endings.

    def _on_tool(self, event: ev.ToolCalled, now: float) -> None:
        self._run_tools(self.tools.called(event, now), now, called=True)
        ends = event.name == END_CALL and self.tools.has(END_CALL)
        if ends and self.phase in {Phase.TALKING, Phase.WRAPPING_UP}:
            self._close(self.ending or o.AGENT_ENDED, now)

    def _run_tools(self, effects: list[ev.Effect], now: float, *, called: bool = False) -> None:
        self._effects += effects
        self._follow(self.desk.tools(self.tools.running, now, called=called), now)

    def _on_tool_cancelled(self, event: ev.ToolCancelled, now: float) -> None:
        self._run_tools(self.tools.cancelled(event.ids), now)

    def _on_tool_finished(self, event: ev.ToolFinished, now: float) -> None:
        self._run_tools(self.tools.finished(event.id, event.response, now), now)
        waited_for = self.leg is Leg.ENDED and not self.tools.is_running(TRANSFER_CALL)
        if event.outcome is not None or waited_for:
            self._finish(event.outcome or self.ending or o.UNKNOWN)

    def _on_hang_up(self, event: ev.HangUp, _now: float) -> None:
        self._finish(event.outcome)

    def _on_wind_down(self, event: ev.WindDown, now: float) -> None:
        if self.phase is Phase.SETTING_UP:
            self._finish(event.outcome)
        elif self.phase is Phase.TALKING:
            self._wrap_up(event.outcome, self.prompts.time_is_up, now)

    def _on_be_brief(self, _event: ev.Event, _now: float) -> None:
        if not self.prompts.brief:
            self.prompts.brief = True
            self._effects += [ev.Prompt(self.prompts.be_brief, respond=False)] if self._was_connected else []

    def _wrap_up(self, outcome: Outcome, text: str, now: float) -> None:
        self._move_phase(PhaseEvent.WRAP_UP)
        self.ending = outcome
        self._goodbye_done = False
        self._effects.append(ev.Prompt(text))
        self._timers.wrap_up(now)

    def _close(self, outcome: Outcome, now: float) -> None:
        self._move_phase(PhaseEvent.CLOSE)
        self.ending = outcome
        self.desk.stop()
        self._timers.only(Timer.GOODBYE, now + limits.GOODBYE_LIMIT_S)
        if not self.floor.agent_speaking:
            self._hang_up_soon(now)

    def _hang_up_soon(self, now: float) -> None:
        self._timers.start(Timer.TAIL, now + (TAIL_S if self._goodbye_done else limits.AFTER_TOOL_QUIET_S))

    def _finish(self, outcome: Outcome) -> None:
        self._add_lines(self.turns.close())
        self._move_phase(PhaseEvent.FINISH)
        self._timers.clear()
        self._effects.append(ev.Finish(outcome))

    # Timers.

    def _caller_takes_the_floor(self, _now: float) -> None:
        """The model does not know that it was interrupted: the rest of its turn is not played."""
        if self.floor.agent_speaking:
            self._turn_is_cut = True
            self._effects.append(ev.StopAgent())

    def _setup_took_too_long(self, now: float) -> None:
        if self.desk.continuity.state in {Live.CONNECTING, Live.RESUMING}:
            self._live_is_gone("not set up in time", now)
        else:
            self._finish(o.CALLER_LEFT_EARLY)

    def _time_is_nearly_up(self, now: float) -> None:
        self._wrap_up(o.MAX_DURATION, self.prompts.time_is_up, now)

    def _quiet_for_too_long(self, now: float) -> None:
        if self.desk.continuity.state is Live.RESUMING or self.tools.running:
            self._listen(now)
        elif self._patience.runs_out():
            self._wrap_up(o.SILENCE, self.prompts.nobody_there, now)
        else:
            self._note("idle", reminder=self._patience.reminders)
            self._effects.append(ev.Prompt(self.prompts.still_there))
            self._listen(now)

    def _end_now(self, _now: float) -> None:
        self._finish(self.ending or o.MAX_DURATION)

    _REACTIONS: ClassVar[Mapping[type, Callable[[CallCore, Any, float], None]]] = {
        ev.Dialling: _on_dialling,
        ev.PhoneRinging: _on_ringing,
        ev.PhoneAnswered: _on_answered,
        ev.PhoneGone: _on_gone,
        **dict.fromkeys(ev.LIVE_EVENTS, _on_live),
        ev.AgentAudio: _on_agent_audio,
        ev.PlayoutDrained: _on_drained,
        ev.AgentText: _on_agent_text,
        ev.CallerText: _on_caller_text,
        ev.Interrupted: _on_interrupted,
        ev.TurnDone: _on_turn_done,
        ev.ToolCalled: _on_tool,
        ev.ToolCancelled: _on_tool_cancelled,
        ev.ToolFinished: _on_tool_finished,
        ev.CallerSpoke: _on_caller_spoke,
        ev.CallerPaused: _on_caller_paused,
        ev.KeyPressed: _on_key,
        ev.HangUp: _on_hang_up,
        ev.WindDown: _on_wind_down,
        ev.BeBrief: _on_be_brief,
    }

    _TIMEOUTS: ClassVar[Mapping[Timer, Callable[[CallCore, float], None]]] = {
        Timer.SETUP: _setup_took_too_long,
        Timer.WRAP_UP: _time_is_nearly_up,
        Timer.IDLE: _quiet_for_too_long,
        Timer.BARGE_IN: _caller_takes_the_floor,
        **dict.fromkeys((Timer.HARD_END, Timer.GOODBYE, Timer.TAIL, Timer.TRANSFER), _end_now),
    }
