"""Which of a few known lines was heard, by its sound: for load and fault tests, where a recognizer would be the load.

Rule 1: pure but for the cache of spoken lines. Rule 2: it only works on speech that no codec has changed, and that was
said by the same speaker; a line that is cut at one end, or said twice, is still found.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from cluster.local.speech import Speaker

if TYPE_CHECKING:
    import numpy.typing as npt

_HZ: Final = 16_000
_EVERY: Final = 2
"""8 kHz is enough to tell lines apart."""
_LEAST_FIT: Final = 0.3
_SPEAKER: Final = Speaker()


def best_line(lines: Sequence[str], pcm16: bytes) -> str:
    """The line that was said in this PCM16 mono at 16 kHz; empty if it is none of them."""
    heard = _samples(pcm16)
    fits = [(_fit(heard, _spoken(line)), line) for line in lines]
    fit, line = max(fits, default=(0.0, ""))
    return line if fit >= _LEAST_FIT else ""


def _fit(heard: npt.NDArray[np.float32], line: npt.NDArray[np.float32]) -> float:
    """The highest correlation over all offsets, 1 for the very same samples."""
    if not len(heard):
        return 0.0
    size = 1 << (len(heard) + len(line) - 1).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(line, size))
    energy = min(float(np.dot(heard, heard)), float(np.dot(line, line)))
    return float(np.fft.irfft(spectrum, size).max()) / max(energy, 1e-6)


@lru_cache(maxsize=256)
def _spoken(line: str) -> npt.NDArray[np.float32]:
    return _samples(_SPEAKER.say(line, "caller", _HZ))


def _samples(pcm16: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(pcm16, "<i2")[::_EVERY].astype(np.float32)
