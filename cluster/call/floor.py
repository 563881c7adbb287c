"""Who speaks, and how long the other one waited. Pure.

Rules of this file: `now` is seconds of any clock that does not jump. What is measured is kept in `latencies_ms` and
handed out once, for the timeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.call.events import Note


@dataclass(slots=True)
class Floor:
    """The floor of one conversation: either side may hold it, and both do for a moment when one interrupts."""

    agent_speaking: bool = False
    caller_speaking: bool = False
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    _caller_began_at: float | None = None
    _caller_ended_at: float | None = None

    @property
    def is_free(self) -> bool:
        """Nobody speaks."""
        return not (self.agent_speaking or self.caller_speaking)

    def agent_began(self, now: float, answered_at: float | None) -> list[Note]:
        """The agent's voice is heard from now on."""
        if self.agent_speaking:
            return []
        self.agent_speaking = True
        measured: list[Note] = []
        if answered_at is not None and "first_audio" not in self.latencies_ms:
            measured.append(self._measure("first_audio", now - answered_at))
        if self._caller_ended_at is not None:
            measured.append(self._measure("turn", now - self._caller_ended_at))
        self._caller_ended_at = None
        return measured

    def agent_was_cut(self, now: float) -> list[Note]:
        """Barge-in: the agent fell silent."""
        measured: list[Note] = []
        if self._caller_began_at is not None and self.agent_speaking:
            measured.append(self._measure("barge_in", now - self._caller_began_at))
        self.agent_speaking = False
        return measured

    def caller_began(self, now: float) -> None:
        """The caller's voice is heard."""
        self.caller_speaking = True
        self._caller_began_at, self._caller_ended_at = now, None

    def caller_ended(self, at: float) -> None:
        """The caller's voice ended then."""
        self.caller_speaking = False
        self._caller_began_at, self._caller_ended_at = None, at

    def _measure(self, name: str, seconds: float) -> Note:
        self.latencies_ms.setdefault(name, []).append(seconds * 1000)
        return Note("latency", {"name": name, "ms": round(seconds * 1000, 1)})
