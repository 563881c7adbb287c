"""Scenario files are checked when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from cluster.local.scenario import (
    POSSIBLE,
    SHIPPED,
    BargeIn,
    Fault,
    HangUp,
    Pause,
    Press,
    Say,
    Scenario,
    ScenarioError,
    Wait,
    load_scenario,
)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_good(path: Path) -> None:
    """They load, and every scripted caller ends the call by a line that makes the agent hang up."""
    for agent in load_scenario(path).agents:
        assert isinstance(agent.caller[-1], Wait)
        goodbye = next(exchange for exchange in agent.exchanges if agent.scripted_lines()[-1] in exchange.when)
        assert goodbye.call is not None
        assert goodbye.call.tool == "end_call"


def test_the_agent_is_picked_by_a_word_of_its_instructions() -> None:
    """Without regard to case; the first one if none fits."""
    scenario = load_scenario(SHIPPED / "demo.yaml")
    assert scenario.agent_for("Remind people of their APPOINTMENT.").name == "reminder"
    assert scenario.agent_for("You are a Receptionist.").name == "receptionist"
    assert scenario.agent_for("").name == "receptionist"


def test_caller_steps() -> None:
    """Every kind of step is told by its key."""
    scenario = Scenario.model_validate(
        {
            "agents": [
                {
                    "name": "a",
                    "greeting": "Hi.",
                    "caller": [
                        {"wait": "turn_end"},
                        {"say": "One."},
                        {"barge_in": "Two.", "after_ms": 300},
                        {"press": "1#"},
                        {"pause_ms": 50},
                        {"hang_up": True},
                    ],
                }
            ]
        }
    )
    caller = scenario.agents[0].caller
    assert [type(step) for step in caller] == [Wait, Say, BargeIn, Press, Pause, HangUp]
    assert scenario.agent("a").scripted_lines() == ("One.", "Two.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agents: [", "is not YAML"),
        ("agents: []", "agents: Tuple should have at least 1 item"),
        ("agents: [{name: a}]", "agents.0.greeting: Field required"),
        ("agents: [{name: a, greeting: Hi, exchanges: [{when: x}]}]", "an answer needs `say`, `call` or both"),
        ("agents: [{name: a, greeting: Hi, exchanges: [{when: x, say: y, after_tool: z}]}]", "needs a `call`"),
        ("agents: [{name: a, greeting: Hi, caller: [{press: abc}]}]", "agents.0.caller.0"),
        ("agents: [{name: a, greeting: Hi}]\nfaults: [{at: upgrade, do: silent}]", "can't happen at upgrade"),
        ("agents: [{name: a, greeting: Hi}]\nfaults: [{at: setup, do: close, turn: 2}]", "there is no turn at setup"),
        ("agents: [{name: a, greeting: Hi}]\nfaults: [{at: time, do: go_away, time_left: 50}]", "faults.0.time_left"),
        ("agents: [{name: a, greeting: Hi}]\nfaults: [{at: speech, do: close, every: 0}]", "faults.0.every"),
        ("agents: [{name: a, greeting: Hi}]\nfaults: [gone]", "faults.0"),
        ("agents: [{name: a, greeting: Hi, voice: Kore}]", "agents.0.voice: Extra inputs"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The error says the file and the place."""
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"s\.yaml: ") as wrong:
        load_scenario(path)
    assert message in str(wrong.value)


@pytest.mark.parametrize(
    ("given", "turn", "code", "reason"),
    [
        ({"at": "upgrade", "do": "http_status"}, 0, 503, "currently unavailable"),
        ({"at": "resume", "do": "refuse"}, 0, 1008, "entity was not found"),
        ({"at": "time", "do": "go_away"}, 0, 1011, "Deadline expired"),
        ({"at": "answer", "do": "close"}, 1, 1011, "Internal error"),
        ({"at": "turn", "do": "close", "turn": 0, "code": 1013, "reason": "Busy"}, 0, 1013, "Busy"),
        ({"at": "tool", "do": "abort"}, 0, 1011, ""),
    ],
)
def test_a_fault_speaks_as_the_service_does(given: dict[str, Any], turn: int, code: int, reason: str) -> None:
    """Code, words and turn are filled in by what happens where, unless they are given."""
    fault = Fault.model_validate(given)
    assert (fault.turn, fault.code) == (turn, code)
    assert reason in fault.reason


def test_every_fault_has_a_step() -> None:
    """The table of what is possible names no other faults than the field allows, and all of them."""
    done = get_args(Fault.model_fields["do"].annotation)
    assert set(POSSIBLE) == set(get_args(Fault.model_fields["at"].annotation))
    assert set().union(*POSSIBLE.values()) == set(done)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: can't be read"):
        load_scenario(tmp_path / "nowhere.yaml")
