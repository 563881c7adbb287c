"""The call machine: stories as events and the effects that follow, and a search for stories that break it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster import outcome as o
from cluster.call import core as c
from cluster.call import events as ev
from cluster.call import live_desk, rules, takeover, timers
from cluster.call.faults import Fault, Stage
from cluster.call.prompts import Prompts, say_filler
from cluster.call.rules import Rules
from cluster.call.states import Leg, Live, Phase
from cluster.machine import IllegalTransition
from cluster.models import load_models
from cluster.outcome import Outcome
from cluster.tools import HttpTool, Toolbox, toolbox

RULES = Rules(max_duration_s=600, idle_reminder_s=10, idle_reminders=2, silence_s=40, speak_first=True, inbound=True)
PROMPTS = Prompts(greeting="Greet the caller.", variables={"name": "Ana"})


def wanted(effects: list[ev.Effect]) -> list[ev.Effect]:
    """The effects other than notes and the changing of connections."""
    plumbing = (ev.Note, ev.LiveGone, ev.OpenLive, ev.SwitchLive, ev.DropLive, ev.Settled)
    return [e for e in effects if not isinstance(e, plumbing)]


def failed(connection: int = 1) -> ev.LiveFailed:
    """The endpoint will never take this request."""
    return ev.LiveFailed(connection, Fault(Stage.UPGRADE, 403))


class Story:
    """A call that is told event by event; collects what it wants done."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.now = 100.0
        self.answered: set[int] = set()
        self.core = c.CallCore(rules, PROMPTS, self.now)
        self.effects: list[ev.Effect] = self.core.handle(ev.CallBegins(), self.now)

    def tell(self, *events: ev.Event, after_s: float = 0.1) -> list[ev.Effect]:
        """The events happen, each `after_s` after the one before; returns the effects, see `wanted`."""
        start = len(self.effects)
        for event in events:
            if isinstance(event, ev.LiveOpened | ev.LiveFailed):
                self.answered.add(event.connection)
            self.pass_time(after_s)
            self.effects += self.core.handle(event, self.now)
        return wanted(self.effects[start:])

    def pass_time(self, seconds: float) -> list[ev.Effect]:
        """Time passes and every timer fires when it is due; returns the effects, see `wanted`."""
        start, end = len(self.effects), self.now + seconds
        while (due := self.core.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.effects += self.core.tick(self.now)
        self.now = end
        return wanted(self.effects[start:])

    def talking(self) -> Story:
        """Both ends are there."""
        self.tell(ev.LiveOpened(), ev.PhoneAnswered())
        return self

    @property
    def opening(self) -> int:
        """The connection that was last asked for; 0 once it has been answered."""
        asked = [e.connection for e in self.effects if isinstance(e, ev.OpenLive)]
        return asked[-1] if asked and asked[-1] not in self.answered else 0

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, if it did."""
        endings = [e.outcome for e in self.effects if isinstance(e, ev.Finish)]
        assert len(endings) <= 1
        return endings[0] if endings else None

    def notes(self, kind: str) -> list[dict[str, object]]:
        """The timeline's entries of one kind."""
        return [dict(e.fields) for e in self.effects if isinstance(e, ev.Note) and e.kind == kind]


def test_an_inbound_call_is_answered_once_the_model_is_ready_and_greeted_once_the_phone_is() -> None:
    """Publishing the track is what answers, so it waits for the Live session and nothing else."""
    story = Story()
    assert story.tell(ev.PhoneRinging()) == []
    assert story.tell(ev.LiveOpened()) == [ev.OpenLine()]
    (prompt,) = story.tell(ev.PhoneAnswered())
    assert prompt == ev.Prompt(PROMPTS.opening(), respond=True)
    assert "{name} is: Ana" in PROMPTS.opening()


def test_a_profile_that_waits_sends_the_facts_without_asking_for_speech() -> None:
    """`wait` greetings leave the first word to the caller."""
    story = Story(replace(RULES, speak_first=False))
    assert story.tell(ev.LiveOpened(), ev.PhoneAnswered())[-1] == ev.Prompt(PROMPTS.opening(), respond=False)


def test_who_presses_keys_is_there() -> None:
    """Nobody is asked whether they are, and what was entered stands in the transcript."""
    story = Story().talking()
    story.tell(ev.AgentText("Hi."), ev.AgentAudio(500), ev.TurnDone(), ev.PlayoutDrained())
    story.pass_time(9.0)
    story.tell(ev.KeyPressed("1"))
    assert story.pass_time(2.0) == [ev.Prompt(PROMPTS.entered("1"))]
    story.tell(ev.AgentText("One."), ev.AgentAudio(500), ev.TurnDone())
    assert [note["text"] for note in story.notes("line")] == ["Hi.", "[1]", "One."]


def test_an_outbound_call_that_is_busy_ends_with_the_carriers_word() -> None:
    """Nothing is said to the model, so that its session can serve another call."""
    story = Story()
    assert story.tell(ev.LiveOpened(), ev.Dialling(), ev.PhoneGone(o.BUSY)) == [ev.OpenLine(), ev.Finish(o.BUSY)]
    assert story.core.leg is Leg.ENDED


def test_the_models_goodbye_is_played_out_before_the_line_closes() -> None:
    """`end_call` is answered, the rest of the goodbye is heard, and the tail runs through the jitter buffers."""
    story = Story().talking()
    story.tell(ev.AgentAudio(800), ev.AgentText("Goodbye."))
    (answer,) = story.tell(ev.ToolCalled("1", "end_call"))
    assert isinstance(answer, ev.AnswerTool)
    story.tell(ev.AgentAudio(500), ev.TurnDone())
    assert story.pass_time(2) == []
    story.tell(ev.PlayoutDrained())
    assert story.pass_time(timers.TAIL_S) == [ev.Finish(o.AGENT_ENDED)]


def test_end_call_before_the_goodbye_waits_for_it() -> None:
    """A model that calls the tool first gets time to begin its goodbye."""
    story = Story().talking()
    story.tell(ev.ToolCalled("1", "end_call"))
    assert story.pass_time(1.0) == []
    story.tell(ev.AgentAudio(700))
    assert story.pass_time(3) == []
    story.tell(ev.TurnDone(), ev.PlayoutDrained())
    assert story.pass_time(timers.TAIL_S) == [ev.Finish(o.AGENT_ENDED)]


def test_end_call_in_silence_ends_soon() -> None:
    """No goodbye comes: the call ends all the same."""
    story = Story().talking()
    story.tell(ev.ToolCalled("1", "end_call"))
    assert story.pass_time(rules.AFTER_TOOL_QUIET_S) == [ev.Finish(o.AGENT_ENDED)]


def test_a_goodbye_without_end_is_cut() -> None:
    """A model that never stops talking is cut after the limit."""
    story = Story().talking()
    story.tell(ev.ToolCalled("1", "end_call"))
    for _ in range(30):
        story.tell(ev.AgentAudio(500), after_s=0.5)
    assert story.outcome == o.AGENT_ENDED


def test_a_caller_who_hangs_up_during_the_goodbye_does_not_change_how_it_ended() -> None:
    """The first decision about the ending stands."""
    story = Story().talking()
    story.tell(ev.AgentAudio(500), ev.ToolCalled("1", "end_call"), ev.PhoneGone(o.CALLER_HUNG_UP))
    assert story.outcome == o.AGENT_ENDED


def test_a_caller_who_gives_up_while_it_rings_was_never_served() -> None:
    """Hanging up before the answer is no conversation."""
    story = Story()
    story.tell(ev.PhoneRinging(), ev.PhoneGone(o.CALLER_HUNG_UP))
    assert story.outcome == o.CALLER_LEFT_EARLY


def test_an_unknown_tool_is_answered_with_an_error() -> None:
    """An unanswered call would block the session."""
    story = Story().talking()
    (answer,) = story.tell(ev.ToolCalled("7", "launch"))
    assert answer == ev.AnswerTool("7", "launch", {"error": "there is no tool launch"})
    assert story.outcome is None


TRANSFER = ev.ToolCalled("7", "transfer_call", {"to": "sales"})
LOOK_UP = ev.ToolCalled("8", "look_up")
TOOLS = toolbox(
    (
        "end_call",
        "transfer_call",
        HttpTool(name="look_up", description="Look.", url="https://a.example", filler="Wait."),
    ),
    {"sales": "tel:+15551230002"},
    load_models()["gemini-3.8-live"],
)
WITH_TOOLS = replace(RULES, toolboxes=(TOOLS,))


def test_a_transferred_call_has_ended_well() -> None:
    """The agent's part is over as soon as the other side has answered."""
    story = Story(WITH_TOOLS).talking()
    assert story.tell(TRANSFER) == [ev.RunTool("7", "transfer_call", {"to": "sales"})]
    story.tell(ev.ToolFinished("7", {"result": "transferred"}, o.TRANSFERRED))
    assert story.outcome == o.TRANSFERRED
    assert story.core.deadline() is None


def test_a_transfer_that_fails_leaves_the_caller_with_the_agent() -> None:
    """The model is told, and the conversation goes on."""
    story = Story(WITH_TOOLS).talking()
    (answer,) = story.tell(TRANSFER, ev.ToolFinished("7", {"error": "busy"}))[1:]
    assert answer == ev.AnswerTool("7", "transfer_call", {"error": "busy"}, "WHEN_IDLE")
    assert story.outcome is None


@pytest.mark.parametrize(
    ("news", "expected"),
    [
        ([ev.ToolFinished("7", {"result": "transferred"}, o.TRANSFERRED)], o.TRANSFERRED),
        ([ev.ToolFinished("7", {"error": "call-ended"})], o.CALLER_HUNG_UP),
        ([], o.CALLER_HUNG_UP),
        ([ev.PhoneGone(o.HUNG_UP_BY_API), ev.ToolFinished("8", {}), TRANSFER], o.CALLER_HUNG_UP),
    ],
    ids=["transferred", "hung up", "no news", "other news"],
)
def test_a_phone_that_leaves_during_a_transfer_may_have_been_transferred(
    news: list[ev.Event], expected: Outcome
) -> None:
    """The phone leaves first and LiveKit says why a moment later, if at all."""
    story = Story(WITH_TOOLS).talking()
    story.tell(LOOK_UP, TRANSFER, ev.PhoneGone(o.CALLER_HUNG_UP))
    assert story.outcome is None
    story.tell(*news)
    story.pass_time(rules.TRANSFER_NEWS_S)
    assert story.outcome == expected


def test_nobody_is_asked_whether_they_are_there_while_a_tool_runs() -> None:
    """The caller waits for us."""
    story = Story(replace(WITH_TOOLS, idle_reminder_s=3)).talking()
    story.tell(ev.AgentAudio(100), ev.PlayoutDrained(), LOOK_UP)
    (filler, stop, told) = story.pass_time(10.2)
    assert isinstance(filler, ev.Prompt)
    assert stop == ev.CancelTool("8")
    assert isinstance(told, ev.AnswerTool)
    assert story.pass_time(3) == [ev.Prompt(PROMPTS.still_there)]


def test_a_model_that_waits_for_a_tool_owes_no_answer() -> None:
    """It is not given up for being slow."""
    story = Story(WITH_TOOLS).talking()
    story.tell(ev.CallerText("Where is my cake?"), LOOK_UP)
    assert ev.Prompt(PROMPTS.answer_now) not in story.pass_time(9)


def test_silence_is_not_filled_while_the_agent_is_heard() -> None:
    """A prompt would cut its own sentence."""
    story = Story(WITH_TOOLS).talking()
    story.tell(ev.AgentAudio(4_000), LOOK_UP)
    assert story.pass_time(4) == []
    story.tell(ev.PlayoutDrained())
    assert story.pass_time(1.5) == [ev.Prompt(say_filler("Wait."))]


def test_a_question_that_two_connections_hear_runs_its_tool_once() -> None:
    """The second one knows the result and hears the question again; the next question is another one."""
    story = Story(WITH_TOOLS).talking()
    story.tell(ev.AgentAudio(500), ev.TurnDone(), ev.PlayoutDrained())
    story.tell(ev.CallerSpoke(), ev.CallerPaused(0), LOOK_UP, ev.ToolFinished("8", {"cake": "baked"}), after_s=0.5)
    story.tell(ev.Resumable("handle"), after_s=1.5)
    story.tell(ev.LiveBroke(1, Fault(Stage.SESSION, 1006)), ev.LiveOpened(2))
    assert ev.Replay() in story.effects
    answered = story.tell(replace(LOOK_UP, id="9"), after_s=1.5)
    assert answered == [ev.AnswerTool("9", "look_up", {"cake": "baked"}, "WHEN_IDLE")]
    story.tell(ev.AgentAudio(500), ev.TurnDone(), ev.PlayoutDrained())
    assert ev.RunTool("10", "look_up", {}) in story.tell(replace(LOOK_UP, id="10"), after_s=3)


def test_a_call_of_a_tool_that_is_taken_back_is_stopped() -> None:
    """The caller has spoken over the model."""
    story = Story(WITH_TOOLS).talking()
    assert story.tell(LOOK_UP, ev.ToolCancelled(("8",)))[1:] == [ev.CancelTool("8")]


def test_timers_that_fire_late_and_together_end_a_call_once() -> None:
    """The process was busy: the first of them decides."""
    story = Story().talking()
    story.tell(ev.ToolCalled("1", "end_call"))
    endings = [e for e in story.core.tick(story.now + 100) if isinstance(e, ev.Finish)]
    assert endings == [ev.Finish(o.AGENT_ENDED)]


def test_a_caller_who_talks_over_the_goodbye_does_not_keep_the_line_open() -> None:
    """The rest of it is dropped, and the call ends as soon as without one."""
    story = Story().talking()
    story.tell(ev.AgentAudio(500), ev.ToolCalled("1", "end_call"), ev.Interrupted(unheard_ms=300))
    assert story.pass_time(rules.AFTER_TOOL_QUIET_S) == [ev.Finish(o.AGENT_ENDED)]


def test_a_caller_who_is_speaking_is_not_asked_whether_they_are_there() -> None:
    """The agent's queue runs empty while they talk."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100), ev.CallerSpoke(), ev.PlayoutDrained())
    assert story.pass_time(RULES.idle_reminder_s * 2) == []


def test_a_hang_up_ends_the_call_at_once() -> None:
    """Nothing is waited for, a tool that runs neither."""
    story = Story(WITH_TOOLS).talking()
    assert story.tell(LOOK_UP, ev.HangUp(o.HUNG_UP_BY_API))[1:] == [ev.Finish(o.HUNG_UP_BY_API)]
    assert story.core.deadline() is None
    assert story.core.tick(story.now + 100) == []


def test_only_a_profile_with_end_call_can_be_ended_by_it() -> None:
    """A model may call what it was not given."""
    story = Story(replace(RULES, toolboxes=(Toolbox(),))).talking()
    story.tell(ev.ToolCalled("1", "end_call"))
    assert story.core.phase is Phase.TALKING


def test_barge_in_keeps_what_was_heard_and_measures_the_cut() -> None:
    """The line says what the caller heard; the time from the first sound to the cut is noted."""
    story = Story().talking()
    story.tell(ev.AgentAudio(1_000), ev.AgentText("one two three four"))
    story.tell(ev.CallerSpoke())
    story.tell(ev.Interrupted(unheard_ms=500), after_s=0.12)
    assert story.notes("line") == [{"who": "agent", "text": "one two", "heard": False}]
    assert story.core.floor.latencies_ms["barge_in"] == [pytest.approx(120)]


def test_turn_latency_is_from_the_end_of_speech_to_the_first_sound() -> None:
    """The end of speech is dated back by the meter's hangover."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained(), ev.CallerSpoke())
    story.tell(ev.CallerPaused(ago_s=0.3))
    story.tell(ev.AgentAudio(100), after_s=0.2)
    assert story.core.floor.latencies_ms["turn"] == [pytest.approx(500)]
    assert "first_audio" in story.core.floor.latencies_ms


def test_a_silent_caller_is_asked_and_then_left() -> None:
    """Two reminders, then a goodbye; the outcome says that the caller was silent."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    for _ in range(2):
        assert story.pass_time(10.1) == [ev.Prompt(PROMPTS.still_there)]
        story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    assert story.pass_time(10.1) == [ev.Prompt(PROMPTS.nobody_there)]
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    story.pass_time(timers.TAIL_S)
    assert story.outcome == o.SILENCE


def test_a_word_from_the_caller_starts_the_silence_anew() -> None:
    """Reminders count only from the caller's last word."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    story.pass_time(10.1)
    story.tell(ev.CallerSpoke(), ev.CallerText("hello"), ev.CallerPaused(0.3))
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    assert story.pass_time(9) == []
    assert story.pass_time(2) == [ev.Prompt(PROMPTS.still_there)]
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained())
    assert story.pass_time(11) == [ev.Prompt(PROMPTS.still_there)]


