"""What a phone hears, as the beginnings and ends of the agent's speech. Pure: blocks and times in, marks out.

Rule 1: a time is that at which the sound left the phone's jitter buffer, or entered the phone's microphone.
Rule 2: speech is energy over a threshold. A pause shorter than ``TURN_GAP_MS`` belongs to the turn: the local speech
engine pauses for 450 ms between two sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

HZ: Final = 16_000
BLOCK_MS: Final = 10
TURN_GAP_MS: Final = 700
SILENCE_MS: Final = 500
"""So long a quiet after a barge-in is silence, and not the agent's breath."""
LOUD_RMS: Final = 150.0
"""-47 dBFS: above what Opus makes of silence, below the quietest tenth of the local speech engine's blocks (430)."""
MAX_KEPT_S: Final = 180
_BLOCK: Final = HZ * BLOCK_MS // 1000
_BEGINNING_BLOCKS: Final = 2
"""A single loud block is a click."""
_PRE_ROLL_BLOCKS: Final = 10


class Kind(StrEnum):
    """What a mark marks. The agent's are heard, the phone's are said."""

    SUBSCRIBED = "subscribed"
    AGENT_BEGAN = "agent-began"
    AGENT_ENDED = "agent-ended"
    SAID_BEGAN = "said-began"
    SAID_ENDED = "said-ended"
    BARGE_IN = "barge-in"
    SILENCED = "silenced"
    """The end of the last sound of an agent that was spoken over."""


@dataclass(frozen=True, slots=True)
class Mark:
    """``kind`` happened at ``at`` monotonic seconds."""

    kind: Kind
    at: float


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """One turn of the agent as the phone heard it: PCM16 mono at 16 kHz, and its time in monotonic seconds."""

    began: float
    ended: float
    pcm16: bytes


@dataclass(slots=True)
class Ears:
    """Hears one line. Feed it what arrives with `hear`; it tells what began and ended."""

    talking: bool = False
    """Whether the agent is in a turn, pauses included."""
    heard_ms: int = 0
    loud_ms: int = 0
    longest_silence_ms: int = 0
    """The longest stretch in which neither side made a sound."""
    last_loud: float = 0.0
    """When the agent was last heard, in monotonic seconds."""
    _loud_blocks: int = 0
    _quiet_blocks: int = 0
    _dead_blocks: int = 0
    _began: float = 0.0
    _barge_in: float | None = None
    _pre_roll: list[bytes] = field(default_factory=list)
    _turn: bytearray = field(default_factory=bytearray)
    turns: list[HeardTurn] = field(default_factory=list)
    """The last ``MAX_KEPT_S`` seconds of the agent's speech."""

    def hear(self, pcm16: bytes | memoryview, at: float, *, speaking: bool) -> Sequence[Mark]:
        """A few whole blocks that are complete at ``at``; ``speaking`` is whether this phone makes sound meanwhile."""
        samples = np.frombuffer(pcm16, dtype="<i2")
        blocks = samples[: samples.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
        marks: list[Mark] = []
        for index, (block, rms) in enumerate(zip(blocks, _rms(blocks), strict=True)):
            began = at - (len(blocks) - index) * BLOCK_MS / 1000
            loud = bool(rms >= LOUD_RMS)
            self.heard_ms += BLOCK_MS
            self.loud_ms += BLOCK_MS * loud
            self._dead_blocks = 0 if loud or speaking else self._dead_blocks + 1
            self.longest_silence_ms = max(self.longest_silence_ms, self._dead_blocks * BLOCK_MS)
            marks.extend(self._step(began, block.tobytes(), loud=loud))
        return marks

    def finish(self) -> Sequence[Mark]:
        """The call is over, and with it the turn that the agent was in."""
        if not self.talking:
            return ()
        self.talking = False
        self._keep(HeardTurn(self._began, self.last_loud, bytes(self._turn)))
        return (Mark(Kind.AGENT_ENDED, self.last_loud),)

    def barge_in(self, at: float) -> None:
        """The phone began to speak over the agent."""
        if self.talking:
            self._barge_in = at

    def _step(self, began: float, block: bytes, *, loud: bool) -> Iterator[Mark]:
        self._quiet_blocks = 0 if loud else self._quiet_blocks + 1
        self._loud_blocks = self._loud_blocks + 1 if loud else 0
        if loud:
            self.last_loud = began + BLOCK_MS / 1000
        if self.talking:
            self._turn += block
            yield from self._in_turn()
            return
        self._pre_roll = [*self._pre_roll[1 - _PRE_ROLL_BLOCKS :], block]
        if self._loud_blocks == _BEGINNING_BLOCKS:
            self.talking = True
            self._began = began - (_BEGINNING_BLOCKS - 1) * BLOCK_MS / 1000
            self._turn = bytearray(b"".join(self._pre_roll))
            yield Mark(Kind.AGENT_BEGAN, self._began)

    def _in_turn(self) -> Iterator[Mark]:
        quiet_ms = self._quiet_blocks * BLOCK_MS
        if quiet_ms >= SILENCE_MS and self._barge_in is not None:
            if self.last_loud >= self._barge_in:
                yield Mark(Kind.SILENCED, self.last_loud)
            self._barge_in = None
        if quiet_ms >= TURN_GAP_MS:
            self.talking = False
            self._keep(HeardTurn(self._began, self.last_loud, bytes(self._turn)))
            yield Mark(Kind.AGENT_ENDED, self.last_loud)

    def _keep(self, turn: HeardTurn) -> None:
        self.turns.append(turn)
        while sum(len(kept.pcm16) for kept in self.turns[:-1]) > MAX_KEPT_S * HZ * 2:
            del self.turns[0]


def _rms(blocks: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    mean_squares: npt.NDArray[np.float32] = np.mean(np.square(blocks, dtype=np.float32), axis=1)
    return np.sqrt(mean_squares)


def sounding_part(pcm16: bytes, hz: int) -> tuple[float, float]:
    """Seconds from the start of ``pcm16`` at which its first and its last sound are; (0, 0) without any."""
    samples = np.abs(np.frombuffer(pcm16, dtype="<i2").astype(np.int32))
    loud = np.flatnonzero(samples > LOUD_RMS)
    return (float(loud[0]) / hz, float(loud[-1] + 1) / hz) if loud.size else (0.0, 0.0)


def pairs_ms(marks: Sequence[Mark], first: Kind, then: Kind, *, unless: frozenset[Kind]) -> tuple[float, ...]:
    """Milliseconds from each ``first`` to the next ``then``, where none of ``unless`` came between."""
    result: list[float] = []
    since: float | None = None
    for mark in sorted(marks, key=lambda mark: mark.at):
        if mark.kind is then and since is not None:
            result.append(round((mark.at - since) * 1000, 1))
            since = None
        elif mark.kind in unless:
            since = None
        if mark.kind is first:
            since = mark.at
    return tuple(result)
