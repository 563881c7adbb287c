"""Calls as a user places and takes them: real audio both ways, through Serve, Ray, LiveKit and a Live endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import httpx2
import pytest

from cluster.local.recognizer import words_of
from tests.e2e.conftest import System

ENDED = "ended"
CALLED = "+14155550102"
AGREED = 0.9
"""Of all words; a barge-in cuts one reply, and there the phone and the agent may differ by a word or two."""


def said(call: dict[str, Any], who: str) -> list[str]:
    """The lines of one side."""
    return [line["text"] for line in call["transcript"] if line["who"] == who]


def agreement(phone: dict[str, Any], call: dict[str, Any]) -> float:
    """How far what the phone understood of the agent is what the agent says that it said: 1 is to the word."""
    heard = [word for line in phone["lines"] if line["who"] == "agent" for word in words_of(line["text"])]
    spoken = [word for text in said(call, "agent") for word in words_of(text)]
    return SequenceMatcher(None, heard, spoken, autojunk=False).ratio()


@dataclass(frozen=True)
class Held:
    """An inbound and an outbound call, held at the same time."""

    phone: dict[str, Any]
    inbound: dict[str, Any]
    placed: list[httpx2.Response]
    """The outbound call; the same under the same key; another one under the same key."""
    outbound: dict[str, Any]
    events: list[tuple[int, str]]
    """Of the outbound call: number and kind."""


@pytest.fixture(scope="module")
def held(system: System) -> Held:
    """The two conversations of the demo, to their ends."""
    system.until_warm()
    phone_call = system.ring()
    placed = [system.dial(to, key="once") for to in (CALLED, CALLED, "+14155550103")]
    call_id = placed[0].json()["call_id"]
    events = list(events_of(system, call_id))
    return Held(
        phone=system.phone(phone_call),
        inbound=system.ended(system.inbound_call(phone_call)["call_id"]),
        placed=placed,
        outbound=system.ended(call_id),
        events=events,
    )


def events_of(system: System, call_id: str) -> Iterator[tuple[int, str]]:
    """What the stream of events tells, to its end."""
    number = 0
    with system.api.stream("GET", f"/v1/calls/{call_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("id:"):
                number = int(line.removeprefix("id:"))
            if line.startswith("data:"):
                yield number, json.loads(line.removeprefix("data:"))["kind"]


def test_an_inbound_call_from_ringing_to_its_record(held: Held) -> None:
    """The phone understood what the agent says that it said, and the agent what the phone said."""
    phone, call = held.phone, held.inbound
    assert (phone["sip_status"], phone["ending"]) == (200, "room-deleted")
    assert call["outcome"] == {"result": "success", "reason": "agent-ended", "detail": ""}
    assert said(call, "caller") == [line["text"] for line in phone["lines"] if line["who"] == "caller"]
    assert agreement(phone, call) >= AGREED
    assert call["cost"]["usd_micros"] > 0
    assert call["timings_ms"].keys() >= {
        "joined",
        "published",
        "audible",
        "first_audio_p50",
        "turn_p50",
        "barge_in_p50",
    }
    assert any(not line["heard"] for line in call["transcript"])


def test_an_outbound_call_and_its_idempotency_key(system: System, held: Held) -> None:
    """The same key is the same call: one phone rings, once, and both answers are the same."""
    first, again, other = held.placed
    assert first.status_code == 202, first.text
    assert (again.status_code, again.json()["call_id"]) == (202, first.json()["call_id"])
    assert other.status_code == 422
    call = held.outbound
    assert call["outcome"]["result"] == "success"
    assert len(said(call, "agent")) == 4
    (phone,) = system.carrier_calls(CALLED)
    assert agreement(phone, call) >= AGREED


def test_the_events_of_a_call_as_they_happen(held: Held) -> None:
    """Server-sent events from ringing to the end, each with its number, and the stream ends with the call."""
    numbers, kinds = zip(*held.events, strict=True)
    assert kinds[-1] == ENDED
    assert {"leg", "live", "phase", "line", "latency", "tool"} <= set(kinds)
    assert list(numbers) == sorted(set(numbers))


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        ("+14155550486", "caller/busy"),
        ("+14155550603", "caller/declined"),
        ("+14155550404", "caller/number-not-found"),
        ("+14155550408", "caller/no-answer"),
        ("+14155550403", "carrier/trunk-forbidden"),
    ],
)
def test_a_phone_that_is_not_answered(system: System, number: str, outcome: str) -> None:
    """The outcome is the carrier's word, and nothing is charged."""
    system.until_warm()
    call = system.ended(system.dial(number).json()["call_id"])
    assert f"{call['outcome']['result']}/{call['outcome']['reason']}" == outcome
    assert call["cost"]["usd_micros"] == 0
    assert call["answered_s"] is None


def test_hanging_up_by_the_api_ends_the_phone_leg(system: System) -> None:
    """The phone is put down, not left with an empty room."""
    system.until_warm()
    phone_call = system.ring()
    system.phone(phone_call, until="answered")
    call_id = system.inbound_call(phone_call)["call_id"]
    assert call_id in [c["call_id"] for c in system.api.get("/v1/calls", params={"state": "live"}).json()["calls"]]
    assert system.api.post(f"/v1/calls/{call_id}/hangup").status_code == 202
    assert system.phone(phone_call)["ending"] == "room-deleted"
    assert system.ended(call_id)["outcome"]["reason"] == "hung-up-by-api"


def test_a_caller_who_hangs_up(system: System) -> None:
    """The call ends with the caller, and the room is gone."""
    system.until_warm()
    phone_call = system.ring(steps=[{"wait": "turn_end"}, {"hang_up": True}])
    system.phone(phone_call)
    call = system.ended(system.inbound_call(phone_call)["call_id"])
    assert call["outcome"]["reason"] == "caller-hung-up"


def test_a_burst_over_capacity_ends_in_calls_and_clear_refusals(system: System) -> None:
    """Ten phones on four places: each is served or gets a final answer, or gives up by itself; none rings on."""
    system.until_warm()
    silent = [{"wait": "turn_end"}, {"hang_up": True}]
    rung = [system.ring(steps=silent) for _ in range(10)]
    phones = [system.phone(call) for call in rung]
    assert all(phone["ended_s"] is not None for phone in phones)
    served = [phone for phone in phones if phone["answered_s"] is not None]
    assert served
    for call, phone in zip(rung, phones, strict=True):
        if phone["answered_s"] is not None:
            assert system.ended(system.inbound_call(call)["call_id"])["outcome"]["reason"] == "caller-hung-up"
