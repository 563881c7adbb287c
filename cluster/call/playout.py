"""The queue of model audio that waits to be heard, and the queue of caller audio that waits to be sent.

Rules of this file:
1. Both queues hold 16-bit mono PCM and have a size in milliseconds and a drop rule.
2. Nothing here reads a clock or waits.
"""

from __future__ import annotations

from collections import deque

BYTES_PER_SAMPLE = 2


def duration_ms(pcm_bytes: int, rate_hz: int) -> float:
    """Length of that many bytes of 16-bit mono PCM, in milliseconds."""
    return pcm_bytes * 1000 / (rate_hz * BYTES_PER_SAMPLE)


class PlayoutQueue:
    """Model audio, which arrives faster than it is heard; emptied only by barge-in or by being heard.

    `max_ms` bounds the memory. The model's reader must not wait for room, since it also carries the barge-in
    that makes room; so what does not fit is refused, and the caller of `put` reports it.
    """

    def __init__(self, rate_hz: int, max_ms: float) -> None:
        self.rate_hz = rate_hz
        self._max_bytes = int(max_ms * rate_hz * BYTES_PER_SAMPLE / 1000)
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._offset = 0

    @property
    def queued_ms(self) -> float:
        """Milliseconds of audio in the queue."""
        return duration_ms(self._bytes, self.rate_hz)

    def put(self, pcm: bytes) -> bool:
        """Append whole samples; False where they do not fit and were refused."""
        if self._bytes + len(pcm) > self._max_bytes:
            return False
        self._chunks.append(pcm)
        self._bytes += len(pcm)
        return True

    def take(self, max_ms: float) -> bytes:
        """Remove and return up to `max_ms` from the front; empty bytes where there is none."""
        wanted = int(max_ms * self.rate_hz / 1000) * BYTES_PER_SAMPLE
        parts: list[bytes] = []
        while wanted > 0 and self._chunks:
            head = self._chunks[0]
            part = head[self._offset : self._offset + wanted]
            parts.append(part)
            wanted -= len(part)
            self._bytes -= len(part)
            self._offset += len(part)
            if self._offset == len(head):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(parts)

    def clear(self) -> float:
        """Drop everything; returns how many milliseconds will not be heard."""
        dropped = self.queued_ms
        self._chunks.clear()
        self._bytes = self._offset = 0
        return dropped


class UplinkQueue:
    """Caller audio on its way to the model: a bounded number of frames, of which the oldest give way.

    The model can use late audio but not a growing delay, so after a stall it gets the newest `max_ms`.
    """

    def __init__(self, frame_ms: int, max_ms: int) -> None:
        self._frames: deque[bytes] = deque(maxlen=max(1, max_ms // frame_ms))
        self.dropped = 0
        """Frames that were never sent."""

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, pcm: bytes) -> None:
        """Append one frame; where the queue is full, the oldest one is dropped and counted."""
        self.dropped += len(self._frames) == self._frames.maxlen
        self._frames.append(pcm)

    def take_all(self) -> bytes:
        """Remove and return everything that waits, as one piece."""
        pcm = b"".join(self._frames)
        self._frames.clear()
        return pcm


class CallerTape:
    """The caller's audio that no answer has covered yet, for a connection that has to hear it again.

    Before anybody speaks it holds just the last moments, so that a word keeps its beginning; then everything up to
    `max_ms`, of which the oldest gives way.
    """

    def __init__(self, rate_hz: int, max_ms: float, lead_ms: float = 300) -> None:
        self._bytes_per_ms = rate_hz * BYTES_PER_SAMPLE / 1000
        self._max_ms, self._lead_ms = max_ms, lead_ms
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._keeping = False

    def put(self, pcm: bytes) -> None:
        """Record one frame."""
        self._frames.append(pcm)
        self._bytes += len(pcm)
        self._trim(self._max_ms if self._keeping else self._lead_ms)

    def keep(self, *, anew: bool) -> None:
        """Somebody speaks: from here on it is worth keeping. `anew`: what there is of before is not."""
        if anew:
            self._trim(self._lead_ms)
        self._keeping = True

    def settle(self) -> None:
        """What was said is answered."""
        self._keeping = False

    def recorded(self) -> bytes:
        """Everything that is kept, oldest first."""
        return b"".join(self._frames)

    def _trim(self, limit_ms: float) -> None:
        while len(self._frames) > 1 and self._bytes > limit_ms * self._bytes_per_ms:
            self._bytes -= len(self._frames.popleft())
