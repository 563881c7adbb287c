"""Client messages of the Live protocol, read strictly.

Rule 1: nothing here does I/O; a frame goes in, messages come out, and what is wrong raises Refusal with its close.
Rule 2: both spellings of a name are read (ProtoJSON), except inside free JSON, which is never touched.
Source: the protocol reference, sections 1.2 to 1.6.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

INVALID_ARGUMENT: Final = 1007
POLICY: Final = 1008
INTERNAL: Final = 1011

_FREE_JSON: Final = frozenset(
    {"response", "args", "parameters", "parametersJsonSchema", "responseJsonSchema", "labels"}
)
_REALTIME: Final = frozenset(
    {"audio", "audioStreamEnd", "activityStart", "activityEnd", "text", "video", "mediaChunks"}
)
_SCHEDULING: Final = frozenset({"SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"})
_AUDIO_TYPE: Final = re.compile(r"audio/pcm(;\s*rate=16000)?")
_MEDIA_CHUNKS: Final = "realtime_input.media_chunks is deprecated. Use audio, video, or text instead."


class Refusal(Exception):
    """The connection must be closed: the websocket code and the reason text that the real service sends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


def invalid(detail: str = "") -> Refusal:
    """A 1007, in the service's words and with the detail that makes it findable."""
    reason = "Request contains an invalid argument."
    return Refusal(INVALID_ARGUMENT, f"{reason} {detail}".strip())


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message; ``content`` in camelCase."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Audio:
    """PCM16 little-endian mono at 16 kHz."""

    pcm16: bytes


@dataclass(frozen=True, slots=True)
class AudioStreamEnd:
    """The microphone was switched off for now."""


@dataclass(frozen=True, slots=True)
class ActivityStart:
    """The client's own detector heard speech begin."""


@dataclass(frozen=True, slots=True)
class ActivityEnd:
    """The client's own detector heard speech end."""


@dataclass(frozen=True, slots=True)
class RealtimeText:
    """Written input that is answered at once."""

    text: str


@dataclass(frozen=True, slots=True)
class ClientContent:
    """Written turns (role, text); answered if ``turn_complete``."""

    turns: tuple[tuple[str, str], ...]
    turn_complete: bool


@dataclass(frozen=True, slots=True)
class ToolResponse:
    """The result of one function call."""

    id: str
    name: str
    response: dict[str, Any]
    scheduling: str


@dataclass(frozen=True, slots=True)
class ContextUpdate:
    """New system instruction text, if any, in mid session."""

    instructions: str


Message = (
    Setup
    | Audio
    | AudioStreamEnd
    | ActivityStart
    | ActivityEnd
    | RealtimeText
    | ClientContent
    | ToolResponse
    | ContextUpdate
)


def parse(frame: str | bytes) -> list[Message]:
    """The messages in one websocket frame (several only for tool responses). Raises Refusal."""
    try:
        content = json.loads(frame)
    except ValueError as error:
        raise Refusal(INVALID_ARGUMENT, "Invalid JSON payload received.") from error
    if not isinstance(content, dict) or len(content) != 1:
        raise invalid("A message has exactly one of setup, realtimeInput, clientContent, toolResponse.")
    message = camel(content)
    kind, body = next(iter(message.items()))
    if kind not in _READERS:
        raise Refusal(
            INVALID_ARGUMENT, f'Invalid JSON payload received. Unknown name "{kind[:40]}": Cannot find field.'
        )
    if not isinstance(body, dict):
        raise invalid(f"{kind} is not an object.")
    return _READERS[kind](body)


def camel(value: Any) -> Any:
    """``value`` with every key in camelCase, free JSON left as it is."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {_camel_name(key): item for key, item in value.items()}
    return {key: item if key in _FREE_JSON else camel(item) for key, item in renamed.items()}


def _camel_name(name: str) -> str:
    if "_" not in name:
        return name
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def text_of(content: Any) -> str:
    """The text of a Content object (or of a list of them, or of a plain string), without its other parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text_of(item) for item in content)
    if not isinstance(content, dict):
        return ""
    parts = content.get("parts") or []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def decode_base64(data: str) -> bytes:
    """Bytes of plain or URL-safe base64, with or without padding. Raises Refusal."""
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(INVALID_ARGUMENT, "Invalid value: base64 decoding failed.") from error


def _realtime(body: dict[str, Any]) -> list[Message]:
    unknown = body.keys() - _REALTIME
    if unknown or not body:
        raise invalid(f"realtimeInput: {', '.join(sorted(unknown)) or 'nothing in it'}.")
    if "mediaChunks" in body:
        raise Refusal(INVALID_ARGUMENT, _MEDIA_CHUNKS)
    messages: list[Message] = []
    if "activityStart" in body:
        messages.append(ActivityStart())
    if "audio" in body:
        messages.append(_audio(body["audio"]))
    if isinstance(body.get("text"), str):
        messages.append(RealtimeText(body["text"]))
    if "activityEnd" in body:
        messages.append(ActivityEnd())
    if body.get("audioStreamEnd"):
        messages.append(AudioStreamEnd())
    return messages


def _audio(blob: Any) -> Audio:
    if not isinstance(blob, dict) or not isinstance(blob.get("data"), str):
        raise invalid("realtimeInput.audio needs data and mimeType.")
    if not _AUDIO_TYPE.fullmatch(str(blob.get("mimeType"))):
        raise invalid("realtimeInput.audio.mimeType must be audio/pcm;rate=16000.")
    pcm16 = decode_base64(blob["data"])
    if len(pcm16) % 2:
        raise invalid("realtimeInput.audio holds half a sample.")
    return Audio(pcm16)


def _client_content(body: dict[str, Any]) -> list[Message]:
    turns = body.get("turns") or []
    if not isinstance(turns, list):
        raise invalid("clientContent.turns is not a list.")
    roles = [turn.get("role", "user") if isinstance(turn, dict) else "" for turn in turns]
    if any(role not in {"user", "model"} for role in roles):
        raise invalid("clientContent: a role is user or model.")
    texts = tuple((role, text_of(turn)) for role, turn in zip(roles, turns, strict=True))
    return [ClientContent(turns=texts, turn_complete=bool(body.get("turnComplete", False)))]


def _tool_responses(body: dict[str, Any]) -> list[Message]:
    responses = body.get("functionResponses")
    if not isinstance(responses, list) or not responses:
        raise invalid("toolResponse.functionResponses is empty.")
    return [_tool_response(response) for response in responses]


def _tool_response(response: Any) -> ToolResponse:
    if not isinstance(response, dict) or not isinstance(response.get("response"), dict):
        raise invalid("functionResponses[].response must be an object.")
    scheduling = response.get("scheduling") or "WHEN_IDLE"
    if scheduling not in _SCHEDULING:
        raise invalid("functionResponses[].scheduling.")
    return ToolResponse(
        id=str(response.get("id") or ""),
        name=str(response.get("name") or ""),
        response=response["response"],
        scheduling="WHEN_IDLE" if scheduling == "SCHEDULING_UNSPECIFIED" else scheduling,
    )


_READERS: Final[dict[str, Callable[[dict[str, Any]], list[Message]]]] = {
    "setup": lambda body: [Setup(body)],
    "realtimeInput": _realtime,
    "clientContent": _client_content,
    "toolResponse": _tool_responses,
    "contextUpdate": lambda body: [ContextUpdate(text_of(body.get("systemInstruction")))],
}
