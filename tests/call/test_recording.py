"""A recording outlives the process that makes it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cluster.call.live import INPUT_HZ
from cluster.call.recording import Recorder


def tone(level: int, seconds: float) -> bytes:
    """A frame of one value."""
    return np.full(round(seconds * INPUT_HZ), level, np.int16).tobytes()


def names(folder: Path) -> list[str]:
    """What lies there."""
    return [path.name for path in folder.iterdir()]


async def record(recorder: Recorder, level: int, seconds: float) -> None:
    """Both sides for so long; the agent is heard at minus that level."""
    recorder.caller(tone(level, seconds))
    recorder.agent(tone(-level, seconds), INPUT_HZ)
    await recorder.flush()


def heard(path: str) -> list[tuple[int, int, float]]:
    """What is in a recording: both levels, and for how many seconds."""
    samples, hz = soundfile.read(path, dtype="int16")
    changes = [0, *(np.flatnonzero(np.any(np.diff(samples, axis=0), axis=1)) + 1), len(samples)]
    return [
        (int(samples[begin][0]), int(samples[begin][1]), round((end - begin) / hz, 3))
        for begin, end in pairwise(changes)
    ]


async def test_the_parts_of_one_process_are_joined_without_a_seam(tmp_path: Path) -> None:
    """And nothing of them is left."""
    recorder = Recorder(str(tmp_path), "call-1")
    for level in (100, 200):
        await record(recorder, level, 1.0)
    recorder.caller(tone(300, 0.5))
    assert heard(await recorder.save()) == [(100, -100, 1.0), (200, -200, 1.0), (300, 0, 0.5)]
    assert names(tmp_path) == ["call-1.flac"]


@pytest.mark.parametrize(
    ("since_s", "expected"),
    [
        (5.0, [(100, -100, 2.0), (0, 0, 1.0), (200, -200, 1.0)]),
        (3.5, [(100, -100, 2.0), (200, -200, 0.5)]),
    ],
    ids=["a gap is silent", "nothing is heard twice"],
)
async def test_a_process_goes_on_where_another_one_stopped(
    tmp_path: Path, since_s: float, expected: list[tuple[int, int, float]]
) -> None:
    """The first one joined when the call was two seconds old, and died two seconds and a half later."""
    lost = Recorder(str(tmp_path), "call-1", since_s=2.0)
    await record(lost, 100, 2.0)
    lost.caller(tone(999, 0.5))
    taker = Recorder(str(tmp_path), "call-1", since_s=since_s)
    await record(taker, 200, 1.0)
    assert heard(await taker.save()) == expected


async def test_a_sentence_of_another_rate_is_recorded_at_its_own_speed(tmp_path: Path) -> None:
    """After one of the recording's rate."""
    recorder = Recorder(str(tmp_path), "call-1")
    await record(recorder, 100, 1.0)
    recorder.caller(tone(200, 2.0))
    recorder.agent(np.full(24_000, -200, np.int16).tobytes(), 24_000)
    samples, hz = soundfile.read(await recorder.save(), dtype="int16")
    loud = np.flatnonzero(samples[:, 1] < -150)
    assert (loud[-1] - loud[0]) / hz == pytest.approx(1.0, abs=0.05)


async def test_a_call_without_a_sound_has_no_recording(tmp_path: Path) -> None:
    """The phone never had a line."""
    assert await Recorder(str(tmp_path), "call-1").save() == ""
    assert names(tmp_path) == []
