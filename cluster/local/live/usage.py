"""What a session costs in tokens: the context grows and is billed again with every turn.

Rule 1: pure; the exact counts here are the truth that a ledger is compared with.
Rule 2: a generation is **billed** from its first audio or function call on, with its whole prompt and what was sent of
its answer, also if a fault or the client ended the connection in the midst of it. It is **reported** only if the
``usageMetadata`` message with it was handed to the socket; a client can't know more than that. (What was handed over
right before an abort, or to a client that was closing, may not have arrived.) Transcripts are billed, never reported.
Source: the protocol reference, section 4: 25 tokens per second of audio in and out; total is prompt plus response; some
prompt tokens have no modality; a model that listens all the time bills silence once, which then leaves the context.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

AUDIO_TOKENS_PER_S: Final = 25
UNATTRIBUTED_TOKENS: Final = 18
_CHARACTERS_PER_TOKEN: Final = 4


def text_tokens(characters: int) -> int:
    """Tokens of a text of this length, rounded up."""
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def audio_tokens(duration_ms: float) -> int:
    """Tokens of audio of this length, rounded up."""
    return math.ceil(duration_ms * AUDIO_TOKENS_PER_S / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one generation, or of several added up."""

    prompt_text: int = 0
    prompt_audio: int = 0
    prompt_unattributed: int = 0
    response_text: int = 0
    response_audio: int = 0
    transcript: int = 0
    """Text tokens of the transcripts: billed by the service, but not in its usage messages."""

    @property
    def prompt(self) -> int:
        """All prompt tokens."""
        return self.prompt_text + self.prompt_audio + self.prompt_unattributed

    @property
    def response(self) -> int:
        """All response tokens."""
        return self.response_text + self.response_audio

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def to_wire(self, *, vertex: bool) -> dict[str, Any]:
        """``usageMetadata`` with the names of the backend."""
        response = "candidates" if vertex else "response"
        content: dict[str, Any] = {
            "promptTokenCount": self.prompt,
            f"{response}TokenCount": self.response,
            "totalTokenCount": self.prompt + self.response,
            "promptTokensDetails": _details(self.prompt_text, self.prompt_audio),
            f"{response}TokensDetails": _details(self.response_text, self.response_audio),
        }
        return content | ({"trafficType": "ON_DEMAND"} if vertex else {})


def _details(text: int, audio: int) -> list[dict[str, Any]]:
    counts = (("TEXT", text), ("AUDIO", audio))
    return [{"modality": modality, "tokenCount": count} for modality, count in counts if count]


@dataclass(frozen=True, slots=True)
class _Turn:
    text: int
    audio: int


class ContextWindow:
    """The tokens that the model has before it, turn by turn; compression drops the oldest turns first."""

    def __init__(
        self,
        system_tokens: int,
        compression: tuple[int, int] | None,
        turns: Sequence[_Turn] = (),
        unanswered: _Turn = _Turn(0, 0),
    ) -> None:
        self._system_tokens = system_tokens
        self._compression = compression
        self._turns: deque[_Turn] = deque(turns)
        self._open = unanswered
        self._silence_tokens = 0

    @property
    def tokens(self) -> int:
        """Everything in the context now."""
        kept = sum(turn.text + turn.audio for turn in self._turns)
        return self._system_tokens + kept + self._open.text + self._open.audio

    def add(self, *, text: int = 0, audio: int = 0) -> None:
        """Input that stays in the context, as part of the turn that is being built."""
        self._open = _Turn(self._open.text + text, self._open.audio + audio)

    def listen(self, silence: int) -> None:
        """Silence that is billed with the next generation and then forgotten."""
        self._silence_tokens += silence

    def generate(self, *, response_text: int, response_audio: int, kept_audio: int, transcript: int) -> Usage:
        """One generation over the present context; of its audio, ``kept_audio`` tokens stay in the context."""
        usage = Usage(
            prompt_text=self._system_tokens + self._open.text + sum(turn.text for turn in self._turns),
            prompt_audio=self._silence_tokens + self._open.audio + sum(turn.audio for turn in self._turns),
            prompt_unattributed=UNATTRIBUTED_TOKENS,
            response_text=response_text,
            response_audio=response_audio,
            transcript=transcript,
        )
        self._silence_tokens = 0
        self._turns.append(_Turn(self._open.text + response_text, self._open.audio + kept_audio))
        self._open = _Turn(0, 0)
        self._compress()
        return usage

    def copy(self, system_tokens: int | None = None, compression: tuple[int, int] | None = None) -> ContextWindow:
        """The same conversation; under another setup if its ``system_tokens`` are given."""
        if system_tokens is None:
            return ContextWindow(self._system_tokens, self._compression, tuple(self._turns), self._open)
        return ContextWindow(system_tokens, compression, tuple(self._turns), self._open)

    def _compress(self) -> None:
        if self._compression is None or self.tokens <= self._compression[0]:
            return
        while self._turns and self.tokens > self._compression[1]:
            self._turns.popleft()
