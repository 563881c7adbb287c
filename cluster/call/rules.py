"""What a call keeps to, and what it waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cluster.call.continuity import ContinuityRules
from cluster.call.stalls import ANSWER_WITHIN_S
from cluster.tools import BUILT_IN, END_CALL, Toolbox

SETUP_LIMIT_S = 45.0
"""Longest wait for both ends of an inbound call; LiveKit's own ringing limit is longer, a caller's patience is not."""
WRAP_UP_S = 15.0
"""A goodbye takes a few seconds; the model is told this long before the hard end."""
GOODBYE_LIMIT_S = 10.0
"""After `end_call`, at most this much is still played."""
AFTER_TOOL_QUIET_S = 1.5
"""After `end_call` in silence, how long a goodbye may take to begin."""
TAIL_S = 0.35
"""Between the last sample played and the hang-up: the jitter buffers on the way to the phone (measured 125 to 145 ms
on loopback) must run empty, or the last word is cut."""


TRANSFER_NEWS_S = 3.0
"""The phone leaves as it is transferred, and LiveKit's word that it was may come a moment later."""


class Timer(StrEnum):
    """What a call waits for."""

    SETUP = "setup"
    WRAP_UP = "wrap-up"
    HARD_END = "hard-end"
    IDLE = "idle"
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
    answer_within_s: float = ANSWER_WITHIN_S
    """The caller has spoken and no answer came for so long: see `StallWatch`."""
    live: ContinuityRules = field(default_factory=ContinuityRules)
    toolbox: Toolbox = field(default_factory=lambda: Toolbox(tools={END_CALL: BUILT_IN[END_CALL]}))
