"""What actors say to each other: frozen, small, versioned.

Rules of this file:
1. Nothing here has behaviour beyond reading its own fields.
2. A monotonic time never crosses a process: messages carry durations, or UTC seconds in `*_at`.
3. Fields marked ``# pii`` hold personal data, those marked ``# secret`` a credential: both are kept out of
   `repr`, so that no log line or traceback can carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cluster.outcome import Outcome

if TYPE_CHECKING:
    from cluster.budget.pricing import Tariff

MESSAGE_VERSION = 1
"""Raised when a field changes its meaning; actors of two versions never share a cluster's pool."""


class Direction(StrEnum):
    """Who placed the call, seen from the trunk."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """One wish for a call, as it reaches admission. The same `request_id` is the same wish."""

    request_id: str
    """Idempotency key, unique within the tenant; for inbound calls `room:<room sid>`."""
    call_id: str
    tenant: str
    direction: Direction
    profile: str
    room: str
    """Name of the LiveKit room. Outbound: created by the call actor. Inbound: exists already."""
    identity: str
    """The agent's participant identity; a takeover joins under the same one."""
    to: str = field(default="", repr=False)  # pii: E.164
    from_: str = field(default="", repr=False)  # pii: E.164
    context: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii: fills the profile's {variables}
    campaign: str = ""
    """Its id, where the call belongs to one."""
    trunk: str = ""
    """LiveKit's id of the SIP trunk. Outbound: chosen by admission. Inbound: empty where only LiveKit knows it."""
    calling_hours: str = ""
    """When the callee may be dialled, see `cluster.telephony.hours`; empty: when the policy allows it."""
    dial_before: float | None = None
    """UTC seconds: it is too late from then on, whatever the hours above say of the number."""
    priority: int = 0
    """Higher is served first."""
    max_duration_s: float | None = None
    """Tightens the profile's limit, never widens it."""
    max_cost_usd_micros: int | None = None
    body_sha256: str = ""
    """Of the HTTP body. Admission refuses a known `request_id` with another one, as `policy/idempotency-key-reused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a call actor is told to do: one request with everything resolved once, at admission."""

    request: CallRequest
    lease_id: str
    fencing_token: int
    """Grows with every holder of this call's lease; an older one settles nothing."""
    max_duration_s: float
    max_cost_usd_micros: int
    reserved_usd_micros: int
    renew_every_s: float
    lease_ttl_s: float
    """Without a renewal for this long the lease is void, and the call must end by itself."""
    tariff: Tariff
    takeover: Checkpoint | None = None
    """Where the call stood when the process that had it was lost; None for a call that begins."""
    concise: bool = False
    """A budget runs low: the agent is told to be brief from the start."""
    version: int = MESSAGE_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The call may go on: money is reserved and an actor is on its way into the room."""

    call_id: str
    lease_id: str
    warm: bool
    """False: no parked actor was there, a cold one was started (3 to 4 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Not now, but the request waits in the queue, and will be decided by itself."""

    call_id: str
    position: int
    """1 is the next one of its tenant and kind."""
    estimated_wait_s: float
    expires_in_s: float
    """It is given up if it could not start by then."""
    outcome: Outcome
    """What it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not now, but the same request may succeed after `retry_after_s`."""

    outcome: Outcome
    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No, and why. `retry_after_s` is None where waiting would not help."""

    outcome: Outcome
    detail: str
    """One sentence for the person who sent the request."""
    retry_after_s: float | None = None


Admission = Admitted | Queued | Wait | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call so far, summed over every generation of every connection.

    The first four and the transcripts are what is billed; the others say what of it is what.
    """

    text_in: int = 0
    """Includes results of tools, and tokens without a modality."""
    audio_in: int = 0
    text_out: int = 0
    """Includes thoughts, which are billed at the text output rate."""
    audio_out: int = 0
    transcript_chars: int = 0
    """Length of the transcripts; they are billed as output text but not reported, so they are estimated."""
    agent_chars: int = 0
    """Of the transcripts."""
    thoughts: int = 0
    tool_use: int = 0
    cached: int = 0
    """Of the prompts; billed like the rest."""
    unattributed: int = 0
    """Without a modality."""
    missing_generations: int = 0
    """Turns that were never reported; what they took is estimated, and counted above."""
    estimated_tokens: int = 0
    """Theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """Everything of a call so far that is charged for."""

    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)
    line_s: float = 0.0
    """Seconds that the phone leg was answered."""
    room_s: float = 0.0
    """Seconds in the room."""
    tool_calls: Mapping[str, int] = field(default_factory=dict)
    """By the tool's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFault:
    """A Live connection failed: what the circuit breaker is told."""

    model: str
    """`str()` of the target: the model, with `@location` where that is not the installation's own."""
    name: str
    """Of the diagnosis, see `cluster.call.faults`."""
    blames_provider: bool
    """Other calls will meet the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What became of a Live session that was to be set up and parked."""

    model: str = ""
    """The model that was asked, as in `LiveFault`; empty where none was."""
    error: str = ""
    """Why there is no session; empty where there is one."""
    fault: str = ""
    """The name of the diagnosis, where the model was asked in vain."""
    blames_provider: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A call's heartbeat: renews the lease and settles what was used so far."""

    lease_id: str
    fencing_token: int
    usage: Usage
    cost_usd_micros: int
    talk_s: float
    """Seconds since the leg was answered."""
    checkpoint: Checkpoint
    metered: Metered = field(default_factory=Metered)
    charges_usd_micros: Mapping[str, int] = field(default_factory=dict)
    """The parts of the cost, as in `CallRecord`."""
    running_usd_micros: int = 0
    """What the turn that goes on will cost at least. No bill has it yet: it is estimated until it is reported."""
    live_faults: tuple[LiveFault, ...] = ()
    """Since the last renewal, oldest first. Told once: should it be lost, other calls meet the same."""
    live_ok: bool = False
    """Since the last renewal, and after the last fault, a session was set up or resumed."""
    live_model: str = ""
    """The model of that session, as in `LiveFault`; empty: the profile's main one."""

    @property
    def spent_usd_micros(self) -> int:
        """The cost, with that of the turn that goes on."""
        return self.cost_usd_micros + self.running_usd_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A tool that the model waits for, or whose result it may not have."""

    id: str
    name: str
    args: Mapping[str, Any] = field(repr=False)  # pii
    response: Mapping[str, Any] | None = field(default=None, repr=False)  # pii
    """None while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What another actor needs to go on with this call, as it stood at a heartbeat."""

    resumption_handle: str = field(default="", repr=False)  # secret: restores the whole conversation
    target: int = 0
    """Whose handle it is: the index of the profile's model and place."""
    transcript: tuple[Line, ...] = field(default=(), repr=False)  # pii
    """The newest lines. The last one or two may be a turn that goes on; of the agent it has what was heard so far."""
    unknown: int = 0
    """So many of the newest lines the handle does not restore."""
    age_s: float = 0.0
    """Seconds since the call began."""
    answered_s: float | None = None
    """Seconds from the beginning to the answer."""
    leg: str = "idle"
    phase: str = "setting-up"
    """Both as `cluster.call.states` names them."""
    ending: str = ""
    """The outcome, where it is decided already."""
    agent_is_cut: bool = False
    """The agent has not finished what it was saying."""
    caller_waits: bool = False
    """The caller speaks, or has spoken without an answer."""
    is_deaf: bool = False
    """Nobody listened for so long since that the caller may have said something."""
    brief: bool = False
    """The model was told to be brief."""
    tools: tuple[ToolRun, ...] = ()
    metered: Metered = field(default_factory=Metered)
    """So far, with an estimate of the turn that goes on: nobody will report it any more."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    processes: int = 1
    """How many have had the call so far."""

    @property
    def has_leg(self) -> bool:
        """A phone is there, or may be about to ring."""
        return self.leg != "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One utterance of the transcript."""

    who: str
    """`caller` or `agent`."""
    text: str = field(repr=False)  # pii
    at_s: float
    """Seconds since the call began."""
    heard: bool = True
    """False where a barge-in cut this sentence, so that the caller heard only a part of it."""


