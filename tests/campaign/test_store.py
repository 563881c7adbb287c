"""The campaigns' tables, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from cluster.campaign.contacts import Contact
from cluster.campaign.states import TABLE, State, Step, attempt_id, contact_id, sources, target
from cluster.campaign.store import Begun, CampaignStore, Move

NUMBER = "+14155550101"
SAM = contact_id("c", NUMBER)
NOW = 1_000.0


@pytest.fixture
def store(engine: Engine) -> CampaignStore:
    """With one campaign of one contact."""
    store = CampaignStore(engine)
    assert store.open("c", "default", "d1", NOW) == "running"
    contact = Contact(line=2, number=NUMBER, zones=("Europe/Berlin",), context={"name": "Sam"})
    store.add("c", [(contact, NOW)])
    store.add("c", [(replace(contact, line=9), NOW + 5)])
    return store


def begin(store: CampaignStore, driver: str = "d1", nth: int = 1) -> Begun:
    """Sam's next attempt."""
    move = Move(
        campaign="c", contact=SAM, step=Step.BEGIN, attempt=attempt_id("c", SAM, nth), call_id=f"call_{nth}", at=NOW
    )
    return store.begin(driver, move)


def step(store: CampaignStore, step: Step, nth: int = 1, outcomes: tuple[str, ...] | None = None) -> None:
    """Something happens to Sam."""
    attempt = attempt_id("c", SAM, nth)
    store.move(
        [
            Move(
                campaign="c",
                contact=SAM,
                step=step,
                attempt=attempt,
                at=NOW + 9,
                due_at=NOW + 60,
                outcomes=outcomes,
                talk_s=7.5,
                cost_usd_micros=1_000,
            )
        ]
    )


def test_every_step_has_one_target() -> None:
    """So a step is one statement, from wherever it may be taken."""
    assert {step: target(step) for step in Step}
    assert sources(Step.BEGIN) == {State.WAITING}
    assert {state for state, _ in TABLE} == set(State) - {State.DONE}


def test_a_contact_from_waiting_to_done(store: CampaignStore) -> None:
    """Busy, then reached; every step may come twice."""
    (sam,) = store.waiting("c", 10)
    assert (sam.number, sam.zones, sam.context, sam.due_at) == (NUMBER, ("Europe/Berlin",), {"name": "Sam"}, NOW)
    for _ in range(2):
        assert begin(store) is Begun.YES
    assert store.waiting("c", 10) == []
    for _ in range(2):
        step(store, Step.CALL)
    (sam,) = store.unfinished("c")
    assert sam.state is State.CALLING
    for _ in range(2):
        step(store, Step.AGAIN, outcomes=("caller/busy",))
    (sam,) = store.waiting("c", 10)
    assert (sam.outcomes, sam.due_at) == (("caller/busy",), NOW + 60)
    begin(store, nth=2)
    step(store, Step.CALL, nth=2)
    step(store, Step.CLOSE, nth=2, outcomes=("caller/busy", "success/agent-ended"))
    tally = store.tally("c")
    assert (tally.waiting, tally.open, tally.done, tally.calls, tally.spent_usd_micros) == (0, 0, 1, 2, 2_000)
    assert tally.outcomes == {"caller/busy": 1, "success/agent-ended": 1}
    (row,) = store.report("c")
    assert (row["line"], row["calls"], row["talk_s"], row["cost_usd_micros"]) == (2, 2, 15.0, 2_000)


def test_an_attempt_that_was_no_call_leaves_nothing(store: CampaignStore) -> None:
    """It will be the same attempt again."""
    begin(store)
    step(store, Step.PUT_OFF)
    assert store.tally("c").calls == 0
    begin(store)
    assert store.tally("c").calls == 1


def test_who_is_parked_is_not_called(store: CampaignStore) -> None:
    """Until somebody finds out what came of the call."""
    begin(store)
    step(store, Step.PARK)
    assert (store.tally("c").unknown, store.waiting("c", 10)) == (1, [])
    assert store.unfinished("c")[0].state is State.UNKNOWN
    step(store, Step.CLOSE, outcomes=("success/agent-ended",))
    assert store.tally("c").done == 1


def test_only_the_newest_process_begins_attempts(store: CampaignStore) -> None:
    """And none where the campaign is cancelled."""
    store.open("c", "default", "d2", NOW)
    assert begin(store, "d1") is Begun.REPLACED
    assert begin(store, "d2") is Begun.YES
    store.close("c", "d1", "done", "")
    assert store.state("c") == ("running", "")
    store.close("c", "d2", "stopped", "money")
    assert store.state("c") == ("stopped", "money")
    store.close("c", "d2", "stopped", "budget-priority-only")
    assert store.state("c") == ("stopped", "budget-priority-only")
    assert store.cancel("c")
    assert begin(store, "d2") is Begun.CANCELLED
    assert store.open("c", "default", "d3", NOW) == "cancelled"
    assert store.state("other") is None
    assert not store.cancel("other")
