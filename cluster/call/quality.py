"""How good a line is, from the room's statistics, and what follows for the resampler.

The score is the E-model of ITU-T G.107 in the reduced form used for VoIP monitoring: R = 93.2 - delay impairment
- loss impairment, mapped to a mean opinion score from 1 (bad) to 4.4 (excellent).
"""

from __future__ import annotations

from dataclasses import dataclass

OPUS_LOSS_ROBUSTNESS = 15.0
"""Bpl of ITU-T G.113 for a codec with concealment; Opus has in-band FEC on top."""

NOTICED_DELAY_MS = 177.3
"""From here on people begin to talk over each other (the knee of G.107's simplified delay curve)."""


@dataclass(frozen=True, slots=True)
class LineStats:
    """One reading of the caller's line."""

    loss: float
    """Share of packets lost since the last reading, 0 to 1."""
    jitter_ms: float
    rtt_ms: float


def score(stats: LineStats) -> float:
    """Mean opinion score of the line, 1.0 to 4.4."""
    one_way_ms = stats.rtt_ms / 2 + 2 * stats.jitter_ms
    delay = 0.024 * one_way_ms + 0.11 * max(0.0, one_way_ms - NOTICED_DELAY_MS)
    loss_percent = 100 * min(max(stats.loss, 0.0), 1.0)
    loss = 95 * loss_percent / (loss_percent + OPUS_LOSS_ROBUSTNESS)
    r = max(0.0, 93.2 - delay - loss)
    return max(1.0, 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r))


GOOD_SCORE = 3.6
"""Below it, users notice the line itself (ITU-T G.107 annex B: "some users dissatisfied")."""


def resampler_quality(mos: float) -> str:
    """Soxr's quality for a line of this score.

    A good line gets a filter without aliasing, whose delay is 12 ms from 48 to 16 kHz (measured; HQ costs 29 ms). On
    a bad one concealment masks what a filter would save, and every millisecond counts: cubic interpolation, no delay.
    """
    return "LQ" if mos >= GOOD_SCORE else "QQ"
