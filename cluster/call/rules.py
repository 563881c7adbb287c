"""What a call keeps to, and what it waits for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.call.continuity import ContinuityRules
from cluster.call.keypad import KeypadRules
from cluster.call.stalls import ANSWER_WITHIN_S
from cluster.tools import BUILT_IN, END_CALL, Toolbox

GOODBYE_LIMIT_S = 10.0
"""After `end_call`, at most this much is still played."""
AFTER_TOOL_QUIET_S = 1.5
"""After `end_call` in silence, how long a goodbye may take to begin."""


BACKCHANNEL_S = 0.7
"""A sign of attention is shorter; who speaks for longer wants the floor."""
TRANSFER_NEWS_S = 3.0
"""The phone leaves as it is transferred, and LiveKit's word that it was may come a moment later."""


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
    backchannels: bool = False
    """The model is not interrupted by a short word: whether the agent falls silent is decided here."""
    answer_within_s: float = ANSWER_WITHIN_S
    """The caller has spoken and no answer came for so long: see `StallWatch`."""
    keypad: KeypadRules = field(default_factory=KeypadRules)
    live: ContinuityRules = field(default_factory=ContinuityRules)
    toolboxes: tuple[Toolbox, ...] = (Toolbox(tools={END_CALL: BUILT_IN[END_CALL]}),)
    """The tools as the model of each target takes them."""


@dataclass(slots=True)
class Patience:
    """How long a silent caller is waited for."""

    rules: Rules
    reminders: int = 0
    """How many there were since the caller was last heard."""
    _quiet_s: float = 0.0

    def renew(self) -> None:
        """The caller was heard."""
        self.reminders, self._quiet_s = 0, 0.0

    def runs_out(self) -> bool:
        """Another `idle_reminder_s` passed in silence; False where the caller is to be asked once more."""
        self._quiet_s += self.rules.idle_reminder_s
        if self.reminders >= self.rules.idle_reminders or self._quiet_s >= self.rules.silence_s:
            return True
        self.reminders += 1
        return False
