"""What a call waits for, and until when. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

WRAP_UP_S: Final = 15.0
"""A goodbye takes a few seconds; the model is told this long before the hard end."""
TAIL_S: Final = 0.35
"""Between the last sample played and the hang-up: the jitter buffers on the way to the phone (measured 125 to 145 ms
on loopback) must run empty, or the last word is cut."""


class Timer(StrEnum):
    """What a call waits for."""

    SETUP = "setup"
    WRAP_UP = "wrap-up"
    HARD_END = "hard-end"
    IDLE = "idle"
    GOODBYE = "goodbye"
    TAIL = "tail"
    BARGE_IN = "barge-in"
    TRANSFER = "transfer"


class Timers:
    """The timers of one call. Times are seconds of any clock that does not jump."""

    def __init__(self, timer: Timer, at: float) -> None:
        self._at = {timer: at}

    def start(self, timer: Timer, at: float) -> None:
        """Wait for it until `at`."""
        self._at[timer] = at

    def stop(self, *timers: Timer) -> None:
        """Wait for these no more."""
        for timer in timers:
            self._at.pop(timer, None)

    def only(self, timer: Timer, at: float) -> None:
        """Wait for nothing else."""
        self._at = {timer: at}

    def clear(self) -> None:
        """Wait for nothing."""
        self._at = {}

    def talk(self, since: float, max_s: float) -> None:
        """The conversation that began then may last `max_s`: wait for its end, the polite one and the hard one."""
        self._at = {Timer.WRAP_UP: since + max(max_s - WRAP_UP_S, max_s / 2), Timer.HARD_END: since + max_s}

    def wrap_up(self, now: float) -> None:
        """The goodbye begins."""
        self.stop(Timer.IDLE, Timer.WRAP_UP)
        at = now + WRAP_UP_S
        self._at[Timer.HARD_END] = min(at, self._at.get(Timer.HARD_END, at))

    def take_due(self, now: float) -> Timer | None:
        """The one that has waited for longest, which is stopped; None where none is due."""
        timer = min(self._at, key=self._at.__getitem__, default=None)
        if timer is None or self._at[timer] > now:
            return None
        del self._at[timer]
        return timer

    def deadline(self) -> float | None:
        """When the next one is due, or None."""
        return min(self._at.values(), default=None)
