"""The desk of a call's tools: stories of calls and results, and what the model is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.call import events as ev
from cluster.call import tools as t
from cluster.call.prompts import say_filler, tool_result
from cluster.models import load_models
from cluster.tools import HttpTool, Tool, toolbox

MODELS = load_models()
TALKS_ON = MODELS["gemini-3.8-live"]
WAITS = MODELS["gemini-3.1-flash-live-preview"]
LOOK_UP = HttpTool(
    name="look_up",
    description="Find an order.",
    parameters={"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]},
    url="https://shop.example.com/orders",
    filler="One moment, I am looking.",
)
TOOLS = ("end_call", "transfer_call", "send_dtmf", "schedule_callback", "opt_out", LOOK_UP)
BOX = toolbox(TOOLS, {"sales": "tel:+15551230002"}, TALKS_ON)
ARGS = {"order": 7}
FOUND = {"state": "baked"}


class Story:
    """A desk whose effects are kept; notes apart."""

    def __init__(self, box: Any = BOX) -> None:
        self.desk = t.ToolDesk(box)
        self.now = 50.0
        self.noted: list[ev.Note] = []

    def keep(self, effects: list[ev.Effect]) -> list[ev.Effect]:
        """The effects other than notes."""
        self.noted += [e for e in effects if isinstance(e, ev.Note)]
        return [e for e in effects if not isinstance(e, ev.Note)]

    def call(
        self, call_id: str, name: str = "look_up", args: Mapping[str, Any] = ARGS, after_s: float = 0.1
    ) -> list[ev.Effect]:
        """The model calls."""
        self.now += after_s
        return self.keep(self.desk.called(ev.ToolCalled(call_id, name, args), self.now))

    def finish(self, run_id: str, response: Mapping[str, Any] = FOUND, after_s: float = 0.1) -> list[ev.Effect]:
        """The tool returns."""
        self.now += after_s
        return self.keep(self.desk.finished(run_id, response, self.now))

    def cancel(self, *ids: str) -> list[ev.Effect]:
        """The model takes calls back."""
        return self.keep(self.desk.cancelled(ids))

    def wait(self, seconds: float, *, quiet: bool = True) -> list[ev.Effect]:
        """Time passes."""
        effects: list[ev.Effect] = []
        end = self.now + seconds
        while (due := self.desk.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            effects += self.keep(self.desk.tick(self.now, quiet=quiet))
        self.now = end
        return effects

    def reconnect(self, *, resumed: bool) -> list[ev.Effect]:
        """Another connection serves."""
        self.now += 0.1
        return self.keep(self.desk.reconnected(self.now, resumed=resumed))

    def states(self) -> list[Any]:
        """What the timeline says of tools."""
        return [note.fields["state"] for note in self.noted if note.kind == "tool"]


def answer(
    call_id: str, response: Mapping[str, Any] = FOUND, name: str = "look_up", when: ev.Scheduling | None = "WHEN_IDLE"
) -> ev.AnswerTool:
    """An answer to the model."""
    return ev.AnswerTool(call_id, name, response, when)


def error(effects: list[ev.Effect]) -> str:
    """The error in the one answer."""
    (told,) = effects
    assert isinstance(told, ev.AnswerTool)
    return str(told.response["error"])


def test_a_tool_runs_and_its_result_is_told() -> None:
    """The timeline knows how long it took, and nothing of arguments and result."""
    story = Story()
    assert story.call("1") == [ev.RunTool("1", "look_up", ARGS)]
    assert story.desk.running == 1
    assert story.finish("1", after_s=0.25) == [answer("1")]
    assert story.noted[-1] == ev.Note("tool", {"name": "look_up", "state": "answered", "ok": True, "ms": 250})
    assert story.desk.running == 0
    assert story.desk.deadline() is None
    assert "baked" not in repr(story.noted) + repr(answer("1"))


def test_tools_run_side_by_side_and_return_in_any_order() -> None:
    """Each result goes to its own call."""
    story = Story()
    story.call("1")
    story.call("2", args={"order": 8})
    assert story.finish("2", {"b": 1}) == [answer("2", {"b": 1})]
    assert story.finish("1", {"a": 1}) == [answer("1", {"a": 1})]


REFUSED: list[tuple[str, Mapping[str, Any], str]] = [
    ("launch", {}, "there is no tool launch"),
    ("look_up", {}, "the arguments do not fit: arguments: 'order' is a required property"),
    ("look_up", {"order": "7"}, "the arguments do not fit: order: '7' is not of type 'integer'"),
    ("transfer_call", {"to": "tel:+19005550000"}, "the arguments do not fit: to: 'tel:+19005550000' is not one of"),
    ("send_dtmf", {"digits": "1;2"}, "the arguments do not fit: digits"),
    ("opt_out", {"reason": ""}, "the arguments do not fit: reason"),
    ("end_call", {"why": 1}, "the arguments do not fit: arguments"),
]


@pytest.mark.parametrize(("name", "args", "why"), REFUSED)
def test_what_cant_run_is_answered_with_a_reason(name: str, args: Mapping[str, Any], why: str) -> None:
    """The model can put it right, and nothing has run."""
    story = Story()
    assert error(story.call("1", name, args)).startswith(why)
    assert story.desk.running == 0
    assert error(story.call("2", name, args)).startswith(why), "a refused call is nobody's twin"


@pytest.mark.parametrize(
    ("name", "args", "noted"),
    [
        ("end_call", {}, []),
        ("opt_out", {"reason": "no more calls"}, [ev.Note("opt-out", {"reason": "no more calls"})]),
        (
            "schedule_callback",
            {"time": "2026-12-01T09:00+01:00", "reason": "cake"},
            [
                ev.Note(
                    "callback", {"time": "2026-12-01T09:00+01:00", "at": "2026-12-01T09:00:00+01:00", "reason": "cake"}
                )
            ],
        ),
        (
            "schedule_callback",
            {"time": "after lunch", "reason": "cake"},
            [ev.Note("callback", {"time": "after lunch", "at": "", "reason": "cake"})],
        ),
    ],
)
def test_tools_that_only_take_note_are_answered_at_once(
    name: str, args: Mapping[str, Any], noted: list[ev.Note]
) -> None:
    """The records have it before the model has its answer."""
    story = Story()
    (told,) = story.call("1", name, args)
    assert isinstance(told, ev.AnswerTool)
    assert "result" in told.response
    assert told.scheduling == ("SILENT" if name == "end_call" else "WHEN_IDLE")
    assert [note for note in story.noted if note.kind != "tool"] == noted
    assert story.desk.running == 0


def test_a_tool_that_takes_too_long_is_stopped_and_the_model_is_told() -> None:
    """What it returns afterwards is dropped."""
    story = Story()
    story.call("1")
    stop, told = story.wait(10.1, quiet=False)
    assert stop == ev.CancelTool("1")
    assert error([told]) == "the tool gave no result within 10 s"
    assert story.finish("1") == []


def test_silence_is_filled_once_nobody_speaks() -> None:
    """Not while the agent still talks, and only once."""
    story = Story()
    story.call("1")
    assert story.wait(4.6, quiet=False) == []
    assert story.wait(1.5) == [ev.Prompt(say_filler("One moment, I am looking."))]
    assert story.wait(3) == []
    assert story.states() == ["called", "slow"]


@pytest.mark.parametrize("changes", [{"filler": ""}, {"blocking": True}], ids=["no words", "blocking"])
def test_without_words_or_a_model_that_listens_slowness_is_only_noted(changes: dict[str, Any]) -> None:
    """A model that waits for the result can't be told to speak."""
    tool = replace(BOX.tools["look_up"], **changes)
    story = Story(replace(BOX, tools={"look_up": tool}))
    story.call("1")
    assert story.wait(2) == []
    assert story.states() == ["called", "slow"]


