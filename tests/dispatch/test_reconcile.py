"""Rooms without a call and calls without a room: what is decided."""

from __future__ import annotations

import math

import pytest

from cluster.dispatch.reconcile import GRACE_S, Fate, Room, fate_of, is_own, roomless, strangers
from cluster.dispatch.requests import CallBody, new_call_id, outbound_request

NOW = 1_790_000_000.0


def test_a_room_is_a_stranger_once_nobody_had_it_for_a_while() -> None:
    """A young one is being offered or dialled."""
    old, young, held = (
        Room(name, f"RM_{name}", NOW - age) for name, age in (("old", GRACE_S), ("young", GRACE_S - 0.1), ("held", 99))
    )
    assert strangers([old, young, held], {"held"}, NOW) == [old]


def test_the_rooms_of_our_outbound_calls_are_known_by_their_name() -> None:
    """A prefix alone is not enough: the rooms of a SIP rule may have the same."""
    body = CallBody(to="+15551230001", profile="reminder")
    call_id = new_call_id(NOW, b"0123456789")
    request = outbound_request(body, call_id=call_id, tenant="acme", idempotency_key=None, room_prefix="call-")
    assert is_own(request.room, "call-")
    assert not is_own(request.room, "other-")
    assert not is_own("call-_+15551230001_x8Fjs", "call-")


@pytest.mark.parametrize(
    ("kinds", "own", "asks_for_us", "claimed", "fate"),
    [
        ((), True, False, False, Fate.CLOSE),
        (("SIP",), True, False, False, Fate.CLOSE),
        (("SIP", "AGENT"), True, False, False, Fate.CLOSE),
        (("SIP",), False, True, False, Fate.CLAIM),
        (("SIP",), False, True, True, Fate.CLOSE),
        (("SIP", "AGENT"), False, True, False, Fate.LEAVE),
        (("SIP", "AGENT"), False, True, True, Fate.LEAVE),
        (("STANDARD",), False, True, False, Fate.LEAVE),
        ((), False, True, False, Fate.LEAVE),
        (("SIP",), False, False, False, Fate.LEAVE),
    ],
)
def test_only_what_is_ours_is_touched(
    kinds: tuple[str, ...], *, own: bool, asks_for_us: bool, claimed: bool, fate: Fate
) -> None:
    """And only who is on the phone with nobody is claimed."""
    assert fate_of(kinds, own=own, asks_for_us=asks_for_us, claimed=claimed) is fate


def test_a_call_has_to_be_in_its_room_after_a_while() -> None:
    """One that waits or is being started need not be anywhere yet."""
    calls = {
        "there": ("call-1", NOW - 99),
        "gone": ("call-2", NOW - GRACE_S),
        "new": ("call-3", NOW - GRACE_S + 0.1),
        "waits": ("call-4", math.inf),
    }
    assert roomless(calls, {"there", "another"}, NOW) == {"call-2"}
