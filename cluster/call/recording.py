"""The recording of one call: stereo FLAC, caller left, agent right; stored in parts while the call goes on.

Rules of this file:
1. Both sides run on the caller's clock: the line delivers a frame every few milliseconds without gaps, so a frame of
   the caller is written with as much of the agent as was played meanwhile.
2. A part's name says where in the call it begins. Whatever becomes of the process, its parts are there, and whoever
   ends the call joins them: where nobody recorded there is silence, and nothing is heard twice.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from cluster.call.live import INPUT_HZ
from cluster.call.playout import PlayoutQueue
from cluster.call.voice import MAX_REPLY_MS, Resampler

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PART_S: Final = 1.0
"""The most that the death of a process takes from a recording on a disk …"""
REMOTE_PART_S: Final = 5.0
"""… and from one in an object store, which charges for every part."""


class Recorder:
    """Collects both sides; each `flush` stores a part of them, off the event loop, and one is due every `part_s`."""

    def __init__(self, url: str, call_id: str, *, since_s: float = 0.0) -> None:
        """`url` is a folder: a local path or any fsspec URL. `since_s`: how old the call is now."""
        self.url = f"{url.rstrip('/')}/{call_id}.flac"
        self.part_s = REMOTE_PART_S if "://" in url else PART_S
        self._parts_url = f"{url.rstrip('/')}/{call_id}.parts"
        self._next_sample = round(since_s * INPUT_HZ)
        self._caller: list[bytes] = []
        self._agent = PlayoutQueue(INPUT_HZ, MAX_REPLY_MS)
        self._resampler: Resampler | None = None

    def caller(self, pcm: bytes) -> None:
        """A frame of the caller: 16-bit mono PCM at 16 kHz."""
        self._caller.append(pcm)

    def agent(self, pcm: bytes, rate_hz: int) -> None:
        """A piece of the agent, as it goes to the line."""
        if self._resampler is None or self._resampler.from_hz != rate_hz:
            self._resampler = Resampler(rate_hz, INPUT_HZ, "LQ")
        self._agent.put(self._resampler.feed(np.frombuffer(pcm, np.int16)).tobytes())

    def silence_agent(self) -> None:
        """Barge-in: what was queued was not heard, so it is not recorded."""
        self._agent.clear()

    async def flush(self) -> None:
        """Store what has gathered. What can't be stored is lost, and nothing before and after it."""
        left = np.frombuffer(b"".join(self._caller), np.int16)
        self._caller.clear()
        right = np.zeros(len(left), np.int16)
        played = np.frombuffer(self._agent.take(len(left) * 1000 / INPUT_HZ), np.int16)
        right[: len(played)] = played
        if len(left):
            begins, self._next_sample = self._next_sample, self._next_sample + len(left)
            await asyncio.to_thread(self._store, begins, np.column_stack((left, right)).astype("<i2").tobytes())

    async def save(self) -> str:
        """Join the parts, also those of earlier processes; returns the recording's URL, if there is any sound."""
        await self.flush()
        return self.url if await asyncio.to_thread(self._join) else ""

    def _store(self, begins: int, pcm: bytes) -> None:
        filesystem, folder = _at(self._parts_url)
        filesystem.makedirs(folder, exist_ok=True)
        filesystem.pipe_file(f"{folder}/{begins:012d}.pcm", pcm)

    def _join(self) -> bool:
        filesystem, folder = _at(self._parts_url)
        parts = sorted(filesystem.ls(folder, detail=False)) if filesystem.exists(folder) else []
        if not parts:
            return False
        position = int(Path(parts[0]).stem)
        with tempfile.TemporaryDirectory(prefix="ringmaster-") as temporary:
            path = Path(temporary) / "call.flac"
            with soundfile.SoundFile(path, "w", INPUT_HZ, 2, format="FLAC", subtype="PCM_16") as joined:
                for part in parts:
                    frames = np.frombuffer(filesystem.cat_file(part), "<i2").reshape(-1, 2)
                    ahead = int(Path(part).stem) - position
                    missing, new = np.zeros((max(0, ahead), 2), np.int16), frames[max(0, -ahead) :]
                    joined.write(np.concatenate((missing, new)))
                    position += len(missing) + len(new)
            filesystem, target = _at(self.url)
            filesystem.put_file(str(path), target)
        filesystem.rm(folder, recursive=True)
        return True


def _at(url: str) -> tuple[AbstractFileSystem, str]:
    import fsspec  # a megabyte that only recorded calls need

    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    return filesystem, path
