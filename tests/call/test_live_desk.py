"""What a call decides about its Live sessions, told as stories of one conversation."""

from __future__ import annotations

import pytest

from cluster.call import events as ev
from cluster.call import live_desk as d
from cluster.call.continuity import ContinuityRules
from cluster.call.faults import Fault, Stage
from cluster.call.keypad import KeypadRules
from cluster.call.live_desk import LiveDesk
from cluster.call.prompts import Prompts
from cluster.call.states import Live
from cluster.call.turns import Turns
from cluster.messages import Line

PROMPTS = Prompts(greeting="Greet the caller.", variables={"name": "Ana"})
ABORTED = Fault(Stage.SESSION, 1006)
REFUSED = Fault(Stage.SETUP, 1008, "Requested entity was not found.", with_handle=True)
COUGH_S = 0.2
QUESTION = Line(who="caller", text="When do you open?", at_s=1.0)


class Talk:
    """A conversation whose first connection serves; `now` goes on by hand."""

    def __init__(self, *, speak_first: bool = False, handle: str = "h1") -> None:
        self.now = 10.0
        self.turns = Turns(started_at=0.0)
        self.desk = LiveDesk(ContinuityRules(models=("a",)), 2.5, KeypadRules(), PROMPTS, self.turns)
        self.tell(ev.CallBegins(), ev.LiveOpened(1))
        self.desk.connected(self.now, speak_first=speak_first)
        if handle:
            self.tell(ev.Resumable(handle))

    def tell(self, *events: ev.Event) -> list[ev.Effect]:
        """Something happens to a connection; returns what follows, without notes."""
        return plain([effect for event in events for effect in self.desk.handle(event, self.now)])

    def ask(self, text: str = QUESTION.text, *, transcribed: bool = True) -> list[ev.Effect]:
        """The caller says something for a second."""
        effects = self.desk.caller_spoke(self.now)
        self.now += 1.0
        if transcribed:
            self.turns.caller_text(text, self.now)
        return plain(effects + self.desk.caller_paused(self.now, self.now, agent_is_heard=False))

    def sound(self, seconds: float, *, cuts: bool = False) -> None:
        """A sound of the caller's; `cuts`: the model says meanwhile that it was interrupted."""
        self.desk.caller_spoke(self.now)
        if cuts:
            self.desk.interrupted(self.now)
        self.now += seconds
        self.desk.caller_paused(self.now, self.now, agent_is_heard=False)

    def pass_time(self, seconds: float) -> list[ev.Effect]:
        """Time passes, with every timer."""
        end, effects = self.now + seconds, []
        while (due := self.desk.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            effects += self.desk.tick(self.now, agent_is_heard=False)
        self.now = end
        return plain(effects)

    def answer(self, text: str = "At eight.") -> None:
        """The model begins its answer."""
        self.turns.agent_text(text, self.now)
        self.turns.agent_audio(500)
        self.desk.agent_audio(500, 2_000, self.now)

    def end_turn(self) -> list[ev.Effect]:
        """The model's turn is complete."""
        self.turns.close()
        return plain(self.desk.turn_done(self.now))


def plain(effects: list[ev.Effect]) -> list[ev.Effect]:
    """Without notes, and what belongs to the tape."""
    return [effect for effect in effects if not isinstance(effect, ev.Note | ev.KeepTape)]


def test_a_question_that_no_answer_came_to_is_sent_again_as_it_was_spoken() -> None:
    """The connection broke while the model thought."""
    talk = Talk()
    talk.ask(transcribed=False)
    assert talk.tell(ev.LiveBroke(1, ABORTED)) == [ev.OpenLive(2, 0, "h1")]
    assert talk.tell(ev.LiveOpened(2)) == [ev.SwitchLive(2, resumed=True), ev.Replay()]
    assert talk.pass_time(2.4) == []
    assert talk.pass_time(0.2) == [ev.Prompt(PROMPTS.answer_now)]


def test_an_answer_that_was_cut_goes_on_where_it_stopped() -> None:
    """The model is told what it does not know of: the question, and its own words so far."""
    talk = Talk()
    talk.ask()
    talk.answer("We open at")
    talk.tell(ev.LiveBroke(1, ABORTED))
    switch, prompt = talk.tell(ev.LiveOpened(2))
    assert switch == ev.SwitchLive(2, resumed=True)
    assert isinstance(prompt, ev.Prompt)
    assert prompt.respond
    assert "Caller: When do you open?\nYou: We open at\n" in prompt.text
    assert "Go on exactly where you stopped" in prompt.text


def test_what_was_answered_since_the_handle_is_told_and_not_answered_again() -> None:
    """The handle is older than the last exchange."""
    talk = Talk()
    talk.ask()
    talk.answer()
    assert talk.end_turn() == [ev.Settled()]
    talk.tell(ev.LiveBroke(1, ABORTED))
    _, prompt = talk.tell(ev.LiveOpened(2))
    assert isinstance(prompt, ev.Prompt)
    assert not prompt.respond
    assert "You: At eight." in prompt.text


def test_an_answer_that_was_complete_when_the_connection_broke_is_over() -> None:
    """Its question is not sent again with the next one."""
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.tell(ev.GenerationDone(), ev.LiveBroke(1, ABORTED))
    _, settled, prompt = talk.tell(ev.LiveOpened(2))
    assert settled == ev.Settled()
    assert isinstance(prompt, ev.Prompt)
    assert not prompt.respond


def test_a_connection_that_was_prepared_before_a_turn_is_told_of_it() -> None:
    """The old one went on meanwhile, and gave a newer handle."""
    talk = Talk()
    talk.tell(ev.GoingAway(50))
    talk.ask()
    assert talk.tell(ev.LiveOpened(2)) == []
    talk.answer()
    talk.turns.close()
    talk.tell(ev.Resumable("h2"))
    _, switch, prompt, drop = talk.end_turn()
    assert (switch, drop) == (ev.SwitchLive(2, resumed=True, planned=True), ev.DropLive(1))
    assert isinstance(prompt, ev.Prompt)
    assert "You: At eight." in prompt.text


def test_a_handle_that_knows_everything_needs_no_words() -> None:
    """Nothing was said since."""
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.end_turn()
    talk.tell(ev.Resumable("h2"), ev.LiveBroke(1, ABORTED))
    assert talk.tell(ev.LiveOpened(2)) == [ev.SwitchLive(2, resumed=True)]


def test_a_fresh_session_is_told_the_call_and_everything_that_was_said() -> None:
    """The handle was refused: a planted fact is still known."""
    talk = Talk()
    talk.ask("My name is Sam.")
    talk.answer("Hello Sam.")
    talk.end_turn()
    talk.tell(ev.Resumable("h2"), ev.LiveBroke(1, ABORTED))
    assert talk.tell(ev.LiveFailed(2, REFUSED)) == [ev.OpenLive(3, 0)]
    switch, prompt = talk.tell(ev.LiveOpened(3))
    assert switch == ev.SwitchLive(3, resumed=False)
    assert isinstance(prompt, ev.Prompt)
    assert not prompt.respond
    for part in ("{name} is: Ana", "Do not greet again", "Caller: My name is Sam."):
        assert part in prompt.text


def test_a_session_that_broke_before_its_greeting_greets_anew() -> None:
    """The caller has heard nothing yet."""
    talk = Talk(speak_first=True, handle="")
    talk.tell(ev.LiveBroke(1, ABORTED))
    _, prompt = talk.tell(ev.LiveOpened(2))
    assert isinstance(prompt, ev.Prompt)
    assert prompt.respond


def test_a_session_that_broke_while_it_rang_is_replaced_without_a_word() -> None:
    """The opening is said once the phone is answered."""
    desk = LiveDesk(ContinuityRules(models=("a",)), 2.5, KeypadRules(), PROMPTS, Turns(started_at=0.0))
    desk.handle(ev.CallBegins(), 0.0)
    desk.handle(ev.LiveOpened(1), 0.1)
    assert plain(desk.handle(ev.LiveBroke(1, ABORTED), 1.0)) == [ev.OpenLive(2, 0)]
    assert plain(desk.handle(ev.LiveOpened(2), 1.25)) == [ev.SwitchLive(2, resumed=False, gap_s=0.25)]


def test_whoever_waits_for_an_answer_hears_a_filler() -> None:
    """Once; and not when nobody waits."""
    talk = Talk()
    talk.ask()
    talk.tell(ev.LiveBroke(1, ABORTED))
    assert talk.pass_time(d.FILLER_AFTER_S) == [ev.SayFiller()]
    talk = Talk()
    talk.tell(ev.LiveBroke(1, ABORTED))
    assert talk.pass_time(d.FILLER_AFTER_S) == []


def test_silence_is_cured_step_by_step() -> None:
    """Nudge, resume, start afresh twice, give up."""
    talk = Talk()
    talk.ask(transcribed=False)
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]
    assert talk.pass_time(2.5) == [ev.DropLive(1), ev.OpenLive(2, 0, "h1")]
    talk.tell(ev.LiveOpened(2))
    assert talk.pass_time(2.5) == [ev.DropLive(2), ev.OpenLive(3, 0)]
    talk.tell(ev.LiveOpened(3))
    assert talk.pass_time(2.5) == [ev.DropLive(3), ev.OpenLive(4, 0)]
    talk.tell(ev.LiveOpened(4))
    assert talk.pass_time(2.5) == [ev.LiveGone("mute")]
    assert talk.desk.deadline() is None


