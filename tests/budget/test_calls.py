"""An open call: its terms, its assignment, and its record should its actor die."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from cluster import outcome as o
from cluster.budget.calls import (
    OpenCall,
    fingerprint,
    recollection,
    record_from_json,
    record_to_json,
    request_from_json,
    request_to_json,
    terms_of,
)
from cluster.budget.leases import Lease
from cluster.budget.prices import load_prices
from cluster.budget.pricing import Tariff
from cluster.errors import PriceError
from cluster.messages import Assignment, Checkpoint, Direction, Line, LiveFault, Metered, Renewal, Usage
from cluster.profiles import Profile
from cluster.records.views import call_view
from tests.budget.fakes import bill, call_record, call_request

DAY = date(2026, 11, 24)
LEASE = Lease(
    lease_id="lease-1",
    call_id="call-1",
    tenant="acme",
    day=str(DAY),
    slot="call-slot-1",
    max_cost_usd_micros=1_000_000,
    reserved_usd_micros=500_000,
    bill=bill(1_234),
    fencing_token=3,
)


def open_call(profiles: dict[str, Profile], renewal: Renewal | None = None) -> OpenCall:
    """A call that began at second 100 and was last heard of at 130."""
    request = call_request(context={"name": "Ana"})
    terms = terms_of(request, profiles["receptionist"], load_prices(), DAY)
    return OpenCall(request=request, terms=terms, started_at=100.0, renewal=renewal, renewed_at=130.0)


def a_renewal(talk_s: float) -> Renewal:
    """A sign of life."""
    return Renewal(
        lease_id="lease-1",
        fencing_token=3,
        usage=Usage(audio_in=10),
        cost_usd_micros=1_234,
        talk_s=talk_s,
        checkpoint=Checkpoint(resumption_handle="secret", transcript=(Line(who="caller", text="Hello", at_s=1.0),)),
    )


@pytest.mark.parametrize(
    ("asked_s", "asked_usd_micros", "duration_s", "usd_micros"),
    [(None, None, 600, 2_000_000), (60.0, 100_000, 60, 100_000), (9_999.0, 99_000_000, 600, 2_000_000)],
)
def test_a_request_tightens_the_limits_of_the_profile_and_never_widens_them(
    profiles: dict[str, Profile],
    asked_s: float | None,
    asked_usd_micros: int | None,
    duration_s: float,
    usd_micros: int,
) -> None:
    """The lower one of both counts."""
    request = call_request(max_duration_s=asked_s, max_cost_usd_micros=asked_usd_micros)
    profile = profiles["receptionist"]
    limits = profile.limits.model_copy(update={"max_duration_s": 600, "max_cost_usd": 2})
    terms = terms_of(request, profile.model_copy(update={"limits": limits}), load_prices(), DAY)
    assert (terms.max_duration_s, terms.max_cost_usd_micros) == (duration_s, usd_micros)
    assert terms.wish().max_cost_usd_micros == usd_micros
    now, later = terms.ahead(0.0, 10.0), terms.ahead(300.0, 10.0)
    assert 0 < now.goodbye < now.soon < now.slice < later.slice
    assert now.slice == terms.ahead(0.0, 15.0).soon == terms.wish().ahead.slice
    # Whoever may be unheard for longer holds money for as long.
    assert now.slice < terms.ahead(0.0, 60.0).soon == terms.ahead(0.0, 60.0).slice == terms.wish(60.0).ahead.slice
    assert terms.ahead(300.0, 10.0, 7).goodbye == terms.ahead(300.0, 10.0).goodbye + 7
    assert terms.wish().estimate_usd_micros > 0


def test_a_caller_on_the_line_and_a_high_priority_are_important(profiles: dict[str, Profile]) -> None:
    """They are admitted also when a budget is all but used up."""
    asked = [call_request(priority=priority) for priority in (0, 4, 5)] + [call_request(direction=Direction.INBOUND)]
    wishes = [terms_of(request, profiles["receptionist"], load_prices(), DAY).wish() for request in asked]
    assert [wish.important for wish in wishes] == [False, False, True, True]


def test_a_profile_whose_model_has_no_price_can_not_be_admitted(profiles: dict[str, Profile]) -> None:
    """Nothing is free because nobody knows what it costs."""
    profile = profiles["receptionist"].model_copy(update={"model": "unknown"})
    with pytest.raises(PriceError, match="unknown"):
        terms_of(call_request(), profile, load_prices(), DAY)


def test_an_assignment_says_what_was_resolved(profiles: dict[str, Profile]) -> None:
    """Everything the actor needs is decided before it begins."""
    call = open_call(profiles)
    assignment = call.assignment(LEASE, renew_every_s=2.0, lease_ttl_s=10.0, concise=True, utc=100.0)
    assert assignment.concise
    assert assignment.request is call.request
    assert (assignment.lease_id, assignment.fencing_token) == ("lease-1", 3)
    assert (assignment.max_cost_usd_micros, assignment.reserved_usd_micros) == (1_000_000, 500_000)
    assert (assignment.max_duration_s, assignment.renew_every_s, assignment.lease_ttl_s) == (
        call.terms.max_duration_s,
        2.0,
        10.0,
    )


def test_the_record_of_a_lost_call_has_what_its_last_sign_of_life_said(profiles: dict[str, Profile]) -> None:
    """Cost, usage and transcript are those of the checkpoint."""
    record = open_call(profiles, a_renewal(talk_s=20.0)).lost_record(LEASE, o.ACTOR_DIED, 135.0)
    assert record.outcome == o.ACTOR_DIED
    assert (record.cost_usd_micros, record.usage) == (1_234, Usage(audio_in=10))
    assert (record.answered_s, record.talk_s, record.duration_s) == (10.0, 20.0, 35.0)
    assert [line.text for line in record.transcript] == ["Hello"]
    assert (record.slot, record.to) == ("call-slot-1", "+15551230001")


def test_the_turn_in_which_a_call_was_lost_is_paid_for(profiles: dict[str, Profile]) -> None:
    """The provider bills it, and nobody will report it."""
    model = profiles["receptionist"].model
    renewal = a_renewal(talk_s=20.0)
    cut_off = Metered(usage_by_model={model: Usage(audio_out=1_000)}, line_s=20.0)
    at = replace(renewal.checkpoint, metered=cut_off)
    record = open_call(profiles, replace(renewal, checkpoint=at)).lost_record(LEASE, o.ACTOR_DIED, 135.0)
    assert record.metered == cut_off
    assert record.cost_usd_micros == sum(record.charges_usd_micros.values()) > 1_234


def test_the_record_of_a_call_that_never_reported_says_so(profiles: dict[str, Profile]) -> None:
    """It was not answered as far as anybody knows."""
    record = open_call(profiles).lost_record(LEASE, o.ACTOR_DIED, 99.0)
    assert (record.answered_s, record.talk_s, record.duration_s, record.transcript) == (None, 0.0, 0.0, ())
    assert "no sign of life" in record.detail
    assert open_call(profiles, a_renewal(talk_s=0.0)).lost_record(LEASE, o.ACTOR_DIED, 135.0).answered_s is None


def event(kind: str, at_s: float, **fields: Any) -> dict[str, Any]:
    """As the history has it."""
    return {"kind": kind, "at_s": at_s, **fields}


RINGS = event("leg", 1.0, state="ringing")
ANSWERS = event("leg", 2.0, state="answered")
GREETS = event("line", 3.0, who="agent", text="Hello.", heard=True)
ASKS = event("line", 5.0, who="caller", text="Are you open?", heard=True)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], Checkpoint(is_deaf=True)),
        ([RINGS], Checkpoint(is_deaf=True, leg="ringing")),
        ([RINGS, ANSWERS], Checkpoint(is_deaf=True, leg="answered", answered_s=2.0)),
        (
            [RINGS, ANSWERS, GREETS],
            Checkpoint(
                is_deaf=True, leg="answered", answered_s=2.0, phase="talking",
                transcript=(Line(who="agent", text="Hello.", at_s=3.0),), unknown=1,
            ),
        ),
        (
            [RINGS, ANSWERS, GREETS, ASKS],
            Checkpoint(
                is_deaf=True, leg="answered", answered_s=2.0, phase="talking", caller_waits=True, unknown=2,
                transcript=(
                    Line(who="agent", text="Hello.", at_s=3.0), Line(who="caller", text="Are you open?", at_s=5.0),
                ),
            ),
        ),
    ],
)  # fmt: skip
def test_what_the_history_shows_of_a_call_is_enough_to_go_on(
    events: list[dict[str, Any]], expected: Checkpoint
) -> None:
    """Whether there is a phone, since when it is answered, and what was said."""
    row: dict[str, Any] = defaultdict(
        lambda: None, direction="inbound", to_number="", from_number="", cost_usd_micros=0
    )
    assert recollection(call_view(row, events)) == expected


def test_the_record_of_a_call_that_was_lost_with_the_pool_has_what_was_said(profiles: dict[str, Profile]) -> None:
    """And whoever was talked to has somebody on the line."""
    said = (Line(who="agent", text="Hello.", at_s=3.0),)
    call = open_call(profiles)
    assert not call.has_listener
    call.recalled = Checkpoint(leg="answered", answered_s=2.0, transcript=said)
    assert call.has_listener
    record = call.lost_record(LEASE, o.ACTOR_DIED, 110.0)
    assert record.transcript == said
    assert "last sign of life" in record.detail


def test_requests_and_records_survive_being_written_as_json() -> None:
    """What is read back equals what was written, through real JSON text."""
    request = call_request(context={"name": "Ana"}, max_duration_s=30.0, direction=Direction.INBOUND)
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request
    record = call_record(open_assignment())
    record = replace(record, transcript=(Line(who="agent", text="Hi", at_s=0.5, heard=False),), quality={"mos": 4.1})
    usages = {"m": Usage(audio_in=1), "n": Usage(text_out=2)}
    metered = Metered(usage_by_model=usages, line_s=1.5, room_s=2.5, tool_calls={"look_up": 3})
    record = replace(record, metered=metered, charges_usd_micros={"model": 7})
    assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record


def test_a_stored_record_has_no_faults_in_it() -> None:
    """They are told to the breaker, once; one that an earlier version stored lacks what is new."""
    record = call_record(open_assignment())
    told = LiveFault(model="m", name="quota", blames_provider=True)
    stored = json.loads(json.dumps(record_to_json(replace(record, live_faults=(told,)))))
    assert record_from_json(stored) == record
    old = {"text_in": 0, "audio_in": 100, "text_out": 0, "audio_out": 0, "transcript_chars": 0}
    earlier = {name: value for name, value in stored.items() if name not in {"live_faults", "metered"}}
    assert record_from_json(earlier | {"usage": old, "usage_by_model": {}}) == replace(record, metered=Metered())


def test_a_fingerprint_is_of_what_was_chosen() -> None:
    """Ids that are made anew for each attempt don't matter; whom to call does."""
    first = fingerprint(call_request(1))
    assert fingerprint(call_request(2)) == first
    assert fingerprint(call_request(1, to="+15551230002")) != first
    assert fingerprint(call_request(1, context={"name": "Ana"})) != first


def open_assignment() -> Assignment:
    """An assignment for a record."""
    return Assignment(
        request=call_request(),
        lease_id="lease-1",
        fencing_token=1,
        max_duration_s=1.0,
        max_cost_usd_micros=1,
        reserved_usd_micros=1,
        renew_every_s=1.0,
        lease_ttl_s=1.0,
        tariff=Tariff(rates={}),
    )
