"""Server messages of the Live protocol, as the bytes of one websocket frame each.

Source: the protocol reference, section 1.5. Names are camelCase, durations are strings such as "50s", and so are 64-bit
numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from cluster.local.live.usage import Usage


def encode(**content: Any) -> bytes:
    """One message."""
    return json.dumps(content, separators=(",", ":")).encode()


def setup_complete(session_id: str) -> bytes:
    """Ready; only Vertex AI names the session."""
    return encode(setupComplete={"sessionId": session_id} if session_id else {})


def audio(pcm16: bytes) -> bytes:
    """A piece of the model's speech, PCM16 mono at 24 kHz."""
    blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(pcm16).decode()}
    return encode(serverContent={"modelTurn": {"role": "model", "parts": [{"inlineData": blob}]}})


def output_transcript(text: str) -> bytes:
    """Words of the model's speech."""
    return encode(serverContent={"outputTranscription": {"text": text}})


def input_transcript(text: str) -> bytes:
    """Words of the caller's speech."""
    return encode(serverContent={"inputTranscription": {"text": text}})


def generation_complete() -> bytes:
    """The answer is complete, though it is still being played."""
    return encode(serverContent={"generationComplete": True})


def interrupted() -> bytes:
    """The caller spoke over the answer: what is queued must be dropped."""
    return encode(serverContent={"interrupted": True})


def turn_complete(usage: Usage, *, vertex: bool, idle_status: bool, reason: str = "") -> bytes:
    """The turn is over, and what it used."""
    content: dict[str, Any] = {"turnComplete": True}
    if reason:
        content["turnCompleteReason"] = reason
    if idle_status:
        content["interactionStatus"] = "IDLE"
    return encode(serverContent=content, usageMetadata=usage.to_wire(vertex=vertex))


def tool_call(call_id: str, name: str, args: dict[str, Any], usage: dict[str, Any] | None) -> bytes:
    """A function to run; with the usage of the generation that it ends, if it does."""
    call = {"functionCalls": [{"id": call_id, "name": name, "args": args}]}
    return encode(toolCall=call, usageMetadata=usage) if usage else encode(toolCall=call)


def tool_call_cancellation(call_ids: Sequence[str]) -> bytes:
    """Calls whose results are no longer wanted."""
    return encode(toolCallCancellation={"ids": list(call_ids)})


def resumption_update(handle: str, *, consumed: int | None) -> bytes:
    """A handle to resume with; an empty one while that is not possible."""
    update: dict[str, Any] = {"newHandle": handle, "resumable": True} if handle else {"resumable": False}
    if consumed is not None:
        update["lastConsumedClientMessageIndex"] = str(consumed)
    return encode(sessionResumptionUpdate=update)


def go_away(time_left: str) -> bytes:
    """The connection will be closed after this time."""
    return encode(goAway={"timeLeft": time_left})