def test_the_same_id_is_not_run_again() -> None:
    """The server repeats a call: nothing while it runs, the kept result afterwards."""
    story = Story()
    story.call("1")
    assert story.call("1") == []
    story.finish("1")
    assert story.call("1", after_s=60) == [answer("1")]


def test_the_same_question_again_is_answered_from_the_first() -> None:
    """While it runs and shortly after; the second answer is not spoken about. Later it is a new question."""
    story = Story()
    story.call("1")
    assert story.call("2") == []
    assert story.finish("1") == [answer("1"), answer("2", when="SILENT")]
    assert story.call("3", after_s=1.9) == [answer("3", when="SILENT")]
    assert story.call("4", after_s=2.1) == [ev.RunTool("4", "look_up", ARGS)]


def test_a_model_in_a_loop_is_told_to_stop() -> None:
    """Six equal calls within half a minute are a fault; other questions are still answered."""
    story = Story()
    for number in range(5):
        story.call(f"{number}")
        story.finish(f"{number}", after_s=2.5)
    assert error(story.call("6")) == t.LOOP["error"]
    assert ev.Note("fault", {"what": "tool-loop", "name": "look_up"}) in story.noted
    assert story.call("7", args={"order": 8}) == [ev.RunTool("7", "look_up", {"order": 8})]
    assert story.call("8", after_s=31) == [ev.RunTool("8", "look_up", ARGS)]


