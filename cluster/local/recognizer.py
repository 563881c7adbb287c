"""Hears which of the expected phrases was spoken: pocketsphinx with a finite-state grammar made of those phrases.

Rule 1: a phrase may be left after any word, so that an interrupted sentence is heard as the part that was said.
Rule 2: speech that fits no phrase is "", never the nearest phrase. A word whose acoustic score per frame is too poor
ends what is believed, and too little belief is none.
Rule 3: pocketsphinx holds the GIL while it decodes, so an event loop uses ``RecognizerProcess``.

Measured on espeak-ng speech after a round trip through 8 kHz with noise: right phrases score -2.5 to -1.6 nats per
10 ms frame, the nearest wrong phrase -5.2 to -3.5. Decoding takes 2 to 3 % of the speech's length; loading 150 ms and
45 MB.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import yaml
from pocketsphinx import Decoder

from cluster.local.speech import phonemes

HZ: Final = 16_000
_FRAME_BYTES: Final = HZ // 100 * 2
_WORST_WORD_NATS: Final = -5.2
_WORST_PHRASE_NATS: Final = -3.1
_LEAST_COVERED: Final = 0.5
_PEAK: Final = 24_000.0
_HISS: Final = 250.0
_LEAVE_EARLY: Final = 1e-4
_SAY_ANOTHER: Final = 1e-2
_START, _END = 0, 1

_ARPABET: Final[dict[str, str]] = yaml.safe_load(Path(__file__).with_name("arpabet.yaml").read_text(encoding="utf-8"))
_IPA_UNIT: Final = re.compile("|".join(_ARPABET))


class RecognizerError(ValueError):
    """A phrase can't be listened for: it has no word in it, or a word that can't be pronounced."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    """One expected phrase: the words as written, and each one's spoken form (lower case, bare)."""

    written: tuple[str, ...]
    spoken: tuple[str, ...]


def words_of(text: str) -> tuple[str, ...]:
    """``text`` as bare lower-case words, the form in which two texts are compared: "It's 9:30!" -> it's, 9:30."""
    return tuple(spoken for spoken, _ in _spoken_and_written(text))


def _spoken_and_written(text: str) -> Iterator[tuple[str, str]]:
    for written in text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split():
        spoken = re.sub(r"[^\w:$.'-]|^[^\w$]+|[^\w]+$", "", written.lower())
        if spoken:
            yield spoken, written


