"""What a call keeps to, and what it waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cluster.tools import BUILT_IN, END_CALL, Toolbox


class Timer(StrEnum):
    """What a call waits for."""

    SETUP = "setup"
    WRAP_UP = "wrap-up"
    HARD_END = "hard-end"
    IDLE = "idle"
    ANSWER = "answer"
    GOODBYE = "goodbye"
    TAIL = "tail"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The profile's rules for one call, resolved once, in seconds."""

    max_duration_s: float
    idle_reminder_s: float
    idle_reminders: int
    silence_s: float
    speak_first: bool
    inbound: bool
    """Somebody is calling, and is told why nobody can talk; nobody is dialled to be told so."""
    toolbox: Toolbox = field(default_factory=lambda: Toolbox(tools={END_CALL: BUILT_IN[END_CALL]}))