def test_only_so_many_tools_run_at_once() -> None:
    """One more is refused, unless it is one of those that run."""
    story = Story()
    for number in range(t.MAX_RUNNING):
        story.call(f"{number}", args={"order": number})
    assert error(story.call("x", args={"order": 99})) == t.TOO_MANY["error"]
    assert story.call("y", args={"order": 0}) == []


def test_only_so_many_answers_are_kept() -> None:
    """The oldest is forgotten, with all its calls."""
    story = Story()
    for number in range(t.MAX_KEPT + 1):
        story.call(f"{number}", args={"order": number})
        story.finish(f"{number}")
    assert story.call("1", args={"order": 1}) == [answer("1")]
    assert story.call("0", args={"order": 0}) == [ev.RunTool("0", "look_up", {"order": 0})]


def test_a_cancelled_call_is_stopped_and_not_answered() -> None:
    """An id that nobody knows is nothing; the same id may come again and is then a new call."""
    story = Story()
    story.call("1")
    assert story.cancel("1", "unknown") == [ev.CancelTool("1")]
    assert story.finish("1") == []
    assert story.desk.deadline() is None
    assert story.call("1") == [ev.RunTool("1", "look_up", ARGS)]


def test_a_run_goes_on_while_one_of_its_calls_is_left() -> None:
    """Only the call that was not cancelled is answered."""
    story = Story()
    story.call("1")
    story.call("2")
    assert story.cancel("1") == []
    assert story.finish("1") == [answer("2")]


def test_cancelling_what_was_answered_changes_nothing() -> None:
    """It is only not offered again."""
    story = Story()
    story.call("1")
    story.finish("1")
    assert story.cancel("1") == []
    assert story.reconnect(resumed=True) == []


def test_a_transfer_cant_be_taken_back() -> None:
    """It goes on, and its result is not sent."""
    story = Story()
    story.call("1", "transfer_call", {"to": "sales"})
    assert story.desk.is_running("transfer_call")
    assert story.cancel("1") == []
    assert story.desk.is_running("transfer_call")
    assert story.finish("1", {"error": "busy"}) == []


def test_calls_without_an_id_are_told_apart() -> None:
    """Vertex AI may leave the id out: each is a call of its own, and is answered without one."""
    story = Story()
    (first,) = story.call("")
    (second,) = story.call("", args={"order": 8})
    assert isinstance(first, ev.RunTool)
    assert isinstance(second, ev.RunTool)
    assert first.id != second.id
    assert story.finish(second.id) == [answer("")]


def test_input_is_held_while_a_blocking_tool_runs_on_a_model_that_takes_none() -> None:
    """From the first of them to the last; the answer comes before what was held."""
    story = Story(toolbox(TOOLS, {"sales": "tel:+15551230002"}, WAITS))
    assert story.call("1") == [ev.HoldInput(held=True), ev.RunTool("1", "look_up", ARGS)]
    assert story.desk.holding_audio
    assert story.call("2", args={"order": 8}) == [ev.RunTool("2", "look_up", {"order": 8})]
    assert story.finish("1") == [answer("1", when=None)]
    assert story.finish("2") == [answer("2", when=None), ev.HoldInput(held=False)]
    assert not story.desk.holding_audio