class Recognizer:
    """Listens for ``phrases``. Not thread-safe; ``transcribe`` blocks for 2 to 3 % of the audio's length.

    Raises RecognizerError if a phrase can't be listened for.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = [_phrase(text) for text in dict.fromkeys(phrases)]
        self._decoder = Decoder(lm=None, loglevel="FATAL")
        self._learn_words()
        if self._phrases:
            self._decoder.add_fsg("phrases", self._decoder.create_fsg("phrases", _START, _END, _grammar(self._phrases)))
            self._decoder.activate_search("phrases")

    def transcribe(self, pcm16_mono_16khz: bytes) -> str:
        """The phrase spoken, as it was written; its first words if cut off; several if more were said; "" if none."""
        pcm16_mono_16khz = pcm16_mono_16khz[: len(pcm16_mono_16khz) // 2 * 2]
        if not self._phrases or len(pcm16_mono_16khz) < _FRAME_BYTES:
            return ""
        self._decoder.start_utt()
        self._decoder.process_raw(_like_a_telephone(pcm16_mono_16khz), no_search=False, full_utt=True)
        self._decoder.end_utt()
        return _as_written(_believed(self._heard()), self._phrases)

    def _heard(self) -> list[tuple[str, float, int]]:
        if self._decoder.hyp() is None:
            return []
        return [
            (re.sub(r"\(\d+\)$", "", segment.word), _nats(segment.ascore), segment.end_frame - segment.start_frame + 1)
            for segment in self._decoder.seg()
            if segment.word[0] not in "<[("
        ]

    def _learn_words(self) -> None:
        spoken = {word for phrase in self._phrases for word in phrase.spoken}
        unknown = sorted(word for word in spoken if self._decoder.lookup_word(word) is None)
        for word in unknown:
            sounds = " ".join(_ARPABET[unit] for unit in _IPA_UNIT.findall(phonemes(word)))
            if not sounds:
                raise RecognizerError(f"the word {word!r} can't be pronounced; write it in English words")
            self._decoder.add_word(word, sounds, word == unknown[-1])


def _like_a_telephone(pcm16: bytes) -> bytes:
    """The same sound at a fixed level over a fixed hiss: the model has never heard digital silence above 4 kHz."""
    samples = np.frombuffer(pcm16, dtype="<i2").astype(np.float32)
    loudest = float(np.abs(samples).max())
    level = _PEAK / loudest if loudest > _HISS else 1.0
    hiss = np.random.default_rng(0).normal(0.0, _HISS, samples.size)
    return bytes(np.clip(samples * level + hiss, -32768, 32767).astype("<i2").tobytes())


def _phrase(text: str) -> _Phrase:
    pairs = tuple(_spoken_and_written(text))
    if not pairs:
        raise RecognizerError(f"the phrase {text!r} has no words to listen for")
    return _Phrase(written=tuple(written for _, written in pairs), spoken=tuple(spoken for spoken, _ in pairs))


def _grammar(phrases: Sequence[_Phrase]) -> list[tuple[Any, ...]]:
    """Arcs (from, to, probability[, word]); an arc without a word is taken in silence."""
    arcs: list[tuple[Any, ...]] = []
    state, fresh = _START, _END
    for phrase in phrases:
        state = _START
        for word in phrase.spoken:
            fresh += 1
            arcs.append((state, fresh, 1.0 / len(phrases) if state == _START else 1.0, word))
            state = fresh
            arcs.append((state, _END, _LEAVE_EARLY))
        arcs[-1] = (state, _END, 1.0)
        arcs.append((state, _START, _SAY_ANOTHER))
    return arcs


def _nats(score: float) -> float:
    # The lower bound keeps the logarithm finite.
    return math.log(max(score, 1e-300))


def _believed(heard: Sequence[tuple[str, float, int]]) -> list[str]:
    """The leading words whose sound fits; none when they fit badly together or leave most of the speech unexplained.

    One word in the middle may be slurred; what follows two that do not fit, or ends in one, is not believed.
    """
    fits = [nats / frames >= _WORST_WORD_NATS for _, nats, frames in heard]
    count = next((at for at in range(1, len(fits)) if not fits[at - 1] and not fits[at]), len(fits))
    while count and not fits[count - 1]:
        count -= 1
    kept, kept_frames = heard[:count], sum(frames for _, _, frames in heard[:count])
    if not kept or kept_frames < _LEAST_COVERED * sum(frames for _, _, frames in heard):
        return []
    if sum(nats for _, nats, _ in kept) / kept_frames < _WORST_PHRASE_NATS:
        return []
    return [word for word, _, _ in kept]


def _as_written(heard: Sequence[str], phrases: Sequence[_Phrase]) -> str:
    written: list[str] = []
    position = 0
    while position < len(heard):
        rest = tuple(heard[position:])
        count, phrase = max(((_shared(rest, phrase.spoken), phrase) for phrase in phrases), key=_fit)
        # A single word begun after a whole phrase is a breath or the line's noise.
        if count == 0 or (written and count == 1 < len(phrase.spoken)):
            break
        written.extend(phrase.written[:count])
        position += count
    return " ".join(written)


def _shared(heard: Sequence[str], spoken: Sequence[str]) -> int:
    count = 0
    for left, right in zip(heard, spoken, strict=False):
        if left != right:
            break
        count += 1
    return count


def _fit(match: tuple[int, _Phrase]) -> tuple[int, bool]:
    return match[0], match[0] == len(match[1].spoken)


class RecognizerProcess:
    """A recogniser in a process of its own, for callers on an event loop. Starts on first use; ``close`` ends it."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_yield_to_calls)

    async def transcribe(self, phrases: Sequence[str], pcm16_mono_16khz: bytes) -> str:
        """As ``Recognizer(phrases).transcribe``; the grammar is kept between calls with the same phrases."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _transcribe, tuple(phrases), pcm16_mono_16khz)

    async def warm(self, phrases: Sequence[str]) -> None:
        """Starts the process and builds the grammar, so that the first real transcription is not late."""
        await self.transcribe(phrases, b"")

    def close(self) -> None:
        """Ends the process; transcriptions still waiting are cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)


def _yield_to_calls() -> None:
    # Live calls beat every 20 ms on the same cores; decoding a finished sentence can wait its turn.
    os.nice(5)


@lru_cache(maxsize=8)
def _recognizer(phrases: tuple[str, ...]) -> Recognizer:
    return Recognizer(phrases)


def _transcribe(phrases: tuple[str, ...], pcm16_mono_16khz: bytes) -> str:
    return _recognizer(phrases).transcribe(pcm16_mono_16khz)
