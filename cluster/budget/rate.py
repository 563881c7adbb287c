"""How fast a trunk may be given calls: a bucket with one token, filled so many times a second. Pure.

One token and no more: a carrier counts the calls of any second, and two that were saved up would be one too many.
"""

from __future__ import annotations


class Rate:
    """When the next call may go out. `now` is monotonic seconds."""

    def __init__(self, per_second: float, now: float) -> None:
        """The bucket is empty at first: an earlier process may have placed a call a moment ago."""
        self._gap_s = 1 / per_second
        self._next = now + self._gap_s

    def wait_s(self, now: float) -> float:
        """In how many seconds a call may go out; 0 for now."""
        return max(0.0, self._next - now)

    def take(self, now: float) -> None:
        """A call goes out."""
        self._next = max(self._next, now) + self._gap_s
