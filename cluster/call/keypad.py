"""The keys that a caller presses, gathered into what was entered: digits, up to the end key or a pause. Pure.

Keys come as RFC 4733 events, one by one; a number that is told to the model digit by digit would be answered digit by
digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEYS: Final = "0123456789*#ABCD"
"""In the order of their codes (RFC 4733, 3.2)."""
MAX_KEYS: Final = 32
"""Longer than any number that is entered on a telephone; a key that is stuck is told in pieces."""


@dataclass(frozen=True, slots=True)
class KeypadRules:
    """When an input is complete."""

    timeout_s: float = 2.0
    """So long after the last key."""
    end_key: str = "#"
    """Or with this key, which is no part of it; empty: only by the pause."""


class Keypad:
    """One caller's keys. `due` is when what was entered so far is complete, or None."""

    def __init__(self, rules: KeypadRules) -> None:
        self._rules = rules
        self._keys = ""
        self.due: float | None = None

    def press(self, key: str, now: float) -> None:
        """One key, at `now` (seconds). After the end key or `MAX_KEYS` keys it is due at once."""
        self._keys += key
        is_complete = key == self._rules.end_key or len(self._keys) >= MAX_KEYS
        self.due = now if is_complete else now + self._rules.timeout_s

    def take(self, now: float) -> str:
        """What was entered, once it is complete at `now`; empty before. The end key alone is an input, too."""
        if self.due is None or self.due > now:
            return ""
        keys, self._keys, self.due = self._keys, "", None
        end_key = self._rules.end_key
        return keys.removesuffix(end_key) or keys if end_key else keys
