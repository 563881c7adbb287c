"""Speech is found where it is, on quiet and noisy lines."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.local.live.vad import BYTES_PER_MS, Heard, Sensitivity, Vad, VadSettings
from cluster.local.speech import Speaker

SILENCE_MS = 1_000


@pytest.fixture(scope="module")
def speech() -> bytes:
    """One sentence without a long pause, 16 kHz."""
    return Speaker().say("I would like to order a birthday cake", "caller", 16_000)


def _line(speech: bytes, *, noise: float, gain: float = 1.0) -> bytes:
    quiet = np.zeros(SILENCE_MS * 16)
    samples = np.concatenate([quiet, np.frombuffer(speech, "<i2") * gain, quiet])
    return (
        (samples + np.random.default_rng(3).normal(0, noise, samples.size)).clip(-32768, 32767).astype("<i2").tobytes()
    )


def _events(vad: Vad, audio: bytes, chunk_ms: int = 40) -> list[tuple[float, Heard]]:
    step = chunk_ms * BYTES_PER_MS
    chunks = [audio[at : at + step] for at in range(0, len(audio), step)]
    found = [(count * chunk_ms, event) for count, chunk in enumerate(chunks, 1) for event in vad.feed(chunk)]
    return [(at_ms, event) for at_ms, event in found if event in {Heard.START, Heard.END}]


@pytest.mark.parametrize("noise", [0.0, 30.0, 100.0])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_start_and_end_are_found_in_time(speech: bytes, noise: float, gain: float) -> None:
    """The start within 160 ms, the end after the silence asked for and no more than 120 ms off."""
    vad = Vad(VadSettings(prefix_ms=20, silence_ms=300))
    (start_ms, start), (end_ms, end) = _events(vad, _line(speech, noise=noise, gain=gain))
    length_ms = len(speech) / BYTES_PER_MS
    assert (start, end) == (Heard.START, Heard.END)
    assert 0 < start_ms - SILENCE_MS <= 160
    assert end_ms - SILENCE_MS - length_ms == pytest.approx(300, abs=120)


@pytest.mark.parametrize("chunk_ms", [10, 20, 100])
def test_pieces_of_any_size_give_the_same_events(speech: bytes, chunk_ms: int) -> None:
    """Events do not depend on how the audio is cut, but for the rounding to the piece."""
    line = _line(speech, noise=30.0)
    expected = _events(Vad(VadSettings(silence_ms=300)), line, 10)
    for (at_ms, event), (expected_ms, expected_event) in zip(
        _events(Vad(VadSettings(silence_ms=300)), line, chunk_ms), expected, strict=True
    ):
        assert event is expected_event
        assert 0 <= at_ms - expected_ms < chunk_ms


def test_a_click_is_not_speech() -> None:
    """Less sound than the prefix asked for starts nothing."""
    click = np.random.default_rng(0).normal(0, 8_000, 16 * 30).astype("<i2").tobytes()
    assert _events(Vad(VadSettings(prefix_ms=100)), _line(click, noise=10.0)) == []


def test_low_start_sensitivity_ignores_quiet_speech(speech: bytes) -> None:
    """Speech little louder than the line is heard with high sensitivity only."""
    line = _line(speech, noise=150.0, gain=0.15)
    assert _events(Vad(VadSettings(start=Sensitivity.HIGH)), line)
    assert len(_events(Vad(VadSettings(start=Sensitivity.LOW, prefix_ms=200)), line)) < 2


def test_a_louder_line_does_not_keep_the_turn_open(speech: bytes) -> None:
    """The floor follows the line: noise that stays is not speech for ever."""
    vad = Vad(VadSettings(silence_ms=300))
    noise = np.random.default_rng(0).normal(0, 600, 16_000 * 8).astype("<i2").tobytes()
    events = _events(vad, _line(speech, noise=10.0) + noise)
    assert events[-1][1] is Heard.END


def test_pause_and_resume_lie_between(speech: bytes) -> None:
    """A gap shorter than the turn's silence is reported as pause and resume."""
    vad = Vad(VadSettings(silence_ms=600))
    gap = bytes(300 * BYTES_PER_MS)
    heard = vad.feed(_line(speech + gap + speech, noise=10.0))
    kinds = [event for event in heard if event in {Heard.START, Heard.RESUME, Heard.END}]
    assert kinds == [Heard.START, Heard.RESUME, Heard.END]


def test_the_end_of_the_stream_ends_speech(speech: bytes) -> None:
    """Open speech ends with the stream, and nothing ends twice."""
    vad = Vad(VadSettings())
    vad.feed(speech)
    assert vad.end_now() == [Heard.END]
    assert vad.end_now() == []
