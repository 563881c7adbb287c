"""The live feed: the newest events of each call, in memory, numbered, for readers who wait for the next one.

Rules of this file:
1. It is pure: who waits, and how the database is asked for what is older, is the shell's business.
2. Numbers (`seq`) grow within a call and are never used twice, but may leave gaps.
3. Memory is bounded: `EVENTS_PER_CALL` newest events of a call, `CALLS` calls, ended ones leave first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.messages import CallEvent
from cluster.records.views import event_view

EVENTS_PER_CALL: Final = 500
CALLS: Final = 1000
RESTART_GAP: Final = 1000
"""After a restart numbering goes on this far behind what is stored: what was shown but not yet stored keeps its own."""

Entry = tuple[int, dict[str, Any]]


@dataclass(slots=True)
class _Course:
    """What is in memory of one call: everything after `floor`."""

    floor: int
    next_seq: int
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=EVENTS_PER_CALL))
    ended: bool = False


class Feed:
    """The events of the calls that somebody may be watching."""

    def __init__(self) -> None:
        self._courses: OrderedDict[str, _Course] = OrderedDict()

    def knows(self, call_id: str) -> bool:
        """Whether this call has been opened."""
        return call_id in self._courses

    def open(self, call_id: str, last_seq: int | None, *, ended: bool = False) -> None:
        """Take up a call whose newest stored event is `last_seq`, or that has none (None). Once is enough."""
        if call_id in self._courses:
            return
        floor = last_seq or 0
        gap = 0 if last_seq is None else RESTART_GAP
        self._courses[call_id] = _Course(floor=floor, next_seq=floor + gap + 1, ended=ended)
        while len(self._courses) > CALLS:
            self._forget_one()

    def add(self, call_id: str, events: Iterable[CallEvent]) -> list[tuple[int, CallEvent]]:
        """Number the events of one opened call and keep them."""
        course = self._courses[call_id]
        numbered = []
        for event in events:
            seq = course.next_seq
            course.next_seq += 1
            if len(course.entries) == EVENTS_PER_CALL:
                course.floor = course.entries[0][0]
            course.entries.append((seq, event_view(seq, event.kind, event.at_s, event.fields)))
            numbered.append((seq, event))
        return numbered

    def since(self, call_id: str, after: int) -> list[Entry] | None:
        """The events numbered higher than `after`; None if the oldest of them is no longer in memory."""
        course = self._courses[call_id]
        if after < course.floor:
            return None
        return [entry for entry in course.entries if entry[0] > after]

    def end(self, call_id: str) -> None:
        """Nothing more comes of this call."""
        self._courses[call_id].ended = True

    def ended(self, call_id: str) -> bool:
        """Whether nothing more comes of this call."""
        return self._courses[call_id].ended

    def statistics(self) -> Mapping[str, int]:
        """How much is in memory."""
        return {"calls": len(self._courses), "events": sum(len(c.entries) for c in self._courses.values())}

    def _forget_one(self) -> None:
        oldest_ended = next((call_id for call_id, course in self._courses.items() if course.ended), None)
        self._courses.pop(oldest_ended if oldest_ended is not None else next(iter(self._courses)))
