"""Requests: bodies, ids, and what LiveKit tells about a room."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.dispatch import requests as r
from cluster.messages import CallRequest, Direction

BODY = {"to": "+15551230001", "profile": "reminder"}


def a_body(**changes: Any) -> r.CallBody:
    """A body with one thing changed."""
    return r.CallBody.model_validate(BODY | changes)


def outbound(body: r.CallBody, idempotency_key: str | None) -> CallRequest:
    """The request behind it."""
    return r.outbound_request(
        body,
        call_id="call_x",
        tenant="acme",
        idempotency_key=idempotency_key,
        room_prefix="call-",
    )


def test_a_body_becomes_a_request() -> None:
    """Everything in it arrives, money in micro-dollars."""
    body = a_body(**{"from": "+15559870002"}, context={"name": "Ana"}, priority=3, max_duration_s=60, max_cost_usd=0.25)
    request = outbound(body, "key-1")
    assert (request.request_id, request.call_id, request.tenant) == ("key-1", "call_x", "acme")
    assert (request.room, request.identity) == ("call-call_x", "agent-call_x")
    assert (request.direction, request.profile) == (Direction.OUTBOUND, "reminder")
    assert (request.to, request.from_, request.context) == ("+15551230001", "+15559870002", {"name": "Ana"})
    assert (request.priority, request.max_duration_s, request.max_cost_usd_micros) == (3, 60, 250_000)
    assert request.body_sha256 == body.sha256()


def test_without_a_key_a_request_is_like_no_other() -> None:
    """Its id is the call's."""
    request = outbound(a_body(), None)
    assert (request.request_id, request.from_, request.max_cost_usd_micros) == ("call_x", "", None)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"to": "12345"}, ("to",)),
        ({"to": 15551230001}, ("to",)),
        ({"from": "me"}, ("from",)),
        ({"profile": ""}, ("profile",)),
        ({"context": {"a b": "x"}}, ("context", "a b", "[key]")),
        ({"context": {"a": 1}}, ("context", "a")),
        ({"context": {f"k{i}": "" for i in range(51)}}, ("context",)),
        ({"priority": 10}, ("priority",)),
        ({"max_duration_s": 0}, ("max_duration_s",)),
        ({"max_duration_s": "NaN"}, ("max_duration_s",)),
        ({"max_cost_usd": -1}, ("max_cost_usd",)),
        ({"max_cost_usd": 0.0000001}, ("max_cost_usd",)),
        ({"max_cost_usd": "Infinity"}, ("max_cost_usd",)),
        ({"colour": "red"}, ("colour",)),
    ],
)
def test_a_malformed_body_is_refused_where_it_is_wrong(change: dict[str, Any], place: tuple[str, ...]) -> None:
    """One error, at the member that is wrong, and the value is not repeated."""
    with pytest.raises(ValidationError) as error:
        a_body(**change)
    assert [found["loc"] for found in error.value.errors()] == [place]
    assert "12345" not in str(error.value)


def test_bodies_that_ask_for_the_same_have_the_same_hash() -> None:
    """Order and spelled-out defaults do not matter; everything else does."""
    assert a_body().sha256() == a_body(priority=0, **{"from": None}).sha256()
    assert a_body(context={"a": "1", "b": "2"}).sha256() == a_body(context={"b": "2", "a": "1"}).sha256()
    assert len({a_body(**change).sha256() for change in ({}, {"priority": 1}, {"to": "+15551230002"})}) == 3


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_their_time(earlier: float, later: float, one: bytes, other: bytes) -> None:
    """Of two ids from different milliseconds the later sorts higher; each is `call_` and 26 characters."""
    a, b = r.new_call_id(earlier, one), r.new_call_id(later, other)
    assert len(a) == len(b) == len("call_") + 26
    if int(earlier * 1000) != int(later * 1000):
        assert (a < b) == (earlier < later)
    elif one != other:
        assert a != b


def an_arrival(metadata: str = "", room_sid: str = "RM_1", **attributes: str) -> r.Arrival:
    """A room that wants our agent."""
    return r.Arrival(room="call-_+15551230001_x", room_sid=room_sid, metadata=metadata, attributes=attributes)


def test_one_room_is_one_request() -> None:
    """Heard of by the job, which has no numbers, or by the webhook, which has."""
    by_job = r.inbound_request(an_arrival(), "receptionist", {})
    numbers = {"sip.phoneNumber": "+15551230001", "sip.trunkPhoneNumber": "+15559870002"}
    hint = an_arrival(**numbers, **{"sip.trunkID": "ST_2"})
    by_webhook = r.inbound_request(hint, "receptionist", {})
    assert (by_job.request_id, by_job.call_id) == (by_webhook.request_id, by_webhook.call_id)
    assert by_job.request_id == "room:RM_1"
    assert by_job.call_id != r.inbound_request(an_arrival(room_sid="RM_2"), "receptionist", {}).call_id
    assert (by_webhook.from_, by_webhook.to, by_webhook.trunk) == ("+15551230001", "+15559870002", "ST_2")
    assert (by_job.direction, by_job.tenant, by_job.from_) == (Direction.INBOUND, r.DEFAULT_TENANT, "")
    assert by_job.identity == r.agent_identity(by_job.call_id)


@pytest.mark.parametrize(
    ("metadata", "attributes", "profile", "context"),
    [
        ("", {}, "receptionist", {}),
        ("not json", {}, "receptionist", {}),
        ("[1]", {}, "receptionist", {}),
        ('{"mine": 1}', {}, "receptionist", {}),
        ('{"profile": "reminder"}', {"ringmaster.profile": "other"}, "reminder", {}),
        ("", {"ringmaster.profile": "reminder"}, "reminder", {}),
        ("", {"ringmaster.profile": ""}, "receptionist", {}),
        ('{"context": {"name": "Ana", "age": 7}}', {}, "receptionist", {"name": "Ana", "age": "7"}),
    ],
)
def test_the_wish_of_a_dispatch(
    metadata: str, attributes: dict[str, str], profile: str, context: dict[str, str]
) -> None:
    """Metadata first, then the attribute, then the default; what is not ours is not read."""
    assert r.wish_of(an_arrival(metadata, **attributes), "receptionist") == (profile, context)


@pytest.mark.parametrize(
    "wish", [{"profile": 1}, {"profile": None}, {"context": "x"}, {"context": {"a": {}}}, {"context": [1]}]
)
def test_a_malformed_wish_is_refused(wish: dict[str, Any]) -> None:
    """Whoever writes `profile` or `context` means us, so a mistake there is told and not guessed over."""
    with pytest.raises(r.BadDispatch, match=r"mend|name a profile") as error:
        r.wish_of(an_arrival(json.dumps(wish)), "receptionist")
    assert error.value.outcome == r.BAD_METADATA


def test_an_inbound_call_says_by_which_trunk_it_came() -> None:
    """Where LiveKit told."""
    by_webhook = r.inbound_request(an_arrival(**{"sip.trunkID": "ST_in"}), "receptionist", {})
    assert by_webhook.trunk == "ST_in"
    assert r.inbound_request(an_arrival(), "receptionist", {}).trunk == ""
