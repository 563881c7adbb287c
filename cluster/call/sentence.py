"""The recorded sentence for callers whom no model can serve: a file, since it must work when nothing else does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import soundfile

SHIPPED = Path(__file__).with_name("unavailable.wav")


@cache
def unavailable_sentence(file: str | None) -> tuple[bytes, int]:
    """16-bit mono PCM and its rate in Hz, from the profile's own file or the English one that is shipped."""
    samples, rate_hz = soundfile.read(file or SHIPPED, dtype="int16", always_2d=True)
    return samples[:, 0].tobytes(), rate_hz
