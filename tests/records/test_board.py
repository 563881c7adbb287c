"""How live calls stand: what changes it, who is told, what is forgotten."""

from __future__ import annotations

from cluster.records import board as b
from tests.records.examples import an_event


def test_events_add_up_to_a_standing() -> None:
    """The newest of each kind counts; what says nothing about the standing changes nothing."""
    board = b.Board(100)
    board.note("call_1", [an_event("actor", slot="slot-1", node="node-1"), an_event("leg", state="ringing")])
    board.note("call_1", [an_event("leg", state="answered"), an_event("quality", mos=4.2, loss=0.0)])
    board.note("call_1", [an_event("latency", name="turn", ms=600)])
    assert board.since(0) == [
        {"call_id": "call_1", "version": 102, "node": "node-1", "leg": "answered", "mos": 4.2},
    ]


def test_a_sentence_grows_until_it_is_whole() -> None:
    """Pieces add up per speaker; the whole line takes their place, and the next piece begins anew."""
    board = b.Board(0)
    seen = []
    for event in (
        an_event("speaking", who="agent", text="Good "),
        an_event("speaking", who="agent", text="morn"),
        an_event("line", who="agent", text="Good morning.", heard=True),
        an_event("speaking", who="agent", text="How "),
        an_event("speaking", who="caller", text="Hi"),
        an_event("speaking", who="caller", text="x" * 200),
    ):
        board.note("call_1", [event])
        [standing] = board.since(0)
        seen.append((standing["who"], standing["words"]))
    assert seen[:5] == [
        ("agent", "Good "),
        ("agent", "Good morn"),
        ("agent", "Good morning."),
        ("agent", "How "),
        ("caller", "Hi"),
    ]
    assert seen[5] == ("caller", "x" * b.WORDS)


def test_a_reader_asks_for_what_is_newer() -> None:
    """Each change is told once to each reader; a version of another board gets everything."""
    board = b.Board(10)
    board.note("call_1", [an_event("leg", state="ringing")])
    board.note("call_2", [an_event("leg", state="ringing")])
    seen = board.version
    assert {standing["call_id"] for standing in board.since(10)} == {"call_1", "call_2"}
    assert board.since(seen) == []
    board.note("call_1", [an_event("leg", state="answered")])
    assert [standing["call_id"] for standing in board.since(seen)] == ["call_1"]
    assert len(board.since(10_000)) == 2


def test_ended_calls_leave_and_memory_is_bounded() -> None:
    """An end is final, also of a call that never stood here; of too many the oldest go."""
    board = b.Board(0)
    for number in range(b.CALLS + 3):
        board.note(f"call_{number}", [an_event("leg", state="ringing")])
    assert len(board.since(0)) == b.CALLS
    board.end("call_100")
    board.end("call_0")
    assert len(board.since(0)) == b.CALLS - 1
