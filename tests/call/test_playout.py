"""The two audio queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.call.playout import CallerTape, PlayoutQueue, UplinkQueue, duration_ms


def test_a_reply_is_played_in_order_and_whole() -> None:
    """What is put in comes out once, in order, however it is cut."""
    queue = PlayoutQueue(24_000, max_ms=1_000)
    assert queue.put(b"\1\0" * 240)
    assert queue.put(b"\2\0" * 480)
    assert queue.queued_ms == 30
    assert queue.take(15) == b"\1\0" * 240 + b"\2\0" * 120
    assert queue.take(100) == b"\2\0" * 360
    assert queue.take(100) == b""


def test_barge_in_tells_what_was_not_heard() -> None:
    """Clearing returns the milliseconds that nobody will hear."""
    queue = PlayoutQueue(24_000, max_ms=1_000)
    queue.put(b"\0\0" * 2_400)
    queue.take(40)
    assert queue.clear() == pytest.approx(60)
    assert queue.queued_ms == 0
    assert queue.take(10) == b""


def test_a_full_playout_refuses_and_keeps_what_it_has() -> None:
    """The newest audio gives way, never what is already on its way to the caller."""
    queue = PlayoutQueue(16_000, max_ms=10)
    assert queue.put(b"\1\0" * 160)
    assert not queue.put(b"\2\0")
    assert queue.take(10) == b"\1\0" * 160


@given(
    st.lists(
        st.one_of(st.binary(min_size=2, max_size=64).map(lambda b: b[: len(b) // 2 * 2]), st.floats(0.1, 5)),
        max_size=40,
    )
)
def test_no_sample_is_lost_or_doubled(steps: list[bytes | float]) -> None:
    """Any mix of puts and takes gives back the same bytes in the same order."""
    queue = PlayoutQueue(8_000, max_ms=10_000)
    put = taken = b""
    for step in steps:
        if isinstance(step, bytes):
            queue.put(step)
            put += step
        else:
            taken += queue.take(step)
    assert taken + queue.take(10_000) == put


def test_a_stalled_uplink_keeps_the_newest() -> None:
    """After a stall the model gets the last of what was said, and the loss is counted."""
    uplink = UplinkQueue(frame_ms=40, max_ms=120)
    for frame in (b"a", b"b", b"c", b"d", b"e"):
        uplink.put(frame)
    assert len(uplink) == 3
    assert uplink.dropped == 2
    assert uplink.take_all() == b"cde"
    assert uplink.take_all() == b""


def test_durations_are_of_16_bit_mono() -> None:
    """Two bytes a sample."""
    assert duration_ms(1_920, 24_000) == 40


def test_the_tape_keeps_a_lead_until_somebody_speaks_and_then_everything() -> None:
    """So that a word keeps its beginning, and a long silence does not fill it."""
    tape = CallerTape(16_000, max_ms=1_000, lead_ms=100)
    frame = bytes(2 * 16 * 50)
    for _ in range(10):
        tape.put(frame)
    assert len(tape.recorded()) == 2 * len(frame)
    tape.keep(anew=False)
    for _ in range(5):
        tape.put(frame)
    assert len(tape.recorded()) == 7 * len(frame)
    for _ in range(50):
        tape.put(frame)
    assert len(tape.recorded()) == 20 * len(frame)
    tape.settle()
    tape.put(frame)
    assert len(tape.recorded()) == 2 * len(frame)


def test_what_was_answered_is_not_kept_with_what_is_asked_next() -> None:
    """But for the lead, in which the next word begins."""
    tape = CallerTape(16_000, max_ms=1_000, lead_ms=100)
    frame = bytes(2 * 16 * 50)
    tape.keep(anew=True)
    for _ in range(8):
        tape.put(frame)
    tape.keep(anew=True)
    tape.put(frame)
    assert len(tape.recorded()) == 3 * len(frame)
