"""The recording of one call: stereo FLAC, caller left, agent right, kept on disk while it grows and then uploaded.

Both sides run on the caller's clock: the line delivers a frame every few milliseconds without gaps, so a frame of the
caller is written with as much of the agent as was played meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from cluster.call.live import INPUT_HZ
from cluster.call.playout import PlayoutQueue
from cluster.call.voice import MAX_REPLY_MS, Resampler

FLUSH_S = 1.0


class Recorder:
    """Collects both sides; `flush_for_ever` writes once a second, off the event loop."""

    def __init__(self, url: str, call_id: str) -> None:
        """`url` is a folder: a local path or any fsspec URL."""
        self.url = f"{url.rstrip('/')}/{call_id}.flac"
        self._folder = tempfile.TemporaryDirectory(prefix="ringmaster-")
        self._path = Path(self._folder.name) / "call.flac"
        self._file = soundfile.SoundFile(self._path, "w", INPUT_HZ, 2, format="FLAC", subtype="PCM_16")
        self._caller: list[bytes] = []
        self._agent = PlayoutQueue(INPUT_HZ, MAX_REPLY_MS)
        self._resampler: Resampler | None = None

    def caller(self, pcm: bytes) -> None:
        """A frame of the caller: 16-bit mono PCM at 16 kHz."""
        self._caller.append(pcm)

    def agent(self, pcm: bytes, rate_hz: int) -> None:
        """A piece of the agent, as it goes to the line."""
        if self._resampler is None:
            self._resampler = Resampler(rate_hz, INPUT_HZ, "LQ")
        self._agent.put(self._resampler.feed(np.frombuffer(pcm, np.int16)).tobytes())

    def silence_agent(self) -> None:
        """Barge-in: what was queued was not heard, so it is not recorded."""
        self._agent.clear()

    async def flush_for_ever(self) -> None:
        """Write what has gathered, every second."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what has gathered."""
        left = np.frombuffer(b"".join(self._caller), np.int16)
        self._caller.clear()
        right = np.zeros(len(left), np.int16)
        played = np.frombuffer(self._agent.take(len(left) * 1000 / INPUT_HZ), np.int16)
        right[: len(played)] = played
        if len(left):
            await asyncio.to_thread(self._file.write, np.column_stack((left, right)))

    async def save(self) -> str:
        """Close and upload; returns the URL of the recording."""
        await self.flush()
        await asyncio.to_thread(self._upload)
        return self.url

    def _upload(self) -> None:
        import fsspec  # a megabyte that only recorded calls need

        self._file.close()
        filesystem, path = fsspec.core.url_to_fs(self.url)
        filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        filesystem.put_file(str(self._path), path)
        self._folder.cleanup()
