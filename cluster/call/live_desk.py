"""What a call decides about its Live sessions: which one serves, what it must be told, and when it is too silent.

Rules of this file:
1. It joins `Continuity` (the connections) and `StallWatch` (the silences) with what is known of the conversation.
2. A resumed connection knows everything up to its handle, a fresh one nothing: what is missing is sent as text where
   it was transcribed and answered, and as the caller's own audio where it was not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cluster.call import events as ev
from cluster.call.continuity import Continuity, ContinuityRules, Moment
from cluster.call.keypad import Keypad, KeypadRules
from cluster.call.prompts import Prompts, Then
from cluster.call.stalls import Cure, StallWatch
from cluster.call.states import Live
from cluster.call.turns import Turns
from cluster.messages import Checkpoint

FILLER_AFTER_S: Final = 0.9
"""A pause that long is noticed, a shorter one passes for thinking."""
MIN_SPEECH_S: Final = 0.4
"""A shorter sound is a cough or a click, and needs no answer."""


class _Reply(StrEnum):
    """The agent's turn."""

    NONE = "none"
    COMING = "coming"
    GENERATED = "generated"
    """All of it was sent; the server waits until it has been heard."""


class LiveDesk:
    """The Live side of one call. Every method returns the effects that follow."""

    def __init__(
        self, rules: ContinuityRules, answer_within_s: float, keypad: KeypadRules, prompts: Prompts, turns: Turns
    ) -> None:
        self.continuity = Continuity(rules)
        self._keypad = Keypad(keypad)
        self._stalls = StallWatch(answer_within_s)
        self._prompts = prompts
        self._turns = turns
        self._reply = _Reply.NONE
        self._talking = False
        self._stopped = False
        self._speak_first = False
        self._served = False
        self._knows = 0
        """How many lines of the transcript the handle of the next connection covers."""
        self._unanswered = False
        self._answered = False
        """The agent was heard since the caller last began to speak."""
        self._cut = False
        """The agent was cut off, and nothing was heard of it since."""
        self._was_owed = False
        """Something was owed when the connection broke."""
        self._lost_words = False
        """The caller spoke to a process that is gone, and nobody has the sound."""
        self._caller_since: float | None = None
        self._left_off = False
        """The agent owed a word when the caller's sound began, or was cut off by it."""
        self._interrupted = False
        self._tools = 0
        self._acted = False
        """The model called a tool in this turn, which is an answer of its own."""
        self._filler_at: float | None = None

    def handle(self, event: ev.Event, now: float) -> list[ev.Effect]:
        """Something happened to a connection, or to what is sent on it."""
        if self._stopped:
            return []
        if isinstance(event, ev.Resumable):
            self._turns.mark()
        elif isinstance(event, ev.GenerationDone):
            self._reply = _Reply.GENERATED
        elif isinstance(event, ev.KeyPressed):
            self._keypad.press(event.key, now)
        return self._follow(self._plan(event, now), now) + self._enter(now)

    def _plan(self, event: ev.Event, now: float) -> list[ev.Effect]:
        plan = self.continuity
        match event:
            case ev.CallBegins():
                return plan.begin(now)
            case ev.LiveOpened(connection, age_s):
                return plan.opened(connection, age_s, now)
            case ev.LiveFailed(connection, fault):
                return [self._fault(fault, connection), *plan.failed(connection, fault, now)]
            case ev.LiveBroke(connection, fault):
                return [self._fault(fault, connection), *plan.broke(connection, fault, now)]
            case ev.GoingAway(time_left_s):
                note = ev.Note("live", {"state": "going-away", "time_left_s": time_left_s})
                return [note, *plan.going_away(time_left_s, now)]
            case ev.Resumable(handle):
                plan.resumable(handle)
        return []

    def unfinished(self) -> tuple[bool, bool]:
        """Whether the agent's turn is not complete, and whether the caller speaks, or waits for an answer."""
        cut = self._reply is _Reply.COMING
        return cut, self._unanswered or self._caller_since is not None or (self._stalls.owed and not cut)

    def restore(self, at: Checkpoint, *, speak_first: bool) -> None:
        """Go on with another process's conversation: the first connection has to be brought up to date."""
        self.continuity.handle, self.continuity.target = at.resumption_handle, at.target
        self._talking = self._served = True
        self._speak_first = speak_first
        # Who spoke to nobody would wait for an answer as long as the agent waits for a word.
        self._lost_words = at.caller_waits or at.is_deaf
        self._reply = _Reply.COMING if at.agent_is_cut and not at.caller_waits else _Reply.NONE

    def connected(self, now: float, *, speak_first: bool) -> None:
        """The opening prompt goes to the model."""
        self._talking, self._speak_first = True, speak_first
        if speak_first:
            self._stalls.owe(now)

    def caller_spoke(self, now: float) -> list[ev.Effect]:
        """The caller's voice began. Two questions in one piece would get the answer to one of them."""
        self._caller_since, self._cut = now, False
        self._left_off = self._stalls.owed
        self._stalls.excuse()
        answered, self._answered = self._answered, False
        return [ev.KeepTape(anew=answered), *self._turn_to(now)]

    def caller_paused(self, ended_at: float, now: float, *, agent_is_heard: bool) -> list[ev.Effect]:
        """The caller's voice ended; over a talking agent, it was a sign of attention and asks for nothing.

        Nor does a cough, but what it kept the agent from saying is owed still.
        """
        since, self._caller_since = self._caller_since, None
        if self._talking and since is not None and not agent_is_heard:
            asks = ended_at - since >= MIN_SPEECH_S
            self._unanswered = self._unanswered or asks
            if asks or self._left_off:
                self._owe(ended_at)
        return self._turn_to(now)

    def caller_text(self, now: float, *, agent_is_heard: bool) -> None:
        """The model understood something; whoever is too soft for our own ear is owed an answer, too."""
        if self._talking and self._caller_since is None and not agent_is_heard and not self._stalls.owed:
            self._owe(now)

    def agent_audio(self, ms: float, rms: float, now: float) -> list[ev.Effect]:
        """The model speaks, or sends silence."""
        self._filler_at = None
        self._reply, self._unanswered, self._cut = _Reply.COMING, False, False
        self.continuity.served()
        if self._stalls.agent_audio(ms, rms):
            return [ev.Silence(), *self._cure(now)]
        self._answered, self._left_off = True, False
        return self._turn_to(now)

    def interrupted(self, now: float) -> list[ev.Effect]:
        """Barge-in: the end of the turn that follows is no answer to the caller.

        Where nobody speaks (any more) it was a cough, or something that only the model has heard.
        """
        self._interrupted, self._reply, self._left_off = True, _Reply.NONE, True
        if self._talking and self._caller_since is None:
            self._owe(now)
        return self._turn_to(now)

    def turn_done(self, now: float) -> list[ev.Effect]:
        """The model's turn is complete."""
        was_silent = self._reply is _Reply.NONE and self._stalls.owed and not self._acted
        self._acted = self._tools > 0
        interrupted, self._interrupted, self._reply = self._interrupted, False, _Reply.NONE
        if interrupted:
            return self._turn_to(now)
        if was_silent:
            return self._cure(now)
        self._stalls.excuse()
        self._unanswered = False
        settled: list[ev.Effect] = [] if self._caller_since is not None else [ev.Settled()]
        return settled + self._turn_to(now)

    def drained(self, now: float) -> list[ev.Effect]:
        """Everything that the model sent was heard; where that was no whole answer, the rest is owed."""
        if self._reply is _Reply.COMING and self._caller_since is None:
            self._owe(now)
        return self._turn_to(now)

    def tools(self, running: int, now: float, *, called: bool = False) -> list[ev.Effect]:
        """That many tools run, and meanwhile nothing is owed; `called`: one more is wanted by the model."""
        self._acted = self._acted or called
        ended = self._tools > running == 0
        self._tools = running
        if running:
            self._stalls.excuse()
        elif ended and self._reply is _Reply.NONE:
            self._owe(now)
        return self._turn_to(now)

    def stop(self) -> None:
        """The call is ending: what breaks now may stay broken."""
        self._talking, self._stopped = False, True

    def deadline(self) -> float | None:
        """When `tick` is due next, or None."""
        if self._stopped:
            return None
        keypad = self._keypad.due if self._talking and self.continuity.serves else None
        dues = (self.continuity.deadline(), self._stalls.due, self._filler_at, keypad)
        return min((due for due in dues if due is not None), default=None)

    def tick(self, now: float, *, agent_is_heard: bool) -> list[ev.Effect]:
        """Do what is due at `now`. While the agent is still heard, nobody needs a filler."""
        if self._stopped:
            return []
        effects = self._follow(self.continuity.tick(now), now)
        if self._filler_at is not None and self._filler_at <= now:
            self._filler_at = None
            effects += [] if agent_is_heard else [ev.SayFiller()]
        if self._stalls.due is not None and self._stalls.due <= now:
            effects += self._cure(now)
        return effects + self._enter(now)

    def _enter(self, now: float) -> list[ev.Effect]:
        """Tell the model what was entered; while nobody serves, it waits."""
        if not self._talking or not self.continuity.serves or not (keys := self._keypad.take(now)):
            return []
        said = f"[{keys}]"
        self._turns.caller_text(said, now)
        self._owe(now)
        return [ev.Note("speaking", {"who": "caller", "text": said}), ev.Prompt(self._prompts.entered(keys))]

    def _moment(self) -> Moment:
        if self._reply is not _Reply.NONE or self._stalls.owed or self._tools:
            return Moment.AGENT
        return Moment.IDLE if self._caller_since is None else Moment.CALLER

    def _turn_to(self, now: float) -> list[ev.Effect]:
        return [] if self._stopped else self._follow(self.continuity.turn(self._moment(), now), now)

    def _owe(self, since: float) -> None:
        if self.continuity.serves and not self._tools:
            self._stalls.owe(since)

    def _cure(self, now: float) -> list[ev.Effect]:
        cure = self._stalls.cure(now)
        note = ev.Note("fault", {"what": "stall", "cure": cure.value})
        match cure:
            case Cure.NUDGE:
                return [note, ev.Prompt(self._prompts.answer_now)]
            case Cure.GIVE_UP:
                self.stop()
                return [note, ev.LiveGone("mute")]
            case _:
                return [note, *self._follow(self.continuity.mute(now, fresh=cure is Cure.FRESH), now)]

    def _follow(self, effects: list[ev.Effect], now: float) -> list[ev.Effect]:
        """Add to what happens to the connections what has to be said on them."""
        added: list[ev.Effect] = []
        for effect in effects:
            added.append(effect)
            if isinstance(effect, ev.OpenLive):
                self._knows = self._turns.marked
            elif isinstance(effect, ev.SwitchLive):
                added += self._bring_up_to_date(effect, now)
                self._served = True
        if self.continuity.state is Live.RESUMING and self._served and self._talking:
            self._was_owed = self._was_owed or self._stalls.owed
            self._stalls.excuse()
            somebody_waits = self._unanswered or self._was_owed or self._reply is _Reply.COMING
            if somebody_waits and self._filler_at is None:
                self._filler_at = now + FILLER_AFTER_S
        return added

    def _bring_up_to_date(self, switch: ev.SwitchLive, now: float) -> list[ev.Effect]:
        """What the new connection has missed."""
        self._filler_at = None
        if not self._served or not self._talking:
            return []
        gap_ms = round(switch.gap_s * 1000)
        note = ev.Note(
            "live", {"state": "switched", "resumed": switch.resumed, "planned": switch.planned, "gap_ms": gap_ms}
        )
        reply, self._reply, self._interrupted = self._reply, _Reply.NONE, False
        self._cut = self._cut or reply is _Reply.COMING
        replays = switch.replay and (self._unanswered or self._caller_since is not None)
        then = self._then(replays=replays)
        self._lost_words = False
        missed = self._turns.since(self._knows) if switch.resumed else self._turns.everything()
        effects: list[ev.Effect] = [note]
        if reply is _Reply.GENERATED and self._caller_since is None:
            effects.append(ev.Settled())
        if missed or then is not Then.LISTEN or not switch.resumed:
            text = self._prompts.after_gap(missed, then)
            respond = then is not Then.LISTEN or (self._speak_first and not self._turns.agent_has_spoken)
            effects.append(ev.Prompt(text if switch.resumed else self._prompts.again(text), respond=respond))
        if replays:
            effects.append(ev.Replay())
        if then is not Then.LISTEN or self._unanswered:
            self._stalls.owe(now)
        self._was_owed = False
        return effects

    def _then(self, *, replays: bool) -> Then:
        """What is asked of the model that takes over; a question that is sent again as it was spoken asks by itself."""
        if self._cut:
            return Then.GO_ON_AND_ASK if self._lost_words else Then.GO_ON
        if self._lost_words:
            return Then.SAY_AGAIN
        return Then.ANSWER if self._was_owed and not replays else Then.LISTEN

    def _fault(self, fault: object, connection: int) -> ev.Note:
        serving = connection == self.continuity.current
        return ev.Note("fault", {"what": "live", "detail": str(fault), "connection": connection, "serving": serving})
