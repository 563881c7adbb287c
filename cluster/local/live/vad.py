"""Hears where the caller's speech begins and ends, by its energy over a noise floor that follows the line.

Rule 1: no clock; time is the position in the audio. Rule 2: what is fed in pieces of any size gives the same events.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

FRAME_MS: Final = 10
BYTES_PER_MS: Final = 32
_FRAME_BYTES: Final = FRAME_MS * BYTES_PER_MS
_QUIETEST_SPEECH_DBFS: Final = -46.0
_LOUDEST_FLOOR_DBFS: Final = -32.0
_FIRST_FLOOR_DBFS: Final = -65.0
_SHORT_DIP_MS: Final = 30
# The floor is the quietest 100 ms of the last 3 s: longer than the words of a sentence without a gap, and short enough
# to follow a changing line.
_BLOCK_FRAMES: Final = 10
_BLOCKS: Final = 30
PAUSE_MS: Final = 150
"""Silence after which what was said so far may be looked at, long before the turn is taken to be over."""


class Sensitivity(StrEnum):
    """How readily speech is taken to start (or to end)."""

    HIGH = "HIGH"
    LOW = "LOW"


@dataclass(frozen=True, slots=True)
class VadSettings:
    """``automaticActivityDetection`` of the setup; None takes the default of the sensitivity."""

    start: Sensitivity = Sensitivity.HIGH
    end: Sensitivity = Sensitivity.HIGH
    prefix_ms: int | None = None
    """Speech needed before its start is committed."""
    silence_ms: int | None = None
    """Silence needed before its end is committed."""


class Heard(StrEnum):
    """What the detector reports."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    END = "end"


_OVER_FLOOR_DB: Final = {Sensitivity.HIGH: 9.0, Sensitivity.LOW: 14.0}
_PREFIX_MS: Final = {Sensitivity.HIGH: 40, Sensitivity.LOW: 100}
_STAYS_OVER_DB: Final = {Sensitivity.HIGH: 6.0, Sensitivity.LOW: 3.0}
_SILENCE_MS: Final = 800


class Vad:
    """Feed it PCM16 mono at 16 kHz; it says when speech started, paused, resumed and ended."""

    def __init__(self, settings: VadSettings) -> None:
        self._over_floor_db = _OVER_FLOOR_DB[settings.start]
        self._stays_over_db = min(_STAYS_OVER_DB[settings.end], self._over_floor_db)
        self._prefix_ms = max(
            FRAME_MS, _PREFIX_MS[settings.start] if settings.prefix_ms is None else settings.prefix_ms
        )
        self._silence_ms = max(FRAME_MS, _SILENCE_MS if settings.silence_ms is None else settings.silence_ms)
        self._rest = b""
        self._blocks: deque[float] = deque(maxlen=_BLOCKS)
        self._block: list[float] = []
        self._floor_dbfs = _FIRST_FLOOR_DBFS
        self._loud_ms = 0
        self._quiet_ms = 0
        self.speaking = False
        self.speech_ms = 0
        """Speech heard since the last start, pauses not counted."""
        self.last_was_loud = False
        """Whether the newest frame was speech."""

    def feed(self, pcm16: bytes) -> list[Heard]:
        """The events in this piece, in order."""
        buffered = self._rest + pcm16
        count = len(buffered) // _FRAME_BYTES
        self._rest = buffered[count * _FRAME_BYTES :]
        if count == 0:
            return []
        samples = np.frombuffer(buffered, dtype="<i2", count=count * _FRAME_BYTES // 2).astype(np.float32)
        frames = samples.reshape(count, -1) / 32768.0
        power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
        events: list[Heard] = []
        for level_dbfs in (10.0 * np.log10(power + 1e-12)).tolist():
            self._follow(level_dbfs)
            event = self._step(level_dbfs)
            if event is not None:
                events.append(event)
        return events

    def end_now(self) -> list[Heard]:
        """The stream stopped: open speech ends here."""
        if not self.speaking:
            return []
        self.speaking = False
        return [Heard.END]

    def _follow(self, level_dbfs: float) -> None:
        self._block.append(level_dbfs)
        if len(self._block) < _BLOCK_FRAMES:
            return
        self._blocks.append(sum(self._block) / _BLOCK_FRAMES)
        self._block.clear()
        self._floor_dbfs = min(*self._blocks, _LOUDEST_FLOOR_DBFS)

    def _step(self, level_dbfs: float) -> Heard | None:
        over_db = self._stays_over_db if self.speaking else self._over_floor_db
        self.last_was_loud = level_dbfs > max(self._floor_dbfs + over_db, _QUIETEST_SPEECH_DBFS)
        if self.last_was_loud:
            return self._louder()
        self._quiet_ms += FRAME_MS
        if self._quiet_ms > _SHORT_DIP_MS:
            self._loud_ms = 0
        if not self.speaking:
            return None
        if self._quiet_ms >= self._silence_ms:
            self.speaking = False
            return Heard.END
        return Heard.PAUSE if self._quiet_ms == PAUSE_MS else None

    def _louder(self) -> Heard | None:
        resumed = self.speaking and self._quiet_ms >= PAUSE_MS
        self._quiet_ms = 0
        self._loud_ms += FRAME_MS
        self.speech_ms += FRAME_MS
        if self.speaking:
            return Heard.RESUME if resumed else None
        if self._loud_ms < self._prefix_ms:
            return None
        self.speaking = True
        self.speech_ms = self._loud_ms
        return Heard.START
