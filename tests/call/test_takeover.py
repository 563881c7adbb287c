"""A call that another process had: what is left behind, and how it goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call.core import CallCore
from cluster.call.faults import Fault, Stage
from cluster.call.prompts import Prompts
from cluster.call.rules import Rules
from cluster.call.states import Leg, Phase
from cluster.call.takeover import SETUP_LIMIT_S, checkpoint
from cluster.call.timers import TAIL_S, WRAP_UP_S
from cluster.messages import Checkpoint, Line, Metered, ToolRun
from cluster.models import load_models
from cluster.tools import HttpTool, toolbox
from tests.call.test_core import RULES, Story, wanted

GREETING = Line(who="agent", text="Good morning!", at_s=1.0)
QUESTION = Line(who="caller", text="My name is Ana. When do you open?", at_s=3.0)
CUT = Line(who="agent", text="We open at", at_s=5.0, heard=False)
TALKING = Checkpoint(
    resumption_handle="h1",
    transcript=(GREETING, QUESTION),
    age_s=10.0,
    answered_s=0.5,
    leg="answered",
    phase="talking",
)
LOOK_UP = ToolRun(id="f1", name="look_up", args={"name": "Ana"})


def prompts() -> Prompts:
    """Of one call."""
    return Prompts(greeting="Greet the caller.", variables={"name": "Ana"})


def leave(core: CallCore, now: float, unheard_ms: float = 0.0) -> Checkpoint:
    """What the core leaves behind."""
    return checkpoint(core, unheard_ms=unheard_ms, metered=Metered(), timings_ms={}, processes=1, now=now)


def rules_with_tools() -> Rules:
    """A tool over HTTP."""
    tool = HttpTool.model_validate(
        {
            "name": "look_up",
            "description": "Looks it up.",
            "url": "https://example.com/",
            "parameters": {"type": "object"},
        }
    )
    return replace(RULES, toolboxes=(toolbox((tool,), {}, load_models()["gemini-3.8-live"]),))


class Taken(Story):
    """A call that is taken over at `at`, told event by event."""

    def __init__(self, at: Checkpoint, rules: Rules = RULES) -> None:
        self.now = 100.0
        self.answered: set[int] = set()
        self.core = CallCore(rules, prompts(), self.now, at)
        self.effects = self.core.handle(ev.CallBegins(), self.now)


def spoken(effects: list[ev.Effect]) -> list[tuple[str, bool]]:
    """What the model is told, and whether it is to answer."""
    return [(effect.text, effect.respond) for effect in effects if isinstance(effect, ev.Prompt)]


def test_a_call_leaves_behind_what_was_heard() -> None:
    """The sentence under way as far as the caller heard it, and how much of all that the handle restores."""
    story = Story().talking()
    story.tell(ev.AgentText("Good morning!"), ev.AgentAudio(1_000), ev.TurnDone(), ev.PlayoutDrained())
    story.tell(ev.Resumable("h1"), ev.CallerText("When do you open?"))
    story.tell(ev.AgentText("We open at eight in the morning."), ev.AgentAudio(4_000))
    left = leave(story.core, story.now, unheard_ms=2_000)
    assert [(line.who, line.text) for line in left.transcript] == [
        ("agent", "Good morning!"),
        ("caller", "When do you open?"),
        ("agent", "We open at eight"),
    ]
    assert (left.resumption_handle, left.unknown, left.agent_is_cut, left.caller_waits) == ("h1", 2, True, False)
    assert (left.leg, left.phase, left.ending) == ("answered", "talking", "")
    assert (left.age_s, left.answered_s) == pytest.approx((story.now - 100.0, 0.2))


def test_a_call_that_has_not_begun_leaves_nothing_behind() -> None:
    """Whoever gets it begins it."""
    story = Story()
    assert leave(story.core, story.now) == Checkpoint()


@pytest.mark.parametrize("resumed", [True, False])
def test_a_taken_call_opens_its_line_at_once_and_greets_nobody_again(*, resumed: bool) -> None:
    """The phone is there and hears nothing until the track is published."""
    at = TALKING if resumed else replace(TALKING, resumption_handle="", unknown=2)
    taken = Taken(at)
    assert taken.effects.count(ev.OpenLine()) == 1
    assert ev.OpenLive(1, 0, at.resumption_handle) in taken.effects
    said = spoken(taken.tell(ev.LiveOpened(), ev.PhoneAnswered()))
    if resumed:
        assert said == []
    else:
        ((text, respond),) = said
        assert "Do not greet again" in text
        assert "My name is Ana." in text
        assert not respond
    assert taken.effects.count(ev.OpenLine()) == 1
    assert taken.core.answered_at == pytest.approx(100.0 - 10.0 + 0.5)


def test_a_cut_sentence_is_finished() -> None:
    """From the last word that the caller heard."""
    taken = Taken(replace(TALKING, transcript=(GREETING, QUESTION, CUT), unknown=2, agent_is_cut=True))
    ((text, respond),) = spoken(taken.tell(ev.LiveOpened()))
    assert "Go on exactly where you stopped" in text
    assert "We open at" in text
    assert "Good morning!" not in text
    assert respond


def test_a_sentence_of_which_nothing_was_heard_is_said_all_the_same() -> None:
    """The process died with the first sound; the next one is not left without a word to say."""
    taken = Taken(replace(TALKING, agent_is_cut=True))
    ((text, respond),) = spoken(taken.tell(ev.LiveOpened()))
    assert "Go on exactly where you stopped" in text
    assert respond


@pytest.mark.parametrize(
    "at", [replace(TALKING, caller_waits=True), replace(TALKING, is_deaf=True)], ids=["spoke", "may-have-spoken"]
)
def test_words_that_nobody_has_are_asked_for(at: Checkpoint) -> None:
    """The caller spoke to a process that is gone."""
    taken = Taken(at)
    ((text, respond),) = spoken(taken.tell(ev.LiveOpened()))
    assert "ask briefly to say that again" in text
    assert respond


def test_whoever_was_deaf_for_long_finishes_the_sentence_and_then_asks() -> None:
    """But not where the caller spoke over it."""
    cut = replace(TALKING, transcript=(GREETING, QUESTION, CUT), unknown=2, agent_is_cut=True, is_deaf=True)
    ((text, respond),) = spoken(Taken(cut).tell(ev.LiveOpened()))
    assert text.index("Go on exactly where you stopped") < text.index("whether the caller has said something")
    assert respond
    ((text, respond),) = spoken(Taken(replace(cut, caller_waits=True)).tell(ev.LiveOpened()))
    assert "Go on" not in text
    assert "ask briefly to say that again" in text
    assert respond


def test_a_handle_that_is_refused_is_given_up_for_the_transcript() -> None:
    """A fresh session is told everything."""
    taken = Taken(TALKING)
    for connection in (1, 2):
        taken.tell(ev.LiveFailed(connection, Fault(Stage.SETUP, 1008, "not found", with_handle=True)))
        if spoken(taken.tell(ev.LiveOpened(connection + 1))):
            break
    ((text, _),) = spoken(taken.effects)
    assert "Do not greet again" in text
    assert "My name is Ana." in text


def test_a_caller_who_heard_nothing_of_the_agent_is_greeted() -> None:
    """The process died between the answer and the first word."""
    taken = Taken(Checkpoint(age_s=1.0, answered_s=0.5, leg="answered", phase="talking", resumption_handle=""))
    ((text, respond),) = spoken(taken.tell(ev.LiveOpened(), ev.PhoneAnswered()))
    assert "Greet the caller." in text
    assert respond


def test_a_phone_that_rings_is_not_dialled_again_and_its_answer_begins_the_talk() -> None:
    """The room tells how it stands."""
    taken = Taken(Checkpoint(age_s=3.0, leg="dialling"))
    taken.tell(ev.LiveOpened(), ev.PhoneRinging(), ev.PhoneAnswered())
    assert (taken.core.leg, taken.core.phase) == (Leg.ANSWERED, Phase.TALKING)
    late = Taken(Checkpoint(age_s=3.0, leg="ringing"))
    late.tell(ev.LiveOpened())
    assert late.pass_time(SETUP_LIMIT_S) == [ev.Finish(o.CALLER_LEFT_EARLY)]


def test_a_tool_that_ran_is_run_again_under_the_same_id() -> None:
    """Its idempotency key is made of it; the answer goes to whoever knows of the question."""
    taken = Taken(replace(TALKING, tools=(LOOK_UP,)), rules_with_tools())
    assert ev.RunTool("f1", "look_up", {"name": "Ana"}) in taken.effects
    taken.tell(ev.LiveOpened())
    (answer,) = taken.tell(ev.ToolFinished("f1", {"result": "found"}))
    assert isinstance(answer, ev.AnswerTool)
    assert (answer.id, answer.response) == ("f1", {"result": "found"})


def test_a_result_that_may_be_lost_is_told_again_and_nothing_is_run() -> None:
    """The model had asked, and the process died with the answer."""
    done = replace(LOOK_UP, response={"result": "found"})
    taken = Taken(replace(TALKING, tools=(done,)), rules_with_tools())
    assert not [effect for effect in taken.effects if isinstance(effect, ev.RunTool)]
    assert [e.response for e in taken.tell(ev.LiveOpened()) if isinstance(e, ev.AnswerTool)] == [{"result": "found"}]


def test_what_acts_on_the_phone_is_never_done_twice() -> None:
    """The model is told that it was interrupted."""
    keys = ToolRun(id="#1", name="send_dtmf", args={"digits": "1"})
    taken = Taken(replace(TALKING, tools=(keys,)), rules_with_tools())
    assert not [effect for effect in taken.effects if isinstance(effect, ev.RunTool)]
    (answer,) = [e for e in taken.tell(ev.LiveOpened()) if isinstance(e, ev.AnswerTool)]
    assert "interrupted" in answer.response["error"]


def test_tools_under_way_are_left_behind_until_the_server_has_their_result() -> None:
    """Running, answered, delivered."""
    story = Story(rules_with_tools()).talking()
    story.tell(ev.ToolCalled("f1", "look_up", {"name": "Ana"}))
    assert leave(story.core, story.now).tools == (LOOK_UP,)
    story.tell(ev.ToolFinished("f1", {"result": "found"}))
    assert leave(story.core, story.now).tools == (replace(LOOK_UP, response={"result": "found"}),)
    story.tell(ev.Resumable("h2"), after_s=5.0)
    assert leave(story.core, story.now).tools == ()


def test_a_goodbye_that_was_cut_is_said_again_in_time() -> None:
    """The process died while the agent took its leave for the duration limit."""
    taken = Taken(replace(TALKING, phase="wrapping-up", ending=str(o.MAX_DURATION)))
    assert prompts().time_is_up in [text for text, _ in spoken(taken.tell(ev.LiveOpened()))]
    assert taken.pass_time(WRAP_UP_S) == [ev.Finish(o.MAX_DURATION)]


def test_a_call_that_was_about_to_end_ends() -> None:
    """Everything was said."""
    taken = Taken(replace(TALKING, phase="closing", ending=str(o.AGENT_ENDED)))
    assert taken.pass_time(TAIL_S) == [ev.Finish(o.AGENT_ENDED)]


@pytest.mark.parametrize("code", [403, 503], ids=["refused", "down"])
def test_a_call_that_was_about_to_end_ends_as_it_was_to_though_no_model_can_be_had(code: int) -> None:
    """The process died within the goodbye, and nobody can finish that."""
    taken = Taken(replace(TALKING, phase="closing", ending=str(o.AGENT_ENDED), agent_is_cut=True))
    while taken.outcome is None:
        if taken.opening:
            taken.tell(ev.LiveFailed(taken.opening, Fault(Stage.UPGRADE, code)))
        taken.pass_time(1)
    assert taken.outcome == o.AGENT_ENDED
    assert taken.now < 100.0 + WRAP_UP_S


def test_the_longest_duration_counts_from_the_first_answer() -> None:
    """A takeover gives nobody more time."""
    taken = Taken(replace(TALKING, age_s=RULES.max_duration_s, answered_s=0.0))
    taken.tell(ev.LiveOpened())
    assert ev.Prompt(prompts().time_is_up) in wanted(taken.effects)


def test_a_model_that_was_told_to_be_brief_is_told_again() -> None:
    """A fresh session knows nothing of it; who has been told is not told twice."""
    story = Story().talking()
    (told,) = story.tell(ev.BeBrief())
    assert told == ev.Prompt(story.core.prompts.be_brief, respond=False)
    assert story.tell(ev.BeBrief()) == []
    story.core.prompts.brief = False
    taken = Taken(replace(TALKING, resumption_handle="", brief=True))
    ((text, _),) = spoken(taken.tell(ev.LiveOpened()))
    assert "one short sentence" in text
    assert taken.tell(ev.BeBrief()) == []