def test_the_longest_call_ends_politely_and_in_time() -> None:
    """The model is told 15 s before; a model that goes on is cut at the limit."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100))
    assert story.pass_time(RULES.max_duration_s - timers.WRAP_UP_S) == [ev.Prompt(PROMPTS.time_is_up)]
    story.tell(ev.AgentAudio(100))
    story.pass_time(timers.WRAP_UP_S)
    assert story.outcome == o.MAX_DURATION


def test_winding_down_ends_after_the_goodbye() -> None:
    """Out of money: one prompt, one goodbye, the end; a second request changes nothing."""
    story = Story().talking()
    assert story.tell(ev.WindDown(o.MAX_COST)) == [ev.Prompt(PROMPTS.time_is_up)]
    assert story.tell(ev.WindDown(o.MAX_COST)) == []
    story.tell(ev.AgentAudio(100), ev.PlayoutDrained(), ev.TurnDone())
    story.pass_time(timers.TAIL_S)
    assert story.outcome == o.MAX_COST


def test_winding_down_before_anybody_talks_ends_at_once() -> None:
    """There is nobody to say goodbye to."""
    story = Story()
    story.tell(ev.WindDown(o.MAX_COST))
    assert story.outcome == o.MAX_COST


@pytest.mark.parametrize("answered", [False, True])
def test_a_caller_on_the_line_hears_a_sentence_when_the_model_is_gone(*, answered: bool) -> None:
    """Ringing or talking: the recorded sentence is played, then the line is closed."""
    story = Story()
    story.tell(ev.PhoneRinging())
    if answered:
        story.tell(ev.LiveOpened(), ev.PhoneAnswered())
        story.tell(ev.LiveBroke(1, Fault(Stage.SESSION, 1006)))
    assert story.tell(failed(2 if answered else 1))[-1] == ev.SayUnavailable()
    story.tell(ev.PlayoutDrained(), after_s=4)
    story.pass_time(timers.TAIL_S)
    assert story.outcome == (o.LIVE_LOST if answered else o.LIVE_UNREACHABLE)
    assert "unauthorized" in story.core.detail


def test_nobody_is_dialled_without_a_model() -> None:
    """The phone has not rung yet, so the call just ends."""
    story = Story(replace(RULES, inbound=False))
    story.tell(failed())
    assert story.outcome == o.LIVE_UNREACHABLE


def test_a_model_lost_during_the_goodbye_does_not_disturb_it() -> None:
    """What is queued is still played."""
    story = Story().talking()
    story.tell(ev.AgentAudio(500), ev.ToolCalled("1", "end_call"))
    assert story.tell(ev.LiveBroke(1, Fault(Stage.SESSION, 1000))) == []
    assert story.opening == 0
    story.tell(ev.PlayoutDrained())
    story.pass_time(rules.AFTER_TOOL_QUIET_S)
    assert story.outcome == o.AGENT_ENDED


@pytest.mark.parametrize(
    ("events", "expected"),
    [([], o.LIVE_UNREACHABLE), ([ev.LiveOpened()], o.CALLER_LEFT_EARLY)],
    ids=["no model", "no caller"],
)
def test_setting_up_has_a_limit(events: list[ev.Event], expected: Outcome) -> None:
    """Whichever end is missing, the call does not wait for ever."""
    story = Story()
    story.tell(*events)
    story.pass_time(takeover.SETUP_LIMIT_S + rules.GOODBYE_LIMIT_S)
    assert story.outcome == expected


def test_a_session_lost_while_the_phone_rings_is_replaced_and_nothing_is_said_yet() -> None:
    """The opening comes once somebody listens."""
    story = Story()
    story.tell(ev.PhoneRinging(), ev.LiveOpened(1), ev.LiveBroke(1, Fault(Stage.SESSION, 1006)))
    assert story.tell(ev.LiveOpened(2)) == []
    assert story.tell(ev.PhoneAnswered()) == [ev.Prompt(PROMPTS.opening())]


def test_a_murmur_does_not_stop_the_agent_where_the_profile_says_so() -> None:
    """Who goes on speaking gets the floor, and the rest of the model's turn is not played."""
    story = Story(replace(RULES, backchannels=True)).talking()
    story.tell(ev.AgentAudio(3_000), ev.AgentText("one two three four"), ev.CallerSpoke())
    assert story.tell(ev.CallerPaused(0.2), after_s=0.5) == []
    story.tell(ev.CallerSpoke())
    assert story.pass_time(rules.BACKCHANNEL_S) == [ev.StopAgent()]
    story.tell(ev.Interrupted(unheard_ms=1_500))
    assert story.notes("line") == [{"who": "agent", "text": "one two", "heard": False}]
    assert story.tell(ev.AgentAudio(500), ev.AgentText("five")) == [ev.Silence()]
    story.tell(ev.TurnDone(), ev.CallerPaused(0.3), ev.AgentAudio(500), ev.AgentText("Yes?"), ev.TurnDone())
    assert story.notes("line")[1]["text"] == "Yes?"
    story.tell(ev.CallerSpoke(), ev.PlayoutDrained())
    assert story.pass_time(1.0) == []


