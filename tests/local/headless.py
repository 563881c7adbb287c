"""A caller without a phone: 16 kHz speech in pieces, at the pace at which it is spoken, to wherever audio is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from cluster.local.speech import Speaker

CHUNK_MS = 40
CHUNK_BYTES = CHUNK_MS * 32
_SPEAKER = Speaker()


def speech(text: str) -> bytes:
    """``text`` in the caller's voice: PCM16 mono at 16 kHz, without silence at its ends."""
    return _SPEAKER.say(text, "caller", 16_000)


class Caller:
    """An open microphone: ``run`` sends a piece every 40 ms (``speed`` times as often), silence if nothing is said."""

    def __init__(self, send: Callable[[bytes], Awaitable[object]], *, speed: float = 1.0) -> None:
        self._send = send
        self._speed = speed
        self._speech = bytearray()
        self._sent = asyncio.Event()

    def begin(self, pcm16: bytes) -> None:
        """Starts to say this, after what is being said."""
        self._speech += pcm16
        self._sent.clear()

    async def say(self, pcm16: bytes) -> float:
        """Says this; returns when its last piece was sent, with that time. Waits for ever if ``run`` has ended."""
        self.begin(pcm16)
        await self._sent.wait()
        return time.monotonic()

    async def run(self) -> None:
        """Sends until it is cancelled or ``send`` raises."""
        due = time.monotonic()
        while True:
            piece = bytes(self._speech[:CHUNK_BYTES])
            del self._speech[:CHUNK_BYTES]
            await self._send(piece + bytes(CHUNK_BYTES - len(piece)))
            if not self._speech:
                self._sent.set()
            due += CHUNK_MS / 1000 / self._speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))
