"""Tells the caller's voice from the echo of the agent's, on lines that send it back. Pure.

Rules of this file: levels are RMS of 16-bit samples; `now` is seconds of any clock that does not jump.

A phone that is on speaker, or a gateway without echo cancellation, returns the agent's words 10 to 25 dB weaker and up
to half a second later, and the model takes them for an interruption (streamcore #48).
"""

from __future__ import annotations

from collections import deque
from typing import Final

ECHO_S: Final = 0.5
"""The longest way there and back: two jitter buffers and a mobile network."""
RETURN_LOSS: Final = 0.3
"""An echo is at least 10 dB weaker than the voice that it comes from; a caller who interrupts is not."""


class EchoGuard:
    """Remembers how loud the agent was a moment ago."""

    def __init__(self) -> None:
        self._played: deque[tuple[float, float]] = deque()

    def played(self, level: float, now: float) -> None:
        """A piece of the agent's voice went to the line."""
        self._played.append((now, level))

    def is_echo(self, level: float, now: float) -> bool:
        """Whether the caller's line is no louder than the agent's echo would be."""
        while self._played and self._played[0][0] < now - ECHO_S:
            self._played.popleft()
        return bool(self._played) and level < RETURN_LOSS * max(level for _, level in self._played)
