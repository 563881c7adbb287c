"""Speech is real, quick and the same every time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cluster.local.speech import Speaker, Voice, phonemes

LINE = "Good morning, how can I help you?"


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    """One speaker for all tests."""
    return Speaker()


@pytest.mark.parametrize("hz", [8_000, 16_000, 24_000])
def test_length_does_not_depend_on_the_rate(speaker: Speaker, hz: int) -> None:
    """The same sentence takes the same time at every rate, and a plausible one."""
    duration_s = len(speaker.say(LINE, "agent", hz)) / 2 / hz
    assert duration_s == pytest.approx(len(speaker.say(LINE, "agent", 48_000)) / 2 / 48_000, abs=0.01)
    assert 1.5 < duration_s < 4.0


@pytest.mark.parametrize("voice", ["agent", "caller"])
def test_speech_is_loud_and_not_clipped(speaker: Speaker, voice: Voice) -> None:
    """Both voices use the range well, and start and end without long silence."""
    samples = np.frombuffer(speaker.say(LINE, voice, 16_000), "<i2").astype(float) / 32768
    assert 0.05 < samples.std() < 0.3
    assert np.abs(samples).max() < 0.999
    assert np.abs(samples[: 16 * 60]).max() > 0.004
    assert np.abs(samples[-16 * 60 :]).max() > 0.004


def test_the_two_voices_differ(speaker: Speaker) -> None:
    """A recording lets one tell caller and agent apart."""
    assert speaker.say(LINE, "agent") != speaker.say(LINE, "caller")


def test_a_line_is_synthesised_once(speaker: Speaker) -> None:
    """The second time is the very same object."""
    assert speaker.say(LINE) is speaker.say(LINE)


def test_threads_do_not_mix_sentences() -> None:
    """The engine keeps global state; sentences said by many threads at once sound as if said alone."""
    lines = ["This is a sentence." + " And this." * count for count in range(6)]
    alone = [Speaker().say(line) for line in lines]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(Speaker().say, lines)) == alone


def test_nothing_to_say_is_silence_of_no_length(speaker: Speaker) -> None:
    """A text without a word gives no audio."""
    assert speaker.say("...") == b""


def test_phonemes_of_an_unknown_word() -> None:
    """The pronunciation comes from the engine that will say the word."""
    assert "kw" in phonemes("Okonkwo")


def test_many_threads_begin_at_once() -> None:
    """In a process of its own: the library ends a process that initializes it twice."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from cluster.local.speech import Speaker; "
        "print(all(ThreadPoolExecutor(8).map(lambda _: Speaker().say('Hello.'), range(8))))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