def test_a_filler_waits_until_everything_was_heard() -> None:
    """The model is faster than its voice: its connection breaks while the caller listens to what it had said."""
    story = Story().talking()
    story.tell(ev.Resumable("handle"), ev.AgentAudio(5_000), ev.LiveBroke(1, Fault(Stage.SESSION, 1006)))
    assert story.pass_time(4.0) == []
    assert story.tell(ev.PlayoutDrained()) == []
    assert story.pass_time(live_desk.FILLER_AFTER_S) == [ev.SayFiller()]


def test_a_turn_that_was_cut_ends_with_its_connection() -> None:
    """The next one's first words are an answer to whoever took the floor."""
    story = Story(replace(RULES, backchannels=True)).talking()
    story.tell(ev.Resumable("handle"), ev.AgentAudio(3_000), ev.AgentText("one two"), ev.CallerSpoke())
    assert story.pass_time(rules.BACKCHANNEL_S) == [ev.StopAgent()]
    story.tell(ev.Interrupted(unheard_ms=1_500), ev.LiveBroke(1, Fault(Stage.SESSION, 1006)), ev.LiveOpened(2))
    assert ev.Silence() not in story.tell(ev.CallerPaused(0.3), ev.AgentAudio(500), ev.AgentText("Yes?"), ev.TurnDone())
    assert story.notes("line")[-1]["text"] == "Yes?"