def test_a_turn_without_a_word_is_noticed_at_once() -> None:
    """`turnComplete`, and nothing was said."""
    talk = Talk()
    talk.ask()
    assert talk.end_turn() == [ev.Prompt(PROMPTS.answer_now)]


def test_an_answer_of_near_silence_is_taken_off_the_line() -> None:
    """A full-length answer with nothing in it."""
    talk = Talk()
    talk.ask()
    assert plain(talk.desk.agent_audio(500, 2.0, talk.now)) == []
    assert plain(talk.desk.agent_audio(600, 2.0, talk.now)) == [ev.Silence(), ev.Prompt(PROMPTS.answer_now)]


def test_an_answer_that_breaks_off_is_owed() -> None:
    """All that came was heard, and the model has not said that it was all."""
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.desk.drained(talk.now)
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]
    talk.answer()
    talk.tell(ev.GenerationDone())
    talk.desk.drained(talk.now)
    assert talk.pass_time(9) == []


def test_a_sign_of_attention_and_a_cough_ask_for_nothing() -> None:
    """A murmur over a talking agent; a click in silence."""
    talk = Talk()
    talk.desk.caller_spoke(talk.now)
    talk.desk.caller_paused(talk.now + 1.0, talk.now + 1.0, agent_is_heard=True)
    talk.desk.caller_spoke(talk.now)
    talk.desk.caller_paused(talk.now + 0.2, talk.now + 0.2, agent_is_heard=False)
    assert talk.pass_time(9) == []


