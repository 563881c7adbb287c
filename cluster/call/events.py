"""What can happen to a call, and what a call can want done: the words between the core and its shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.call.faults import Fault
from cluster.outcome import Outcome

Scheduling = Literal["SILENT", "WHEN_IDLE", "INTERRUPT"]
"""The Live API's words for when a model speaks about the result of a tool for which it did not wait."""


@dataclass(frozen=True, slots=True)
class Dialling:
    """The phone is being dialled."""


@dataclass(frozen=True, slots=True)
class PhoneRinging:
    """The far end is in the room and has not answered, or waits to be answered."""


@dataclass(frozen=True, slots=True)
class PhoneAnswered:
    """Both ends can hear each other."""


@dataclass(frozen=True, slots=True)
class PhoneGone:
    """The leg ended: hung up, refused, or lost."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CallBegins:
    """The process has the call: the Live session can be opened."""


@dataclass(frozen=True, slots=True)
class LiveOpened:
    """A Live connection is set up, and has been so for `age_s`."""

    connection: int = 1
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveFailed:
    """A Live connection could not be set up."""

    connection: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class LiveBroke:
    """A Live connection that was set up has closed."""

    connection: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server will close the connection that serves in `time_left_s`."""

    time_left_s: float


@dataclass(frozen=True, slots=True)
class Resumable:
    """A handle from which the conversation can be resumed as it stands now."""

    handle: str = field(repr=False)  # secret


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """The model sent that much audio, which is now queued to be heard; `rms` is its level as 16-bit samples."""

    ms: float
    rms: float = 1_000.0


@dataclass(frozen=True, slots=True)
class GenerationDone:
    """Everything that the model will say in this turn was sent."""


@dataclass(frozen=True, slots=True)
class PlayoutDrained:
    """Everything queued has been played."""


@dataclass(frozen=True, slots=True)
class AgentText:
    """A piece of the transcript of the agent's voice."""

    text: str = field(repr=False)  # pii


@dataclass(frozen=True, slots=True)
class CallerText:
    """A piece of the transcript of the caller's voice."""

    text: str = field(repr=False)  # pii


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Barge-in: the queue was cleared with `unheard_ms` of the reply still in it."""

    unheard_ms: float


@dataclass(frozen=True, slots=True)
class TurnDone:
    """The model's turn is complete."""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model calls a tool."""

    id: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict, repr=False)  # pii


@dataclass(frozen=True, slots=True)
class ToolCancelled:
    """The model takes calls back: the caller has spoken over it."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool that was run has returned; `outcome` is how the call ends because of it, if it does."""

    id: str
    response: Mapping[str, Any] = field(repr=False)  # pii
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class CallerSpoke:
    """The caller's voice was heard on the line."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key of the telephone's keypad: 0 to 9, *, #, A to D."""

    key: str = field(repr=False)  # pii


@dataclass(frozen=True, slots=True)
class CallerPaused:
    """The caller's voice ended `ago_s` seconds ago."""

    ago_s: float


@dataclass(frozen=True, slots=True)
class HangUp:
    """Somebody asked for the call to end now."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class WindDown:
    """The call has to come to an end politely."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class BeBrief:
    """Money runs out: from now on only what is needed is said."""


LIVE_EVENTS = (CallBegins, LiveOpened, LiveFailed, LiveBroke, GoingAway, Resumable, GenerationDone)
"""What concerns the connections to the model."""
Event = (
    CallBegins
    | Dialling
    | PhoneRinging
    | PhoneAnswered
    | PhoneGone
    | LiveOpened
    | LiveFailed
    | LiveBroke
    | GoingAway
    | Resumable
    | AgentAudio
    | GenerationDone
    | PlayoutDrained
    | AgentText
    | CallerText
    | Interrupted
    | TurnDone
    | ToolCalled
    | ToolCancelled
    | ToolFinished
    | CallerSpoke
    | CallerPaused
    | KeyPressed
    | HangUp
    | WindDown
    | BeBrief
)


@dataclass(frozen=True, slots=True)
class OpenLive:
    """Set up a Live connection; `target` counts the profile's models and places, `handle` resumes a conversation."""

    connection: int
    target: int
    handle: str = field(default="", repr=False)  # secret


@dataclass(frozen=True, slots=True)
class SwitchLive:
    """From now on this connection serves. `gap_s` is how long none did."""

    connection: int
    resumed: bool
    """It knows what was said up to its handle; else it knows nothing."""
    target: int = 0
    """Which model, at which place: the index in the profile's targets."""
    replay: bool = True
    """False: what the caller said last is what the server choked on."""
    gap_s: float = 0.0
    planned: bool = False
    """It takes over from one that still worked."""


@dataclass(frozen=True, slots=True)
class DropLive:
    """Close a Live connection, should it be open."""

    connection: int


@dataclass(frozen=True, slots=True)
class LiveGone:
    """No connection serves, and none will."""

    why: str


@dataclass(frozen=True, slots=True)
class KeepTape:
    """The caller speaks: what is said from here on may have to be sent again."""

    anew: bool
    """What was said before has had its answer, or the beginning of one, and need not be sent again."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Send the caller's audio that no connection has heard for sure, oldest first."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the caller said so far was heard and answered: it need not be sent again."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Drop the agent's queued audio: there is nothing to be heard in it."""


@dataclass(frozen=True, slots=True)
class StopAgent:
    """The caller wants the floor: drop the agent's queued audio, and tell how much of it there was (`Interrupted`)."""


@dataclass(frozen=True, slots=True)
class SayFiller:
    """Play the recorded sentence that asks the caller for a moment of patience."""


@dataclass(frozen=True, slots=True)
class OpenLine:
    """Publish the agent's track; for an inbound SIP call this answers the phone."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Send text to the model; `respond` asks for a spoken answer to it."""

    text: str = field(repr=False)  # pii
    respond: bool = True


@dataclass(frozen=True, slots=True)
class AnswerTool:
    """Send a tool's result to the model."""

    id: str
    name: str
    response: Mapping[str, Any] = field(repr=False)  # pii
    scheduling: Scheduling | None = None
    """When the model speaks about it; None where it waits for the result anyway."""


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool, whose result comes back as `ToolFinished`."""

    id: str
    name: str
    args: Mapping[str, Any] = field(repr=False)  # pii


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop running a tool: nobody waits for its result."""

    id: str


@dataclass(frozen=True, slots=True)
class HoldInput:
    """While held, nothing but answers to tools may reach the model; what the caller says is sent once it is not."""

    held: bool


@dataclass(frozen=True, slots=True)
class SayUnavailable:
    """Play the recorded sentence for callers whom no model can serve."""


@dataclass(frozen=True, slots=True)
class Note:
    """Record something in the call's timeline."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)  # pii


@dataclass(frozen=True, slots=True)
class Finish:
    """End the call now: delete the room, close the Live session."""

    outcome: Outcome


LiveEffect = OpenLive | SwitchLive | DropLive | KeepTape | Replay | Settled | Prompt | AnswerTool | HoldInput
"""What the Live connections do."""
VoiceEffect = Silence | StopAgent | SayFiller | SayUnavailable
"""What the agent's voice does without a model."""
ToolEffect = RunTool | CancelTool
"""What the runner of tools does."""
Effect = LiveEffect | VoiceEffect | ToolEffect | LiveGone | OpenLine | Note | Finish
