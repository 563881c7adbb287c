"""The conversation in which processes are killed can be held."""

from __future__ import annotations

from cluster.local.scenario import load_scenario
from tests.kills.__main__ import SCENARIO
from tests.kills.run import FACT, PLANTED


def test_the_fact_is_planted_and_asked_for() -> None:
    """Whoever has lost the conversation can't know it."""
    (agent,) = load_scenario(SCENARIO).agents
    assert set(agent.scripted_lines()) >= PLANTED
    assert any(line.startswith(FACT) for line in agent.agent_lines())
