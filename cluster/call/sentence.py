"""The recorded sentences for when no model can speak: files, since they must work when nothing else does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import soundfile

FILLER = Path(__file__).with_name("filler.wav")
"""Asks for a moment of patience."""
UNAVAILABLE = Path(__file__).with_name("unavailable.wav")


@cache
def recorded(file: str | Path) -> tuple[bytes, int]:
    """16-bit mono PCM and its rate in Hz."""
    samples, rate_hz = soundfile.read(file, dtype="int16", always_2d=True)
    return samples[:, 0].tobytes(), rate_hz


def unavailable_sentence(file: str | None) -> tuple[bytes, int]:
    """From the profile's own file, or the English one that is shipped."""
    return recorded(file or UNAVAILABLE)
