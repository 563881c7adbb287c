"""What a message of the Live API means to a call. Pure: SDK objects are only read, by attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.call import events as ev
from cluster.call.faults import Fault
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
class Broken:
    """The connection has closed, and not by us."""

    fault: Fault


LiveMessage = Audio | BargeIn | Broken | UsageReport | ev.Event


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
        yield ev.Resumable(update.new_handle)
    if message.go_away is not None:
        yield ev.GoingAway(seconds(message.go_away.time_left))


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
    yield from _ends(content)


def _ends(content: types.LiveServerContent) -> Iterator[LiveMessage]:
    if content.generation_complete:
        yield ev.GenerationDone()
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


def usage_report(usage: types.UsageMetadata | Mapping[str, Any]) -> UsageReport:
    """A usage record of either backend: as the SDK gives it, or as it stands on the wire.

    Vertex says `candidates` where the Developer API says `response`. The SDK gives both its own name for it, and drops
    whatever is named otherwise than its backend does.
    """
    return UsageReport(
        prompt=_count(usage, "prompt_token_count"),
        prompt_by_modality=_by_modality(usage, "prompt_tokens_details"),
        response=_count(usage, "response_token_count", "candidates_token_count"),
        response_by_modality=_by_modality(usage, "response_tokens_details", "candidates_tokens_details"),
        thoughts=_count(usage, "thoughts_token_count"),
        tool_use=_count(usage, "tool_use_prompt_token_count"),
        tool_use_by_modality=_by_modality(usage, "tool_use_prompt_tokens_details"),
        cached=_count(usage, "cached_content_token_count"),
        total=_count(usage, "total_token_count"),
    )


def _count(usage: Any, *names: str) -> int:
    return int(_read(usage, *names) or 0)


def _by_modality(usage: Any, *names: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in _read(usage, *names) or ():
        modality = _read(item, "modality")
        name = getattr(modality, "value", str(modality))
        counts[name] = counts.get(name, 0) + _count(item, "token_count")
    return counts


def _read(record: Any, *names: str) -> Any:
    """The first of these fields that is there; on the wire a name is in camel case, or not."""
    if isinstance(record, Mapping):
        found = (record.get(spelled) for name in names for spelled in (_camel(name), name))
    else:
        found = (getattr(record, name, None) for name in names)
    return next((value for value in found if value is not None), None)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