def test_a_cough_does_not_excuse_the_agent_from_an_answer() -> None:
    """It came while the model thought about the caller's question."""
    talk = Talk()
    talk.ask()
    talk.sound(COUGH_S)
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]


@pytest.mark.parametrize("told_late", [False, True])
def test_an_agent_that_a_cough_cut_off_goes_on(*, told_late: bool) -> None:
    """The model waits for words that do not come; whether it says so during the cough or after it."""
    talk = Talk()
    talk.answer()
    talk.sound(COUGH_S, cuts=not told_late)
    if told_late:
        talk.desk.interrupted(talk.now)
    assert talk.end_turn() == []
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]
    talk.answer()
    assert talk.end_turn() == [ev.Settled()]
    assert talk.pass_time(9) == []


def test_a_caller_too_soft_for_our_ear_is_owed_an_answer() -> None:
    """The model understood something."""
    talk = Talk()
    talk.desk.caller_text(talk.now, agent_is_heard=False)
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]


def test_the_end_of_an_interrupted_turn_is_no_answer() -> None:
    """The caller spoke over the agent, and is owed one still."""
    talk = Talk()
    talk.answer()
    talk.sound(1.0, cuts=True)
    assert talk.end_turn() == []
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]


def test_a_sentence_that_is_cut_twice_is_asked_for_twice() -> None:
    """The connection that was to finish it broke before a word of that was heard."""
    talk = Talk()
    talk.ask()
    talk.answer()
    for connection in (1, 2, 3):
        talk.tell(ev.LiveBroke(connection, ABORTED))
        (prompt,) = [e for e in talk.tell(ev.LiveOpened(connection + 1)) if isinstance(e, ev.Prompt)]
        assert "Go on exactly where you stopped" in prompt.text
        assert prompt.respond
    talk.answer()
    talk.end_turn()
    talk.tell(ev.LiveBroke(4, ABORTED))
    assert not any(isinstance(e, ev.Prompt) and e.respond for e in talk.tell(ev.LiveOpened(5)))


def test_whoever_speaks_after_a_cut_sentence_is_not_told_the_rest_of_it() -> None:
    """They have heard enough of it."""
    talk = Talk()
    talk.ask()
    talk.answer()
    talk.tell(ev.LiveBroke(1, ABORTED), ev.LiveOpened(2))
    talk.desk.caller_spoke(talk.now)
    effects = talk.tell(ev.LiveBroke(2, ABORTED), ev.LiveOpened(3))
    assert ev.Replay() in effects
    assert not any(isinstance(e, ev.Prompt) and e.respond for e in effects)


