"""A model that owes an answer and does not give one: when that is noticed, and what is tried, step by step.

Rules of this file:
1. Something is owed from the moment that the caller stops speaking, or that the model stops in mid sentence.
2. Each step has the same time to work. Audible speech of the agent takes the ladder back to its first step.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ANSWER_WITHIN_S: Final = 2.5
"""From the end of the caller's speech, or from the last sound of a sentence that breaks off. A good answer takes one
second, a slow one two."""
SILENT_RMS: Final = 16.0
"""About -66 dBFS: full-length answers of near-zero samples are known (one in twenty calls of a bad week)."""
SILENT_FOR_MS: Final = 1_000.0
"""So much of it at the beginning of an answer is no breath."""


class Cure(StrEnum):
    """What is tried against silence, in this order."""

    NUDGE = "nudge"
    """Tell the model that somebody waits."""
    RESUME = "resume"
    """A new connection that goes on from the newest handle."""
    FRESH = "fresh"
    """A new connection that is told what was said."""
    GIVE_UP = "give-up"
    """Apologise and hang up."""


_LADDER: Final = (Cure.NUDGE, Cure.RESUME, Cure.FRESH, Cure.FRESH, Cure.GIVE_UP)
"""Two fresh sessions: of 385 calls with more than three faults each, four were given up after one (measured)."""


class StallWatch:
    """Watches one conversation."""

    def __init__(self, within_s: float = ANSWER_WITHIN_S) -> None:
        self._within_s = within_s
        self._step = 0
        self._silent_ms = 0.0
        self.due: float | None = None
        """When the next cure is due, or None while nothing is owed."""

    @property
    def owed(self) -> bool:
        """Whether an answer is due."""
        return self.due is not None

    def owe(self, since: float) -> None:
        """An answer is owed since then."""
        self.due = since + self._within_s

    def excuse(self) -> None:
        """Nothing is owed for now: somebody speaks, a tool runs, or no connection serves."""
        self.due = None

    def agent_audio(self, ms: float, rms: float) -> bool:
        """The model sent audio; True where the answer has turned out to be silence."""
        self.due = None
        if rms > SILENT_RMS:
            self._step, self._silent_ms = 0, 0.0
            return False
        self._silent_ms += ms
        return self._silent_ms >= SILENT_FOR_MS

    def cure(self, now: float) -> Cure:
        """The next thing to try; what comes of it is watched in turn."""
        cure = _LADDER[self._step]
        self._step = min(self._step + 1, len(_LADDER) - 1)
        self._silent_ms = 0.0
        self.due = now + self._within_s
        return cure