class Verdict(StrEnum):
    """The answer to a renewal."""

    CONTINUE = "continue"
    CONCISE = "concise"
    """Go on, but be brief: a budget runs low."""
    WIND_DOWN = "wind-down"
    """Say goodbye and end: money or a limit is used up."""
    VOID = "void"
    """This holder lost the lease: fall silent, leave, settle nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """One thing that happened in a call, for its timeline, its transcript and the live feed."""

    call_id: str
    kind: str
    """`state`, `line`, `tool`, `quality`, `fault`, `latency` …: see `cluster.call.core`."""
    at_s: float
    """Seconds since the call began."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)  # pii


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """The one row per call (CDR). Written once, by `BudgetPool`, when the call is over."""

    call_id: str
    request_id: str
    tenant: str
    direction: Direction
    profile: str
    model: str
    room: str
    slot: str
    """Name of the call actor that held it last."""
    node: str
    outcome: Outcome
    started_at: float
    """UTC seconds."""
    answered_s: float | None
    """Seconds from the start to the answer; None if it was never answered."""
    duration_s: float
    talk_s: float
    cost_usd_micros: int
    usage: Usage
    timings_ms: Mapping[str, float]
    """`dial`, `ring`, `join`, `first_audio`, `turn_p50`, `barge_in_p50` …, those that were measured."""
    quality: Mapping[str, float]
    to: str = field(default="", repr=False)  # pii
    from_: str = field(default="", repr=False)  # pii
    transcript: tuple[Line, ...] = field(default=(), repr=False)  # pii
    recording_url: str = field(default="", repr=False)  # pii
    detail: str = ""
    """One sentence on what went wrong, without personal data."""
    live_faults: tuple[LiveFault, ...] = ()
    """Those that no renewal has told of; for the circuit breaker, not for the history."""
    metered: Metered = field(default_factory=Metered)
    """What the cost was worked out from."""
    charges_usd_micros: Mapping[str, int] = field(default_factory=dict)
    """The parts of the cost: `model`, `trunk`, `livekit`, `tools`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuery:
    """Which calls of the history somebody wants to see; they come newest first."""

    state: str | None = None
    """`live`, `ended` or None for both."""
    limit: int = 50
    before: str | None = None
    """The id of the last call that was seen."""
    search: str = field(default="", repr=False)  # pii
    """Looked for in numbers, ids, profiles, outcomes and the words spoken; upper and lower case are one."""
    parts_of_numbers: bool = False
    """Whether a part of a number is found too; who sees numbers masked could read them out digit by digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorStatus:
    """A call actor's own account of itself; what `BudgetPool` re-attaches by after a restart."""

    slot: str
    state: str
    """`cold`, `parking`, `parked`, `busy`, `ended`."""
    profile: str
    parked_s: float
    """Age of the parked Live session."""
    calls_served: int
    age_s: float
    memory_mb: float
    """PSS of the process, in MB (10^6 bytes)."""
    node: str
    pid: int
    fingerprint: str
    """Of the settings that it was made with."""
    call_id: str = ""
    lease_id: str = ""
    fencing_token: int = 0
