"""The line's score."""

from __future__ import annotations

import pytest

from cluster.call.quality import LineStats, resampler_quality, score


@pytest.mark.parametrize(
    ("loss", "jitter_ms", "rtt_ms", "low", "high"),
    [
        (0.0, 1, 20, 4.3, 4.5),
        (0.01, 5, 80, 4.1, 4.35),
        (0.05, 20, 150, 2.9, 3.6),
        (0.0, 100, 600, 2.0, 3.5),
        (0.5, 50, 300, 1.0, 1.7),
        (1.0, 500, 5_000, 1.0, 1.0),
        (-0.1, 0, 0, 4.3, 4.5),
    ],
    ids=["perfect", "good", "lossy", "slow", "bad", "dead", "nonsense"],
)
def test_score(loss: float, jitter_ms: float, rtt_ms: float, low: float, high: float) -> None:
    """The score falls with loss, jitter and delay, and stays within 1 to 4.5."""
    assert low <= score(LineStats(loss=loss, jitter_ms=jitter_ms, rtt_ms=rtt_ms)) <= high


def test_a_bad_line_gets_the_resampler_without_delay() -> None:
    """Good lines get the filter, bad ones the milliseconds."""
    assert resampler_quality(4.2) == "LQ"
    assert resampler_quality(2.0) == "QQ"
