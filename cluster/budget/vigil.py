"""Which calls have not been heard of for too long. Pure; `now` is monotonic seconds.

Ray sees a process that ended within 20 ms, but a node that died only after 15 s, one that is frozen after 65 s, and a
frozen process never (measured). The heartbeats of the calls tell within two seconds.
"""

from __future__ import annotations

from typing import Final

MISSED_BEATS: Final = 3
DOUBTED_BEATS: Final = 1.5
"""Of one that can't be reached: the next beat should have come by then."""
LATE_S: Final = 1.0
"""Whoever looks so late was not there to hear anybody, and suspects nobody for it."""


class Vigil:
    """When each call was last heard."""

    def __init__(self, renew_every_s: float) -> None:
        self._silent_s = MISSED_BEATS * renew_every_s
        self._heard_at: dict[str, float] = {}
        self._looked_at: float | None = None

    def heard(self, lease_id: str, now: float) -> None:
        """A sign of life."""
        self._heard_at[lease_id] = now

    def doubt(self, lease_id: str, now: float) -> None:
        """It can't be reached, as if it had died with its node; but it may be heard all the same."""
        due_at = now + DOUBTED_BEATS * self._silent_s / MISSED_BEATS
        self._heard_at[lease_id] = min(self._heard_at.get(lease_id, now), due_at - self._silent_s)

    def forget(self, lease_id: str) -> None:
        """Nothing is expected of it any more."""
        self._heard_at.pop(lease_id, None)

    def silent(self, now: float) -> list[str]:
        """Those that missed their beats. Each is named again only after as long a silence."""
        late_s = 0.0 if self._looked_at is None else now - self._looked_at - LATE_S
        self._looked_at = now
        if late_s > 0:
            self._heard_at = {lease_id: at + late_s + LATE_S for lease_id, at in self._heard_at.items()}
        found = [lease_id for lease_id, at in self._heard_at.items() if now - at > self._silent_s]
        for lease_id in found:
            self._heard_at[lease_id] = now
        return found
