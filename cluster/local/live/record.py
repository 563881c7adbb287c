"""What the endpoint knows about its sessions, for tests and benches: times, words, tokens.

Times are monotonic seconds of this machine (comparable between its processes); add ``wall_offset_s`` for UTC.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.local.live.usage import Usage
from cluster.local.scenario import Fault


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """A fault that struck."""

    at: str
    do: str
    struck_at: float


@dataclass(slots=True, kw_only=True)
class TurnRecord:
    """One turn of the agent. A bench subtracts ``first_audio_at - last_speech_at`` as the endpoint's own share."""

    number: int
    trigger: str
    """speech, text or tool."""
    last_speech_at: float = 0.0
    """The caller's last audio with speech in it arrived."""
    end_detected_at: float = 0.0
    """That speech was taken to be over (or the written prompt arrived)."""
    transcribed_at: float = 0.0
    first_audio_at: float = 0.0
    """The first audio of the answer was sent."""
    interrupted_at: float = 0.0
    """``interrupted`` was sent, if it was."""
    ended_at: float = 0.0
    """``turnComplete`` was sent."""
    heard: str = field(default="", repr=False)  # pii
    said: str = ""
    sent_ms: float = 0.0
    """Answer audio sent."""


@dataclass(slots=True, kw_only=True)
class SessionRecord:
    """One connection."""

    number: int
    backend: str
    model: str = ""
    agent: str = ""
    resumed: bool = False
    opened_at: float = field(default_factory=time.monotonic)
    ready_at: float = 0.0
    closed_at: float = 0.0
    close_code: int = 0
    close_reason: str = ""
    audio_in_ms: float = 0.0
    turns: list[TurnRecord] = field(default_factory=list)
    tool_calls: list[str] = field(default_factory=list)
    tool_results: list[str] = field(default_factory=list, repr=False)  # pii
    generations: list[Usage] = field(default_factory=list)
    """What is billed."""
    reported: Usage = field(default_factory=Usage)
    """The sum of the usage messages that were handed to the socket."""
    usage_messages: int = 0
    """How many they were."""
    faults: list[FaultRecord] = field(default_factory=list)

    def struck(self, fault: Fault) -> None:
        """Notes that this fault strikes now."""
        self.faults.append(FaultRecord(fault.at, fault.do, time.monotonic()))

    @property
    def total(self) -> Usage:
        """The sum over all generations: what is billed."""
        return sum(self.generations, Usage())

    @property
    def metered(self) -> dict[str, Any]:
        """What is billed, and beside it what was reported, as JSON."""
        return asdict(self.total) | {"reported": asdict(self.reported) | {"messages": self.usage_messages}}

    def to_json(self) -> dict[str, Any]:
        """All of it, with the offset from monotonic to wall clock."""
        return asdict(self) | {"total": asdict(self.total), "wall_offset_s": time.time() - time.monotonic()}
