"""Tokens as the Live API reports them, added up for one call.

The facts (names differ by backend, thoughts are outside the total, some prompt tokens have no modality) are
in Google's reference and in reports from the field; each rule below is a case in the test table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.messages import Usage


@dataclass(frozen=True, slots=True)
class UsageReport:
    """One usage record of one generation, with the two backends' names already made one."""

    prompt: int
    prompt_by_modality: Mapping[str, int]
    response: int
    response_by_modality: Mapping[str, int]
    thoughts: int = 0
    tool_use: int = 0


def add(total: Usage, report: UsageReport) -> Usage:
    """`total` with one more record. Every record counts, since the whole context is billed again each turn."""
    audio_in = report.prompt_by_modality.get("AUDIO", 0)
    audio_out = report.response_by_modality.get("AUDIO", 0)
    return replace(
        total,
        text_in=total.text_in + max(0, report.prompt - audio_in) + report.tool_use,
        audio_in=total.audio_in + audio_in,
        text_out=total.text_out + max(0, report.response - audio_out) + report.thoughts,
        audio_out=total.audio_out + audio_out,
    )
