"""How a phone number is shown to people who need not know it: by itself, since every process logs and few parse."""

from __future__ import annotations

from typing import Final

_VISIBLE_DIGITS: Final = 2


def mask(number: str) -> str:
    """The number with all but its last two characters hidden; its length and its + stay."""
    sign, digits = ("+", number[1:]) if number.startswith("+") else ("", number)
    if len(digits) <= _VISIBLE_DIGITS:
        return sign + "*" * len(digits)
    return sign + "*" * (len(digits) - _VISIBLE_DIGITS) + digits[-_VISIBLE_DIGITS:]