@pytest.mark.parametrize("how", ["cancel", "reconnect", "time out"])
def test_input_is_not_held_for_longer_than_needed(how: str) -> None:
    """Whatever becomes of the tool."""
    story = Story(toolbox(TOOLS, {"sales": "tel:+15551230002"}, WAITS))
    story.call("1")
    effects = {
        "cancel": lambda: story.cancel("1"),
        "reconnect": lambda: story.reconnect(resumed=True),
        "time out": lambda: story.wait(11),
    }[how]()
    assert effects[-1] == ev.HoldInput(held=False)
    assert not story.desk.holding_audio


@pytest.mark.parametrize(("blocking", "held"), [(True, False), (False, False)])
def test_input_is_not_held_on_a_model_that_takes_it(*, blocking: bool, held: bool) -> None:
    """gemini-3.8-live cancels the call instead."""
    story = Story(toolbox((LOOK_UP.model_copy(update={"blocking": blocking}),), {}, TALKS_ON))
    story.call("1")
    assert story.desk.holding_audio is held


def test_an_answer_that_the_resumed_conversation_may_lack_is_given_again() -> None:
    """One that a later handle holds is not."""
    story = Story()
    story.call("1")
    story.finish("1")
    story.call("2", args={"order": 8})
    story.desk.marked(story.now + t.DELIVERY_S)
    story.finish("2", after_s=t.DELIVERY_S)
    story.desk.marked(story.now)
    assert story.reconnect(resumed=True) == [answer("2")]
    assert story.reconnect(resumed=True) == [answer("2")], "until a handle holds it"
    story.desk.marked(story.now + t.DELIVERY_S)
    assert story.reconnect(resumed=True) == []


def test_a_fresh_conversation_is_told_in_words() -> None:
    """It knows no call, so a result is text: of those that were answered, and of those that still run."""
    story = Story()
    story.call("1")
    story.call("2", "send_dtmf", {"digits": "1"})
    story.finish("1")
    assert story.reconnect(resumed=False) == [ev.Prompt(tool_result("look_up", FOUND))]
    assert story.finish("2", {"result": "pressed"}) == [
        ev.Prompt(tool_result("send_dtmf", {"result": "pressed"}), respond=False)
    ]
    assert "look_up" in tool_result("look_up", FOUND)


def test_a_fresh_conversation_that_asks_again_is_answered_as_usual() -> None:
    """Its call joins the run, and is the first that counts."""
    story = Story()
    story.call("1")
    story.reconnect(resumed=False)
    assert story.call("9") == []
    assert story.finish("1") == [answer("9")]


def test_a_resumed_conversation_that_asks_again_has_lost_its_first_call() -> None:
    """Its new call is the one that counts, and what has run is not run again, however late it asks."""
    story = Story()
    story.call("1")
    story.call("2", args={"order": 8})
    story.finish("2")
    assert story.reconnect(resumed=True) == [answer("2")]
    assert story.call("8", args={"order": 8}, after_s=5) == [answer("8")]
    assert story.call("9", after_s=2) == []
    assert story.finish("1") == [answer("9")]
    story.desk.marked(story.now + t.DELIVERY_S)
    story.desk.settled()
    assert story.call("10", args={"order": 8}, after_s=5) == [ev.RunTool("10", "look_up", {"order": 8})]


@pytest.mark.parametrize("resumed", [True, False])
def test_a_question_that_is_sent_again_runs_no_tool_twice(*, resumed: bool) -> None:
    """Although the conversation knows the result; once the question is answered, the same call is a new wish."""
    story = Story()
    story.call("1")
    story.finish("1")
    story.desk.marked(story.now + t.DELIVERY_S)
    assert story.reconnect(resumed=resumed) == []
    assert story.call("2", after_s=5) == [answer("2")]
    story.desk.settled()
    assert story.call("3", after_s=5) == [ev.RunTool("3", "look_up", ARGS)]


