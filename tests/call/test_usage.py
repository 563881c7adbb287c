"""Adding up tokens."""

from __future__ import annotations

import pytest

from cluster.call.usage import UsageReport, add
from cluster.messages import Usage

CASES = [
    (
        "audio both ways",
        UsageReport(300, {"AUDIO": 250, "TEXT": 50}, 100, {"AUDIO": 100}),
        Usage(text_in=50, audio_in=250, audio_out=100),
    ),
    (
        "tokens without modality are text",
        UsageReport(318, {"AUDIO": 250, "TEXT": 50}, 0, {}),
        Usage(text_in=68, audio_in=250),
    ),
    (
        "thoughts are outside the total and cost text output",
        UsageReport(10, {"TEXT": 10}, 5, {"TEXT": 5}, thoughts=7),
        Usage(text_in=10, text_out=12),
    ),
    ("tool use is input", UsageReport(0, {}, 0, {}, tool_use=9), Usage(text_in=9)),
    (
        "details above the total never go below zero",
        UsageReport(5, {"AUDIO": 8}, 1, {"AUDIO": 3}),
        Usage(audio_in=8, audio_out=3),
    ),
]


@pytest.mark.parametrize(("report", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_add(report: UsageReport, expected: Usage) -> None:
    """One record becomes the right tokens."""
    assert add(Usage(), report) == expected


def test_every_record_counts() -> None:
    """The context is billed again each turn, so records add up."""
    report = UsageReport(10, {"AUDIO": 10}, 4, {"AUDIO": 4})
    assert add(add(Usage(), report), report) == Usage(audio_in=20, audio_out=8)
