"""One turn of the agent: its audio, its function call, its end, and what it cost.

Order on the wire (protocol reference 1.5): audio and its transcript faster than they are played, the function call,
generationComplete; once played, one message with turnComplete and usage; then the resumption handle.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cluster.local.live import outgoing
from cluster.local.live.record import SessionRecord, TurnRecord
from cluster.local.live.script import split_transcript
from cluster.local.live.setup import Backend, SessionSetup
from cluster.local.live.usage import ContextWindow, Usage, audio_tokens, text_tokens
from cluster.local.scenario import Agent, Fault, ToolCall
from cluster.local.speech import Speaker

_BYTES_PER_MS: Final = 48
_FIRST_CHUNK_MS: Final = 60
_CHUNK_MS: Final = 240
_FASTER_THAN_PLAYED: Final = 5.0
_NEAR_ZERO: Final = b"\x02\x00"


class Socket(Protocol):
    """The websocket of one session."""

    async def send(self, message: bytes) -> None:
        """Sends one message; nothing if the socket has closed."""

    async def close(self, code: int, reason: str) -> None:
        """Closes with this code."""

    def abort(self) -> None:
        """Cuts the connection without a word (the client sees 1006)."""


@dataclass(slots=True, kw_only=True)
class Conversation:
    """What a resumption handle restores: the context, and where the script stands."""

    context: ContextWindow
    agent: Agent
    opened: bool = False
    """Something was said: a written prompt is no longer the opening."""
    utterances: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the endpoint lends to each of its sessions."""

    speaker: Speaker
    transcribe: Callable[[Agent, int, bytes], Coroutine[Any, Any, str]]
    """(agent, number of the utterance, PCM16 mono at 16 kHz) -> words."""
    keep_handle: Callable[[str, Link], None]
    clock_speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One session's connection, and what it was set up with."""

    setup: SessionSetup
    talk: Conversation
    socket: Socket
    record: SessionRecord
    parts: Parts
    faults: tuple[Fault, ...] = ()

    async def send(self, message: bytes) -> None:
        """Sends one message to the client."""
        await self.socket.send(message)


@dataclass(slots=True)
class Turn:
    """The turn being taken. Its coroutines may be cancelled at any await; nothing is sent after that."""

    link: Link
    record: TurnRecord
    calls: list[str] = field(default_factory=list)
    """Ids of the function calls made in this turn."""
    consumed: int = 0
    """Client messages taken in so far, for transparent resumption."""
    _started_at: float = 0.0
    _played_at: float = 0.0
    _sent_ms: float = 0.0
    _text_out: int = 0

    async def begin(self) -> None:
        """From here on the session can't be resumed until the turn is over."""
        if self.record not in self.link.record.turns:
            self.link.record.turns.append(self.record)
            if self.link.setup.resumable:
                await self.link.send(outgoing.resumption_update("", consumed=self._index()))

    async def speak(self, text: str, *, quiet: bool = False) -> None:
        """Sends ``text`` as speech, the first piece at once and the rest faster than it is played."""
        speech = self.link.parts.speaker.say(text, "agent", 24_000)
        if quiet:
            speech = _NEAR_ZERO * (len(speech) // 2)
        chunks = _cut(speech)
        words = split_transcript(text, [len(chunk) for chunk in chunks])
        self.record.said = f"{self.record.said} {text}".strip()
        self._started_at = max(time.monotonic(), self._played_at)
        self._played_at = self._started_at + len(speech) / _BYTES_PER_MS / 1000
        for chunk, spoken in zip(chunks, words, strict=True):
            chunk_ms = len(chunk) / _BYTES_PER_MS
            await self.link.send(outgoing.audio(chunk))
            self.record.first_audio_at = self.record.first_audio_at or time.monotonic()
            self.record.sent_ms += chunk_ms
            self._sent_ms += chunk_ms
            if self.link.setup.transcribes_output and spoken:
                await self.link.send(outgoing.output_transcript(spoken))
            await asyncio.sleep(chunk_ms / 1000 / _FASTER_THAN_PLAYED)

    async def call(self, call: ToolCall, *, blocking: bool) -> str:
        """Asks for a function to be run; returns the call's id. A blocking call ends the generation, with its usage."""
        call_id = f"{call.tool}-{secrets.token_hex(4)}"
        self.calls.append(call_id)
        self.link.record.tool_calls.append(call.tool)
        self._text_out += text_tokens(len(call.tool) + len(json.dumps(call.args)))
        usage = self._generated(self._sent_ms).to_wire(vertex=self._vertex) if blocking else None
        await self.link.send(outgoing.tool_call(call_id, call.tool, call.args, usage))
        return call_id

    async def played(self) -> None:
        """Says that the answer is complete, and waits until it would have been played."""
        await self.link.send(outgoing.generation_complete())
        await asyncio.sleep(max(0.0, self._played_at - time.monotonic()))

    async def interrupted(self, cancelled: list[str]) -> None:
        """The caller spoke: says so at once, takes back calls without a result, and ends the turn."""
        now = time.monotonic()
        self.record.interrupted_at = now
        await self.link.send(outgoing.interrupted())
        if cancelled:
            await self.link.send(outgoing.tool_call_cancellation(cancelled))
        await self.end(kept_ms=min(self._sent_ms, (now - self._started_at) * 1000))

    async def end(self, *, kept_ms: float | None = None, reason: str = "") -> None:
        """Turn complete, with its usage; ``kept_ms`` of its audio stay in the context (None: all)."""
        usage = self._generated(self._sent_ms if kept_ms is None else kept_ms)
        self.record.ended_at = time.monotonic()
        idle_status = self.link.setup.rules.proactive == "fixed"
        message = outgoing.turn_complete(usage, vertex=self._vertex, idle_status=idle_status, reason=reason)
        await self.link.send(message)
        if self.link.setup.resumable:
            handle = secrets.token_urlsafe(24)
            self.link.parts.keep_handle(handle, self.link)
            await self.link.send(outgoing.resumption_update(handle, consumed=self._index()))

    def fault(self) -> Fault | None:
        """What is to go wrong in this turn."""
        faults = self.link.faults
        number = self.link.record.number
        mine = (fault for fault in faults if fault.hits("turn", number) and fault.turn == self.record.number)
        return next(mine, None)

    @property
    def _vertex(self) -> bool:
        return self.link.setup.backend is Backend.VERTEX

    def _index(self) -> int | None:
        return self.consumed if self.link.setup.transparent else None

    def _generated(self, kept_ms: float) -> Usage:
        heard = self.record.heard if self.link.setup.transcribes_input else ""
        said = self.record.said if self.link.setup.transcribes_output else ""
        usage = self.link.talk.context.generate(
            response_text=self._text_out,
            response_audio=audio_tokens(self._sent_ms),
            kept_audio=audio_tokens(kept_ms),
            transcript=text_tokens(len(heard)) + text_tokens(len(said)),
        )
        self.link.record.generations.append(usage)
        self._text_out, self._sent_ms = 0, 0.0
        return usage


def _cut(speech: bytes) -> list[bytes]:
    first, step = _FIRST_CHUNK_MS * _BYTES_PER_MS, _CHUNK_MS * _BYTES_PER_MS
    return [speech[:first], *(speech[at : at + step] for at in range(first, len(speech), step))]
