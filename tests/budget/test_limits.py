"""The policy at work: what a request runs up against, at an open desk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine

from cluster import outcome as o
from cluster.budget.policy import Policy
from cluster.messages import Admitted, Direction, Queued, Refused
from cluster.outcome import Outcome
from cluster.profiles import Profile
from tests.budget.fakes import call_request
from tests.budget.house import House, desk_rules, until

BERLIN = "+4930123456"
"""Where it is one o'clock when the clock of the tests begins."""

Open = Callable[..., Any]


@pytest.fixture
def open_house(engine: Engine, profiles: dict[str, Profile]) -> Open:
    """Opens a desk with a policy."""

    @asynccontextmanager
    async def opened(**policy: Any) -> AsyncIterator[House]:
        rules = desk_rules(outbound_trunk="ST_default")
        house = House(engine, profiles, rules, policy=Policy.model_validate(policy))
        await house.open(parked=min(2, policy.get("gemini_sessions", 2)))
        yield house
        await house.desk.close()

    return opened


@pytest.mark.parametrize(
    ("policy", "first", "second", "outcome"),
    [
        ({"tenants": {"acme": {"max_calls": 1}}}, {}, {}, o.OVER_TENANT_CALLS),
        ({"campaigns": {"spring": {"max_calls": 1}}}, {"campaign": "spring"}, {"campaign": "spring"}, None),
        ({"trunks": {"ST_default": {"max_calls": 1}}}, {}, {}, o.OVER_TRUNK_CALLS),
        ({"gemini_sessions": 1}, {}, {}, o.OVER_SESSIONS),
        ({"inbound_reserve": 3}, {}, {}, o.OVER_CAPACITY),
    ],
)
async def test_calls_at_once(
    open_house: Open, policy: dict[str, Any], first: dict[str, Any], second: dict[str, Any], outcome: Outcome | None
) -> None:
    """Each limit stops the second call with its own reason, and no call that it is not about."""
    async with open_house(**policy) as house:
        assert isinstance(await house.desk.admit(call_request(1, **first)), Admitted)
        said = await house.desk.admit(call_request(2, **second))
        assert isinstance(said, Queued)
        assert said.outcome == (outcome or o.OVER_CAMPAIGN_CALLS)
        if outcome != o.OVER_SESSIONS:
            other = call_request(3, tenant="zeta", direction=Direction.INBOUND)
            assert isinstance(await house.desk.admit(other), Admitted)
        (await house.serving("call-1")).end()
        await until(lambda: not any(call["call_id"] == "call-1" for call in house.desk.live_calls()))
        assert isinstance(await house.desk.admit(call_request(2, **second)), Admitted)


async def test_limits_count_calls_of_an_earlier_process(open_house: Open) -> None:
    """Whoever runs goes on counting."""
    async with open_house(campaigns={"spring": {"max_calls": 1}}) as house:
        await house.desk.admit(call_request(1, campaign="spring"))
        await house.serving("call-1")
        await house.desk.close()
        await house.open(parked=None)
        said = await house.desk.admit(call_request(2, campaign="spring"))
        assert isinstance(said, Queued)
        assert said.outcome == o.OVER_CAMPAIGN_CALLS


async def test_the_trunk_that_dials(open_house: Open) -> None:
    """The policy's for the number, else the one of the settings; an inbound call keeps what it came by."""
    async with open_house(trunks={"ST_berlin": {"prefixes": ["+4930"]}}) as house:
        await house.desk.admit(call_request(1, to=BERLIN))
        await house.desk.admit(call_request(2))
        await house.desk.admit(call_request(3, direction=Direction.INBOUND))
        trunks = [(await house.serving(f"call-{number}")).assignment.request.trunk for number in (1, 2, 3)]
        assert trunks == ["ST_berlin", "ST_default", ""]
        assert isinstance(await house.desk.admit(call_request(1, to=BERLIN)), Admitted)


async def test_calls_per_second_of_a_trunk(open_house: Open) -> None:
    """One a second; who rings in is not counted."""
    async with open_house(trunks={"ST_default": {"calls_per_second": 1}}) as house:
        house.clock.advance(1.0)
        ring = call_request(9, direction=Direction.INBOUND, trunk="ST_default")
        assert isinstance(await house.desk.admit(ring), Admitted)
        assert isinstance(await house.desk.admit(call_request(1)), Admitted)
        house.clock.advance(0.25)
        said = await house.desk.admit(call_request(2))
        assert isinstance(said, Queued)
        assert (said.outcome, said.position) == (o.OVER_TRUNK_RATE, 1)
        await house.pass_time(0.75)
        assert isinstance(await house.desk.admit(call_request(2)), Admitted)


@pytest.mark.parametrize(
    ("policy", "request_", "outcome", "retry_after_s"),
    [
        ({"blocked_prefixes": ["+4930"]}, {}, o.BLOCKED_NUMBER, None),
        ({"calling_hours": "Mo-Su 09:00-12:00"}, {}, o.OUTSIDE_HOURS, 20 * 3600.0),
        ({}, {"calling_hours": "Mo-Su 14:00-15:00"}, o.OUTSIDE_HOURS, 3600.0),
        (
            {"calling_hours": "Mo-Su 14:00-15:00"},
            {"calling_hours": "Mo-Su 16:00-17:00"},
            o.OUTSIDE_HOURS,
            3 * 3600.0,
        ),
        ({"calling_hours": "Mo-Su 00:00-24:00"}, {"to": "+8823456789012"}, o.UNKNOWN_HOURS, None),
        ({"tenants": {"acme": {"max_calls": 0}}}, {}, o.OVER_TENANT_CALLS, None),
    ],
)
async def test_what_the_policy_forbids(
    open_house: Open,
    policy: dict[str, Any],
    request_: Mapping[str, Any],
    outcome: Outcome,
    retry_after_s: float | None,
) -> None:
    """Refused, and told when it helps to come back; both the request's and the policy's hours hold."""
    async with open_house(**policy) as house:
        said = await house.desk.admit(call_request(1, **{"to": BERLIN, **request_}))
        assert said == Refused(outcome=outcome, detail=o.WHY_NOT[outcome], retry_after_s=retry_after_s)


async def test_calling_hours_are_for_those_who_are_called(open_house: Open) -> None:
    """Whoever rings is answered at any hour, unless blocked."""
    async with open_house(calling_hours="Mo-Su 09:00-12:00", blocked_numbers=[BERLIN]) as house:
        ring = call_request(1, direction=Direction.INBOUND, from_="+15551230001")
        assert isinstance(await house.desk.admit(ring), Admitted)
        blocked = await house.desk.admit(call_request(2, direction=Direction.INBOUND, from_=BERLIN))
        assert isinstance(blocked, Refused)
        assert blocked.outcome == o.BLOCKED_NUMBER
