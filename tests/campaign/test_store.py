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
CONTACT = Contact(line=2, number=NUMBER, zones=("Europe/Berlin",), context={"name": "Sam"})


@pytest.fixture
def store(engine: Engine) -> CampaignStore:
    """With one campaign of one contact."""
    store = CampaignStore(engine)
    assert store.open("c", "default", "d1", NOW) == "running"
    for _ in range(2):
        store.add("c", "d1", [(CONTACT, NOW)])
    return store


def begin(store: CampaignStore, driver: str = "d1", nth: int = 1) -> Begun:
    """Sam's next attempt."""
    attempt, call_id = attempt_id("c", SAM, nth), f"call_{nth}"
    move = Move(campaign="c", contact=SAM, step=Step.BEGIN, attempt=attempt, call_id=call_id, at=NOW, due_at=NOW + 60)
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


def test_who_waits_is_as_the_file_has_him_now(store: CampaignStore) -> None:
    """With a pause that is his own; whoever has a call, or none any more, stays as he is."""
    moved = replace(CONTACT, line=9, zones=("Asia/Kolkata",), context={"name": "Kim"})
    store.add("c", "d1", [(moved, NOW - 5)])
    (sam,) = store.waiting("c", 10)
    assert (sam.zones, sam.context, sam.due_at) == (("Asia/Kolkata",), {"name": "Kim"}, NOW - 5)
    begin(store)
    store.add("c", "d1", [(CONTACT, NOW)])
    assert store.unfinished("c")[0].zones == ("Asia/Kolkata",)
    step(store, Step.CALL)
    step(store, Step.AGAIN, outcomes=("caller/busy",))
    store.add("c", "d1", [(CONTACT, NOW)])
    (sam,) = store.waiting("c", 10)
    assert (sam.zones, sam.due_at) == (("Europe/Berlin",), NOW + 60)
    store.add("c", "d1", [(CONTACT, NOW + 90)])
    assert store.waiting("c", 10)[0].due_at == NOW + 90


def test_who_is_not_in_the_file_is_left_out(store: CampaignStore) -> None:
    """Until he comes back, with the pause that he had. Only by whoever drives the campaign."""
    begin(store)
    step(store, Step.CALL)
    step(store, Step.AGAIN, outcomes=("caller/busy",))
    assert store.left_out("c", "d1", 10) == []
    store.open("c", "default", "d2", NOW)
    assert store.left_out("c", "d1", 10) == []
    (sam,) = store.left_out("c", "d2", 10)
    drop = Move(campaign="c", contact=SAM, step=Step.DROP, at=NOW, due_at=sam.due_at, driver="d1")
    store.move([drop])
    assert len(store.waiting("c", 10)) == 1
    assert begin(store, "d2", nth=2) is Begun.LEFT_OUT
    store.add("c", "d1", [(CONTACT, NOW)])
    assert store.waiting("c", 10) == []
    store.add("c", "d2", [(CONTACT, NOW)])
    store.open("c", "default", "d3", NOW)
    store.move([replace(drop, driver="d3")])
    assert (store.tally("c").waiting, store.tally("c").done) == (0, 1)
    store.add("c", "d3", [(CONTACT, NOW)])
    (sam,) = store.waiting("c", 10)
    assert (sam.outcomes, sam.due_at) == (("caller/busy",), NOW + 60)


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
    store.add("c", "d2", [(CONTACT, NOW)])
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
