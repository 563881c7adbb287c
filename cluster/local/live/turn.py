"""One turn of the agent: its audio, its function call, its end, and what it cost.

Order on the wire (protocol reference 1.5): audio and its transcript faster than they are played, the function call,
generationComplete; once played, one message with turnComplete and usage; then the resumption handle.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
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

Passed = Callable[[float], Awaitable[Fault | None]]


class Socket(Protocol):
    """The websocket of one session."""

    @property
    def takes(self) -> bool:
        """Whether a message would be handed over now."""

    async def send(self, message: bytes) -> None:
        """Sends one message; nothing if the socket has closed or is mute."""

    def mute(self) -> None:
        """Sends nothing from now on; the connection stays open."""

    async def close(self, code: int, reason: str) -> None:
        """Closes with this code."""

    def abort(self) -> None:
        """Cuts the connection without a word (the client sees 1006)."""


@dataclass(slots=True, kw_only=True)
class Conversation:
    """What a resumption handle restores: the context, what was said in it, and where the script stands."""

    number: int
    """That of its first connection."""
    context: ContextWindow
    agent: Agent
    opened: bool = False
    """Something was said: a written prompt is no longer the opening."""
    utterances: int = 0
    told: str = ""
    """All text of it, for ``Answer.needs``."""

    def remember(self, text: str) -> None:
        """Something was said, heard or told."""
        self.told = f"{self.told} {text}"


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

    async def send(self, message: bytes) -> None:
        """Sends one message to the client."""
        await self.socket.send(message)

    async def report(self, message: bytes, usage: Usage) -> None:
        """Sends a message with this usage in it, and counts it if the socket takes it."""
        if self.socket.takes:
            self.record.reported += replace(usage, transcript=0)
            self.record.usage_messages += 1
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
    _transcribed: int = 0
    _generating: bool = False
    """Something was sent that no usage was counted for."""

    async def begin(self) -> None:
        """From here on the session can't be resumed until the turn is over."""
        if self.record not in self.link.record.turns:
            self.link.record.turns.append(self.record)
            if self.link.setup.resumable:
                await self.link.send(outgoing.resumption_update("", consumed=self._index()))

    async def speak(self, text: str, passed: Passed, *, quiet: bool = False) -> Fault | None:
        """Sends ``text`` as speech, the first piece at once and the rest faster than it is played.

        After each piece ``passed`` gets the length of the turn's audio so far; a fault that it returns ends the answer
        and is returned.
        """
        speech = self.link.parts.speaker.say(text, "agent", 24_000)
        if quiet:
            speech = _NEAR_ZERO * (len(speech) // 2)
        chunks = _cut(speech)
        words = split_transcript(text, [len(chunk) for chunk in chunks])
        self.record.said += " " if self.record.said else ""
        self._started_at = self._played_at = max(time.monotonic(), self._played_at)
        self._generating = True
        for chunk, spoken in zip(chunks, words, strict=True):
            chunk_ms = len(chunk) / _BYTES_PER_MS
            self.record.sent_ms += chunk_ms
            self.record.said += spoken
            self._sent_ms += chunk_ms
            self._played_at += chunk_ms / 1000
            await self.link.send(outgoing.audio(chunk))
            self.record.first_audio_at = self.record.first_audio_at or time.monotonic()
            if self.link.setup.transcribes_output and spoken:
                await self.link.send(outgoing.output_transcript(spoken))
            fault = await passed(self.record.sent_ms)
            if fault is not None:
                return fault
            await asyncio.sleep(chunk_ms / 1000 / _FASTER_THAN_PLAYED)
        return None

    async def call(self, call: ToolCall, *, blocking: bool) -> str:
        """Asks for a function to be run; returns the call's id. A blocking call ends the generation, with its usage."""
        call_id = f"{call.tool}-{secrets.token_hex(4)}"
        self.calls.append(call_id)
        self.link.record.tool_calls.append(call.tool)
        self._text_out += text_tokens(len(call.tool) + len(json.dumps(call.args)))
        self._generating = True
        if blocking:
            usage = self._generated(self._sent_ms)
            message = outgoing.tool_call(call_id, call.tool, call.args, usage.to_wire(vertex=self._vertex))
            await self.link.report(message, usage)
        else:
            await self.link.send(outgoing.tool_call(call_id, call.tool, call.args, None))
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
        await self.end(kept_ms=min(self._sent_ms, (now - self._started_at) * 1000), cancelled=cancelled)

    async def end(self, *, kept_ms: float | None = None, cancelled: Sequence[str] = (), reason: str = "") -> None:
        """Turn complete, with its usage, after the ``cancelled`` calls were taken back.

        ``kept_ms`` of its audio stay in the context (None: all).
        """
        if cancelled:
            await self.link.send(outgoing.tool_call_cancellation(cancelled))
        self.link.talk.remember(self.record.said)
        usage = self._generated(self._sent_ms if kept_ms is None else kept_ms)
        self.record.ended_at = time.monotonic()
        idle_status = self.link.setup.rules.proactive == "fixed"
        message = outgoing.turn_complete(usage, vertex=self._vertex, idle_status=idle_status, reason=reason)
        await self.link.report(message, usage)

    async def offer_handle(self) -> None:
        """From here on the session can be resumed, as it is now."""
        handle = secrets.token_urlsafe(24)
        self.link.parts.keep_handle(handle, self.link)
        await self.link.send(outgoing.resumption_update(handle, consumed=self._index()))

    def cut_off(self) -> None:
        """The connection is over: what was sent of an answer is billed, though it can't be reported."""
        if self._generating:
            self._generated(self._sent_ms)

    @property
    def _vertex(self) -> bool:
        return self.link.setup.backend is Backend.VERTEX

    def _index(self) -> int | None:
        return self.consumed if self.link.setup.transparent else None

    def _generated(self, kept_ms: float) -> Usage:
        heard = self.record.heard if self.link.setup.transcribes_input else ""
        said = self.record.said if self.link.setup.transcribes_output else ""
        transcribed = text_tokens(len(heard)) + text_tokens(len(said))
        usage = self.link.talk.context.generate(
            response_text=self._text_out,
            response_audio=audio_tokens(self._sent_ms),
            kept_audio=audio_tokens(kept_ms),
            transcript=transcribed - self._transcribed,
        )
        self.link.record.generations.append(usage)
        self._transcribed = transcribed
        self._text_out, self._sent_ms, self._generating = 0, 0.0, False
        return usage


def _cut(speech: bytes) -> list[bytes]:
    first, step = _FIRST_CHUNK_MS * _BYTES_PER_MS, _CHUNK_MS * _BYTES_PER_MS
    return [speech[:first], *(speech[at : at + step] for at in range(first, len(speech), step))]