def test_an_answer_that_is_owed_is_asked_for_on_the_next_connection() -> None:
    """Where the question can't be sent again as it was spoken."""
    talk = Talk()
    talk.desk.tools(1, talk.now)
    talk.desk.tools(0, talk.now)
    talk.tell(ev.LiveBroke(1, ABORTED))
    (prompt,) = [e for e in talk.tell(ev.LiveOpened(2)) if isinstance(e, ev.Prompt)]
    assert "waiting for your answer" in prompt.text
    assert prompt.respond


def test_a_question_is_not_sent_again_with_the_one_before_it() -> None:
    """Its answer has begun; two questions in a row without one are kept both."""
    talk = Talk()
    keep_both, keep_one = ev.KeepTape(anew=False), ev.KeepTape(anew=True)
    assert talk.desk.caller_spoke(talk.now) == [keep_both]
    talk.desk.caller_paused(talk.now + 1.0, talk.now + 1.0, agent_is_heard=False)
    assert talk.desk.caller_spoke(talk.now + 2.0) == [keep_both]
    talk.desk.agent_audio(500, 0.0, talk.now + 3.0)
    talk.answer()
    talk.tell(ev.LiveBroke(1, ABORTED), ev.LiveOpened(2))
    assert talk.desk.caller_spoke(talk.now + 5.0) == [keep_one]


def test_a_turn_that_ends_while_the_caller_speaks_settles_nothing() -> None:
    """What is being said is not answered yet."""
    talk = Talk()
    talk.answer()
    talk.desk.caller_spoke(talk.now)
    assert talk.end_turn() == []


def test_while_a_tool_runs_nothing_is_owed() -> None:
    """And when it is done, the answer is."""
    talk = Talk()
    talk.ask()
    talk.desk.tools(1, talk.now)
    assert talk.pass_time(9) == []
    talk.desk.caller_text(talk.now, agent_is_heard=False)
    assert talk.pass_time(9) == []
    talk.desk.tools(0, talk.now)
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]


def test_a_goaway_is_followed_between_two_turns() -> None:
    """The old connection gives the answer that it owes."""
    talk = Talk()
    talk.ask()
    assert talk.tell(ev.GoingAway(50)) == []
    talk.answer()
    assert talk.end_turn() == [ev.Settled(), ev.OpenLive(2, 0, "h1")]
    assert talk.desk.continuity.state is Live.ROTATING


def test_after_the_end_nothing_is_repaired() -> None:
    """The goodbye is on its way."""
    talk = Talk()
    talk.desk.stop()
    assert talk.tell(ev.LiveBroke(1, ABORTED), ev.GoingAway(1)) == []
    assert talk.desk.tick(99.0, agent_is_heard=False) == []
    assert talk.desk.turn_done(99.0) == [ev.Settled()]


def test_events_of_others_are_none_of_the_desks() -> None:
    """The core hears everything."""
    assert Talk().tell(ev.PhoneRinging()) == []


def test_what_the_caller_enters_is_told_as_a_whole() -> None:
    """As a turn of the caller's, who waits for the answer."""
    talk = Talk()
    assert talk.tell(ev.KeyPressed("4"), ev.KeyPressed("2")) == []
    assert talk.pass_time(1.9) == []
    assert talk.pass_time(0.1) == [ev.Prompt(PROMPTS.entered("42"))]
    assert "4 2" in PROMPTS.entered("42")
    assert [(line.who, line.text) for line in talk.turns.everything()] == [("caller", "[42]")]
    assert talk.pass_time(2.5) == [ev.Prompt(PROMPTS.answer_now)]


def test_what_is_entered_while_nobody_serves_is_told_to_who_serves_next() -> None:
    """Once: it is no part of what was said before."""
    talk = Talk()
    talk.tell(ev.LiveBroke(1, ABORTED), ev.KeyPressed("7"), ev.KeyPressed("#"))
    assert talk.desk.continuity.state is Live.RESUMING
    talk.pass_time(1.0)
    told = talk.tell(ev.LiveOpened(2)) + talk.pass_time(0.0)
    assert told.count(ev.Prompt(PROMPTS.entered("7"))) == 1


def test_keys_before_and_after_the_conversation_are_nobodys() -> None:
    """The phone rings, or the goodbye was said."""
    desk = LiveDesk(ContinuityRules(models=("a",)), 2.5, KeypadRules(), PROMPTS, Turns(started_at=0.0))
    for event in (ev.CallBegins(), ev.LiveOpened(1), ev.KeyPressed("#")):
        assert not [effect for effect in desk.handle(event, 10.0) if isinstance(effect, ev.Prompt)]
    talk = Talk()
    talk.desk.stop()
    assert talk.tell(ev.KeyPressed("#")) == talk.pass_time(5.0) == []
