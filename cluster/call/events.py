"""What can happen to a call, and what a call can want done: the words between the core and its shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
class LiveOpened:
    """The Live session is set up."""


@dataclass(frozen=True, slots=True)
class LiveLost:
    """The Live session could not be opened or was closed; `detail` holds no personal data."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """The model sent that much audio, which is now queued to be heard."""

    ms: float


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


Event = (
    Dialling
    | PhoneRinging
    | PhoneAnswered
    | PhoneGone
    | LiveOpened
    | LiveLost
    | AgentAudio
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
    | HangUp
    | WindDown
)


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


Effect = OpenLine | Prompt | AnswerTool | RunTool | CancelTool | HoldInput | SayUnavailable | Note | Finish
