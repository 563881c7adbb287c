"""The live feed: numbering, memory, ends."""

from __future__ import annotations

from cluster.records import feed as f
from tests.records.examples import an_event


def numbers(feed: f.Feed, call_id: str = "call_1", after: int = 0) -> list[int] | None:
    """The `seq`s after `after`."""
    entries = feed.since(call_id, after)
    return None if entries is None else [seq for seq, _ in entries]


def test_events_are_numbered_within_their_call() -> None:
    """Each call counts from 1."""
    feed = f.Feed()
    feed.open("call_1", None)
    feed.open("call_2", None)
    feed.add("call_1", [an_event("leg"), an_event("line")])
    feed.add("call_2", [an_event("leg", call_id="call_2")])
    assert (numbers(feed), numbers(feed, "call_2"), numbers(feed, after=1)) == ([1, 2], [1], [2])


def test_after_a_restart_no_number_is_used_twice() -> None:
    """Numbering goes on behind what may have been shown but not stored, and what is stored is asked of the database."""
    feed = f.Feed()
    feed.open("call_1", 7)
    feed.open("call_1", None)
    feed.add("call_1", [an_event("line")])
    assert numbers(feed, after=7) == [7 + f.RESTART_GAP + 1]
    assert numbers(feed, after=6) is None


def test_the_oldest_events_leave_memory_first() -> None:
    """Whoever wants those gets None, which stands for the database; whoever wants newer ones gets them."""
    feed = f.Feed()
    feed.open("call_1", None)
    feed.add("call_1", [an_event("line")] * (f.EVENTS_PER_CALL + 2))
    assert numbers(feed, after=1) is None
    assert numbers(feed, after=2) == list(range(3, f.EVENTS_PER_CALL + 3))
    assert feed.statistics() == {"calls": 1, "events": f.EVENTS_PER_CALL}


def test_ended_calls_leave_memory_before_live_ones() -> None:
    """Of the ended ones the oldest; without any, the oldest live one."""
    feed = f.Feed()
    for number in range(f.CALLS):
        feed.open(f"call_{number}", None)
    feed.end("call_3")
    assert feed.ended("call_3")
    feed.open("call_next", None, ended=True)
    assert not feed.knows("call_3")
    feed.open("call_another", None)
    assert not feed.knows("call_next")
    feed.open("call_last", None)
    assert not feed.knows("call_0")
    assert feed.knows("call_1")