def test_an_answered_question_is_not_sent_again() -> None:
    """So the connection after it makes no difference to what the caller wants next."""
    story = Story()
    story.call("1")
    story.finish("1")
    story.desk.marked(story.now + t.DELIVERY_S)
    story.desk.settled()
    story.reconnect(resumed=True)
    assert story.call("2", after_s=5) == [ev.RunTool("2", "look_up", ARGS)]


def test_what_was_refused_is_not_told_to_a_fresh_conversation() -> None:
    """It has not made that mistake."""
    story = Story()
    story.call("1", "launch", {})
    assert story.reconnect(resumed=False) == []


class AnyTools(RuleBasedStateMachine):
    """Whatever a model and its tools do, each call is answered once or was taken back, and nothing waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story(toolbox(TOOLS, {"sales": "tel:+15551230002"}, WAITS))
        self.open: set[str] = set()
        self.doubtful: set[str] = set()
        self.runs: set[str] = set()
        self.held = False
        self.count = 0

    def take(self, effects: list[ev.Effect]) -> None:
        """Follow what is wanted done."""
        for effect in effects:
            match effect:
                case ev.RunTool(run_id):
                    self.runs.add(run_id)
                case ev.CancelTool(run_id):
                    self.runs.discard(run_id)
                case ev.AnswerTool(call_id):
                    assert call_id in self.open | self.doubtful, "answered once"
                    self.open.discard(call_id)
                    self.doubtful.discard(call_id)
                case ev.HoldInput(held):
                    assert held is not self.held
                    self.held = held

    @rule(
        name=st.sampled_from(["look_up", "launch", "end_call", "transfer_call"]),
        args=st.sampled_from([{"order": 1}, {"order": 2}, {}, {"to": "sales"}]),
        gap=st.floats(0, 3),
    )
    def model_calls(self, name: str, args: Mapping[str, Any], gap: float) -> None:
        """A new call."""
        self.count += 1
        self.open.add(f"c{self.count}")
        self.take(self.story.call(f"c{self.count}", name, args, after_s=gap))

    @rule(data=st.data(), gap=st.floats(0, 3))
    def tool_returns(self, data: st.DataObject, gap: float) -> None:
        """One of those that run."""
        if self.runs:
            run_id = data.draw(st.sampled_from(sorted(self.runs)))
            self.runs.discard(run_id)
            self.take(self.story.finish(run_id, after_s=gap))

    @rule(data=st.data())
    def model_cancels(self, data: st.DataObject) -> None:
        """One of the calls that are open."""
        if self.open:
            call_id = data.draw(st.sampled_from(sorted(self.open)))
            self.open.discard(call_id)
            self.take(self.story.cancel(call_id))

    @rule(resumed=st.booleans())
    def reconnects(self, *, resumed: bool) -> None:
        """A resumed conversation may have lost its calls; a fresh one has, and is told in words."""
        effects = self.story.reconnect(resumed=resumed)
        again = {effect.id for effect in effects if isinstance(effect, ev.AnswerTool)}
        self.doubtful = self.doubtful | self.open | again if resumed else set()
        self.open.clear()
        assert resumed or not again
        self.take(effects)

    @rule()
    def a_question_is_answered(self) -> None:
        """What the caller wants next is something new."""
        self.story.desk.settled()

    @rule()
    def a_handle_comes(self) -> None:
        """What was answered a while ago is safe."""
        self.story.desk.marked(self.story.now)

    @rule(seconds=st.floats(0, 20), quiet=st.booleans())
    def time_passes(self, seconds: float, *, quiet: bool) -> None:
        """Limits and fillers."""
        self.take(self.story.wait(seconds, quiet=quiet))

    @invariant()
    def holds_as_it_says(self) -> None:
        """The effect and the property agree, and whatever runs has a limit."""
        assert self.story.desk.holding_audio is self.held
        assert (self.story.desk.deadline() is None) == (self.story.desk.running == 0)

    def teardown(self) -> None:
        """In the end every call has its answer."""
        self.take(self.story.wait(200))
        assert self.open == set()
        assert self.story.desk.running == 0


AnyTools.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyTools = AnyTools.TestCase


def test_a_tool_without_parameters_takes_none() -> None:
    """The default schema."""
    assert Tool(name="x", description="").problem({}) == ""
    assert Tool(name="x", description="").problem({"a": 1})