def test_a_new_connection_is_told_of_a_goodbye_under_way() -> None:
    """It resumes a conversation in which nobody spoke of an end."""
    story = Story().talking()
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.PlayoutDrained(), ev.Resumable("handle"))
    story.tell(ev.WindDown(o.MAX_COST), ev.LiveBroke(1, Fault(Stage.SESSION, 1006)))
    assert story.tell(ev.LiveOpened(2)) == [ev.Prompt(PROMPTS.time_is_up)]
    story.tell(ev.AgentAudio(100), ev.TurnDone(), ev.LiveBroke(2, Fault(Stage.SESSION, 1006)))
    assert ev.Prompt(PROMPTS.time_is_up) not in story.tell(ev.LiveOpened(3))


def test_an_answer_of_silence_leaves_the_floor_free() -> None:
    """Nothing of it is heard, so the next sound is the answer whose delay counts."""
    story = Story().talking()
    assert story.tell(ev.AgentAudio(1_200, rms=2.0)) == [ev.Silence(), ev.Prompt(PROMPTS.answer_now)]
    story.tell(ev.AgentAudio(100))
    assert story.core.floor.agent_speaking


def test_a_call_whose_model_stays_mute_ends_with_an_apology() -> None:
    """Everything was tried."""
    story = Story().talking()
    for connection in (2, 3, 4):
        story.pass_time(5.0 if connection == 2 else 2.5)
        story.tell(ev.LiveOpened(connection))
    assert story.pass_time(2.5) == [ev.SayUnavailable()]
    assert "could not be kept: mute" in story.core.detail


