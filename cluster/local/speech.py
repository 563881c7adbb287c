"""Real speech for the local endpoint and the phones, from the espeak-ng engine in the ``espeakng-loader`` wheel.

Rule 1: the same text in the same voice is the same sound, bit by bit, in every process and whatever was said before.
Rule 2: it is synthesised once; later calls are a cache look-up.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import espeakng_loader
import numpy as np
import soxr

Voice = Literal["agent", "caller"]

_RETRIEVAL: Final = 1
_UTF8: Final = 1
_IPA: Final = 2
_RATE: Final = 1
_PITCH: Final = 3
_RANGE: Final = 4
_WORDGAP: Final = 7
_AUDIBLE: Final = 0.004
_LONGEST_PAUSE_MS: Final = 250
_MAX_CACHED_BYTES: Final = 64 * 1024 * 1024
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class SpeechError(RuntimeError):
    """The speech engine could not be loaded or refused a text."""


@dataclass(frozen=True, slots=True)
class _Sound:
    """How one voice sounds: espeak-ng's name, words per minute, pitch and its range (0-100), word gap in 10 ms."""

    name: bytes
    rate_wpm: int
    pitch: int
    pitch_range: int
    word_gap: int


_SOUNDS: Final[dict[Voice, _Sound]] = {
    "agent": _Sound(b"en-us", 150, 45, 50, 1),
    "caller": _Sound(b"en-us", 145, 70, 55, 1),
}


_ENGINE: Final = threading.Lock()


class _Engine:
    """The espeak-ng library as it was never used before; ``close`` unloads it.

    It keeps the phase of its oscillators from text to text and can't be told to forget it: a text would sound a
    little different each time, and now and then too different to be recognised. 20 ms a text, most of it synthesis.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._collect)
        try:
            self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise SpeechError(
                f"espeak-ng could not be loaded: {error}. Reinstall espeakng-loader for this platform."
            ) from error
        self.hz: int = self._lib.espeak_Initialize(_RETRIEVAL, 0, str(espeakng_loader.get_data_path()).encode(), 0)
        if self.hz <= 0:
            raise SpeechError(
                f"espeak-ng did not start (code {self.hz}): its voice files are missing. Reinstall espeakng-loader."
            )
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._lib.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]

    def close(self) -> None:
        """Gives the library back, with all that it remembers."""
        self._lib.espeak_Terminate()
        _ctypes.dlclose(self._lib._handle)  # noqa: SLF001 (documented, though it looks private)

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, count * 2))
        return 0

    def synthesise(self, text: str, sound: _Sound) -> bytes:
        """PCM16 mono at ``self.hz``; blocks for about 1 % of the speech's length. Raises SpeechError."""
        encoded = text.encode() + b"\0"
        self._lib.espeak_SetVoiceByName(sound.name)
        settings = (
            (_RATE, sound.rate_wpm),
            (_PITCH, sound.pitch),
            (_RANGE, sound.pitch_range),
            (_WORDGAP, sound.word_gap),
        )
        for parameter, value in settings:
            self._lib.espeak_SetParameter(parameter, value, 0)
        code = self._lib.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, _UTF8, None, None)
        self._lib.espeak_Synchronize()
        if code != 0:
            raise SpeechError(f"espeak-ng refused a text of {len(text)} characters (code {code})")
        return b"".join(self._pieces)

    def phonemes(self, text: str) -> str:
        """How the engine would pronounce ``text`` in American English, in IPA with stress marks."""
        rest = ctypes.c_char_p(text.encode())
        clauses: list[str] = []
        self._lib.espeak_SetVoiceByName(_SOUNDS["agent"].name)
        while rest.value is not None:
            clauses.append(self._lib.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
        return " ".join(clauses)


@contextmanager
def _engine() -> Iterator[_Engine]:
    # Its state is in C globals: one text at a time, and the library aborts the process if it is started twice.
    with _ENGINE, closing(_Engine()) as engine:
        yield engine


def phonemes(text: str) -> str:
    """IPA of ``text`` as this engine says it; what a recogniser needs for a word that its dictionary lacks."""
    with _engine() as engine:
        return engine.phonemes(text)


class Speaker:
    """Says text as PCM16 mono. Thread-safe; blocks for some 30 ms the first time that a text is said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cached: OrderedDict[tuple[str, Voice, int], bytes] = OrderedDict()
        self._cached_bytes = 0

    def say(self, text: str, voice: Voice = "agent", hz: int = 24_000) -> bytes:
        """``text`` spoken by ``voice``: PCM16 little-endian mono at ``hz``, trimmed of silence at both ends.

        Raises SpeechError if the engine is missing or refuses the text.
        """
        key = (text, voice, hz)
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
        with _engine() as engine:
            synthesised, from_hz = engine.synthesise(text, _SOUNDS[voice]), engine.hz
        speech = _render(synthesised, from_hz, hz)
        with self._lock:
            if key not in self._cached:
                self._cached[key] = speech
                self._cached_bytes += len(speech)
            while self._cached_bytes > _MAX_CACHED_BYTES:
                self._cached_bytes -= len(self._cached.popitem(last=False)[1])
        return speech


def _render(pcm16: bytes, from_hz: int, to_hz: int) -> bytes:
    samples = np.frombuffer(pcm16, dtype="<i2").astype(np.float32) / 32768.0
    loud = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    if loud.size == 0:
        return b""
    margin = from_hz // 50
    first, last = max(0, int(loud[0]) - margin), int(loud[-1]) + margin
    # The engine stops for half a second between sentences, long enough to be taken for the end of a turn.
    position = np.arange(samples.size)
    newest_loud = np.zeros_like(position)
    newest_loud[loud] = loud
    quiet_for = position - np.maximum.accumulate(newest_loud)
    samples = samples[first:last][quiet_for[first:last] < from_hz * _LONGEST_PAUSE_MS // 1000]
    resampled = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return bytes((np.clip(resampled, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
