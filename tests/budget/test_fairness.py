"""Fair shares, callers first, and nobody waits for ever: the real queue and the real decision in simulated time."""

from __future__ import annotations

import pytest

from cluster.messages import Direction
from tests.budget.hall import Hall, Source

TALK_S = {"a": 20.0, "b": 30.0, "c": 60.0, "d": 45.0, "e": 15.0}
EQUAL = dict.fromkeys(TALK_S, 1.0)
RESERVE = 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("slots", "weights", "wanted"),
    [
        pytest.param(20, EQUAL, (28, 10, 8, 7, 7), id="equal"),
        pytest.param(24, EQUAL | {"b": 2.0, "d": 3.0}, (32, 12, 6, 15, 7), id="weighted"),
    ],
)
def test_at_three_times_the_capacity_each_tenant_has_its_share_in_any_minute(
    slots: int, weights: dict[str, float], wanted: tuple[float, ...], seed: int
) -> None:
    """At least 90 % of it, whatever others ask for and however long their calls are; callers are answered at once.

    From the second minute on: no running call is cut off to make room, so that the first minute is whose calls came
    first. Minutes in which a tenant wanted no more than it had say nothing.
    """
    hall = Hall(slots=slots + RESERVE, inbound_reserve=RESERVE, weights=weights)
    sources = [
        Source(tenant=tenant, slots=share, talk_s=talk_s)
        for (tenant, talk_s), share in zip(TALK_S.items(), wanted, strict=True)
    ]
    callers = Source(tenant="e", slots=2.0, talk_s=30.0, direction=Direction.INBOUND)
    assert sum(wanted) >= 2.9 * slots
    hall.run([*sources, callers], 600.0, seed)
    shares = {tenant: hall.shares(tenant, 60) for tenant in TALK_S}
    assert min(map(len, shares.values())) > 200
    worst = {tenant: round(min(had), 3) for tenant, had in shares.items()}
    assert min(worst.values()) >= 0.9, worst
    assert hall.late_inbound == []


def test_a_tenant_that_comes_late_has_its_share_within_a_minute() -> None:
    """Of slots that others have taken all of, and with a hundred times their calls waiting."""
    hall = Hall(slots=20, inbound_reserve=0, weights={"a": 1.0, "b": 1.0})
    crowd = Source(tenant="a", slots=200.0, talk_s=30.0)
    late = Source(tenant="b", slots=30.0, talk_s=30.0, begins_s=300.0)
    hall.run([crowd, late], 600.0, 1)
    assert min(hall.shares("b", 360)) >= 0.9


def test_callers_are_answered_before_everybody_who_is_to_be_dialled() -> None:
    """Beyond the reserve too, the next slot is theirs: they wait for one call to end and not for the queue."""
    hall = Hall(slots=20, inbound_reserve=2, weights={"a": 1.0})
    dialled = Source(tenant="a", slots=60.0, talk_s=30.0)
    callers = Source(tenant="a", slots=6.0, talk_s=30.0, direction=Direction.INBOUND)
    hall.run([dialled, callers], 900.0, 1)
    waits = [hall.waits[number] for number, (at, source) in hall.asked.items() if source is callers and at < 880.0]
    assert len(waits) > 100
    assert max(waits) < 15.0
    assert hall.late_inbound == []


def test_nobody_waits_for_ever() -> None:
    """A call of the lowest priority behind more calls of the highest than there is room for: its age brings it up."""
    hall = Hall(slots=20, inbound_reserve=0, weights={"a": 1.0}, ageing_s=30.0)
    urgent = Source(tenant="a", slots=21.0, talk_s=30.0, priority=9)
    patient = Source(tenant="a", slots=1.0, talk_s=30.0, ends_s=600.0)
    hall.run([urgent, patient], 1_200.0, 1)
    waits = [hall.waits[number] for number, (_, source) in hall.asked.items() if source is patient]
    assert len(waits) > 10
    assert max(waits) < 9 * 30.0 + 120.0