def test_a_second_setup_of_the_same_connection_changes_nothing() -> None:
    """Only the connection that is awaited takes over; any other is closed."""
    story = Story().talking()
    story.tell(ev.LiveOpened(7))
    assert story.effects[-1] == ev.DropLive(7)
    assert story.core.desk.continuity.state is Live.READY


def test_an_illegal_event_changes_nothing() -> None:
    """A second dial is a bug and is said to be one."""
    story = Story().talking()
    with pytest.raises(IllegalTransition):
        story.tell(ev.Dialling())
    assert story.core.leg is Leg.ANSWERED
    assert story.core.phase is Phase.TALKING


FAULTS = (
    None,
    Fault(Stage.SETUP, 1011, with_handle=True),
    Fault(Stage.SETUP, 1008, "Requested entity was not found.", with_handle=True),
    Fault(Stage.UPGRADE, 503),
    Fault(Stage.UPGRADE, 403),
    Fault(Stage.SESSION, 1006),
    Fault(Stage.SESSION, 1007),
    Fault(Stage.SESSION, 1011, "You exceeded your current quota"),
)


class AnyCall(RuleBasedStateMachine):
    """Whatever a network and a model do, in any order, a call ends once and never hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story(WITH_TOOLS)

    @rule(
        event=st.sampled_from(
            [
                ev.PhoneRinging(),
                ev.AgentAudio(200.0),
                ev.AgentText("words "),
                ev.CallerText("words "),
                ev.CallerSpoke(),
                ev.CallerPaused(0.3),
                ev.KeyPressed("1"),
                ev.KeyPressed("#"),
                ev.PlayoutDrained(),
                ev.TurnDone(),
                ev.Interrupted(50.0),
                ev.AgentAudio(700.0, rms=3.0),
                ev.GenerationDone(),
                ev.GoingAway(50.0),
                ev.GoingAway(0.0),
                ev.Resumable("handle"),
                ev.ToolCalled("1", "end_call"),
                ev.ToolCalled("2", "other"),
                ev.ToolCalled("3", "transfer_call", {"to": "sales"}),
                ev.ToolCalled("4", "look_up"),
                ev.ToolFinished("3", {"error": "busy"}),
                ev.ToolFinished("4", {"found": 1}),
                ev.ToolCancelled(("3", "4")),
            ]
        ),
        gap=st.floats(0, 20),
    )
    def something_happens(self, event: ev.Event, gap: float) -> None:
        """Media and turns come in any order."""
        self.story.tell(event, after_s=gap)

    @precondition(lambda self: self.story.opening)
    @rule(fault=st.sampled_from(FAULTS))
    def live_answers(self, fault: Fault | None) -> None:
        """The setup ends one way or the other."""
        connection = self.story.opening
        self.story.tell(ev.LiveFailed(connection, fault) if fault else ev.LiveOpened(connection))

    @precondition(lambda self: self.story.core.desk.continuity.current)
    @rule(fault=st.sampled_from([fault for fault in FAULTS if fault]))
    def live_dies(self, fault: Fault) -> None:
        """The session is closed by the server."""
        self.story.tell(ev.LiveBroke(self.story.core.desk.continuity.current, fault))

    @precondition(lambda self: self.story.core.leg is Leg.IDLE)
    @rule()
    def dial(self) -> None:
        """An outbound call."""
        self.story.tell(ev.Dialling())

    @precondition(lambda self: self.story.core.leg is not Leg.ENDED)
    @rule()
    def answer(self) -> None:
        """The phone is answered, perhaps again."""
        self.story.tell(ev.PhoneAnswered())

    @precondition(lambda self: self.story.core.leg is not Leg.ENDED)
    @rule()
    def phone_goes(self) -> None:
        """The phone is put down."""
        self.story.tell(ev.PhoneGone(o.CALLER_HUNG_UP))

    @rule(outcome=st.sampled_from([o.MAX_COST, o.DRAINING]))
    def wind_down(self, outcome: Outcome) -> None:
        """Money runs out."""
        self.story.tell(ev.WindDown(outcome))

    @invariant()
    def over_is_over(self) -> None:
        """One ending, and nothing is waited for after it; before it, something always is, or the phone is dialled."""
        core = self.story.core
        if self.story.outcome is not None:
            assert core.phase is Phase.OVER
            assert core.deadline() is None
        else:
            assert core.deadline() is not None or core.leg in {Leg.DIALLING, Leg.RINGING}

    def teardown(self) -> None:
        """Left alone, every call that is not being dialled comes to its end."""
        if self.story.core.leg not in {Leg.DIALLING, Leg.RINGING}:
            for _ in range(int(RULES.max_duration_s + takeover.SETUP_LIMIT_S + rules.GOODBYE_LIMIT_S)):
                self.story.pass_time(1)
                if self.story.opening and self.story.outcome is None:
                    self.story.tell(ev.LiveFailed(self.story.opening, Fault(Stage.SETUP, 0)))
            assert self.story.outcome is not None


AnyCall.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestAnyCall = AnyCall.TestCase
