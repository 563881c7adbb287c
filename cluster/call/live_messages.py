"""What a message of the Live API means to a call. Pure: SDK objects are only read, by attribute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.call import events as ev
from cluster.call.usage import UsageReport

if TYPE_CHECKING:
    from google.genai import types

DEFAULT_OUTPUT_HZ = 24_000
"""The Live API sends 24 kHz mono; the MIME type says so in every part."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of the agent's voice: 16-bit mono PCM."""

    pcm: bytes = field(repr=False)
    rate_hz: int


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller speaks over the agent: what is queued must not be heard."""


@dataclass(frozen=True, slots=True)
class Resumable:
    """A handle from which the conversation can be resumed."""

    handle: str = field(repr=False)  # secret


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server will close this connection in `time_left_s`."""

    time_left_s: float


LiveMessage = Audio | BargeIn | Resumable | GoingAway | UsageReport | ev.Event


def parse(message: types.LiveServerMessage) -> Iterator[LiveMessage]:
    """The parts of one server message, in the order in which a call has to see them.

    Barge-in comes before anything else, and a turn's end after its audio and its transcript.
    """
    content = message.server_content
    if content is not None:
        yield from _content(content)
    if message.tool_call is not None:
        for call in message.tool_call.function_calls or ():
            yield ev.ToolCalled(call.id or "", call.name or "", call.args or {})
    if message.tool_call_cancellation is not None:
        yield ev.ToolCancelled(tuple(message.tool_call_cancellation.ids or ()))
    if message.usage_metadata is not None:
        yield usage_report(message.usage_metadata)
    update = message.session_resumption_update
    if update is not None and update.resumable and update.new_handle:
        yield Resumable(update.new_handle)
    if message.go_away is not None:
        yield GoingAway(seconds(message.go_away.time_left))


def _content(content: types.LiveServerContent) -> Iterator[LiveMessage]:
    if content.interrupted:
        yield BargeIn()
    if content.input_transcription is not None and content.input_transcription.text:
        yield ev.CallerText(content.input_transcription.text)
    if content.model_turn is not None:
        for part in content.model_turn.parts or ():
            blob = part.inline_data
            if blob is not None and blob.data:
                yield Audio(blob.data, rate_hz(blob.mime_type))
    if content.output_transcription is not None and content.output_transcription.text:
        yield ev.AgentText(content.output_transcription.text)
    if content.turn_complete:
        yield ev.TurnDone()


def rate_hz(mime_type: str | None) -> int:
    """The sample rate of `audio/pcm;rate=24000`; 24 kHz where none is given."""
    _, _, rate = (mime_type or "").partition("rate=")
    return int(rate) if rate.isdigit() else DEFAULT_OUTPUT_HZ


def seconds(duration: str | None) -> float:
    """A protobuf JSON duration such as "9.5s"; 0 where it is missing or malformed."""
    try:
        return float((duration or "0s").removesuffix("s"))
    except ValueError:
        return 0.0


def usage_report(usage: types.UsageMetadata) -> UsageReport:
    """The SDK gives both backends' records the same names."""
    return UsageReport(
        prompt=usage.prompt_token_count or 0,
        prompt_by_modality=_by_modality(usage.prompt_tokens_details),
        response=usage.response_token_count or 0,
        response_by_modality=_by_modality(usage.response_tokens_details),
        thoughts=usage.thoughts_token_count or 0,
        tool_use=usage.tool_use_prompt_token_count or 0,
    )


def _by_modality(details: Iterable[Any] | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in details or ():
        name = getattr(item.modality, "value", str(item.modality))
        counts[name] = counts.get(name, 0) + (item.token_count or 0)
    return counts
