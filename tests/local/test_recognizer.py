"""What is heard is what was said, over a telephone line, and nothing else."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import soxr

from cluster.local.recognizer import Recognizer, RecognizerError, RecognizerProcess, words_of
from cluster.local.scenario import SHIPPED, load_scenario
from cluster.local.speech import Speaker, Voice

PHRASES = (
    "What time do you open on Sunday?",
    "Hello, I would like to order a birthday cake.",
    "Yes, please.",
    "No thank you.",
    "My name is Okonkwo, and it's for 9:30.",
)
STRANGE = (
    "The quick brown fox jumps over the lazy dog.",
    "Is there parking nearby?",
    "My credit card number is four two four two.",
)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    """One voice box for all tests."""
    return Speaker()


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    """Listens for PHRASES."""
    return Recognizer(PHRASES)


def over_telephone(pcm16: bytes, *, noise: float = 60.0, gain: float = 0.5) -> bytes:
    """Through 8 kHz and back, quieter, with noise and with silence around it."""
    samples = np.frombuffer(pcm16, "<i2").astype(np.float32)
    samples = soxr.resample(soxr.resample(samples, 16_000, 8_000), 8_000, 16_000) * gain
    samples = np.concatenate([np.zeros(3_200), samples, np.zeros(4_800)])
    return (samples + np.random.default_rng(7).normal(0, noise, samples.size)).astype("<i2").tobytes()


@pytest.mark.parametrize("voice", ["agent", "caller"])
@pytest.mark.parametrize(("noise", "gain"), [(0.0, 1.0), (0.0, 0.05), (60.0, 0.3), (150.0, 0.5)])
def test_every_phrase_is_heard(
    speaker: Speaker, recognizer: Recognizer, voice: Voice, noise: float, gain: float
) -> None:
    """Clean, quiet and noisy lines alike, in both voices."""
    heard = [
        recognizer.transcribe(over_telephone(speaker.say(line, voice, 16_000), noise=noise, gain=gain))
        for line in PHRASES
    ]
    assert heard == list(PHRASES)


@pytest.mark.parametrize("line", STRANGE)
def test_what_is_not_expected_is_not_heard(speaker: Speaker, recognizer: Recognizer, line: str) -> None:
    """Other speech is never taken for the nearest phrase."""
    assert recognizer.transcribe(over_telephone(speaker.say(line, "caller", 16_000))) == ""


def test_noise_and_silence_are_not_speech(recognizer: Recognizer) -> None:
    """No words in hiss, in nothing, or in less than a frame."""
    hiss = np.random.default_rng(1).normal(0, 1_000, 16_000).astype("<i2").tobytes()
    assert [recognizer.transcribe(sound) for sound in (hiss, bytes(32_000), b"", b"\x01")] == ["", "", "", ""]


def test_an_interrupted_phrase_is_heard_as_its_beginning(speaker: Speaker, recognizer: Recognizer) -> None:
    """Half of a sentence is the first half of its words."""
    speech = speaker.say(PHRASES[1], "agent", 16_000)
    heard = recognizer.transcribe(over_telephone(speech[: len(speech) // 4 * 2]))
    assert heard in {"Hello, I would like", "Hello, I would like to"}


def test_two_phrases_in_a_row(speaker: Speaker, recognizer: Recognizer) -> None:
    """A caller may say two things before stopping."""
    speech = speaker.say(PHRASES[2], "caller", 16_000) + bytes(9_600) + speaker.say(PHRASES[0], "caller", 16_000)
    assert recognizer.transcribe(over_telephone(speech)) == f"{PHRASES[2]} {PHRASES[0]}"


def test_every_shipped_line_can_be_heard(speaker: Speaker) -> None:
    """The lines of all shipped scenarios are told apart, on both ends of the call."""
    for agent in (agent for path in SHIPPED.glob("*.yaml") for agent in load_scenario(path).agents):
        assert _all_heard(speaker, agent.agent_lines(), "agent") == list(agent.agent_lines())
        assert _all_heard(speaker, agent.caller_lines(), "caller") == list(agent.caller_lines())


def _all_heard(speaker: Speaker, lines: tuple[str, ...], voice: Voice) -> list[str]:
    ears = Recognizer(lines)
    return [ears.transcribe(over_telephone(speaker.say(line, voice, 16_000))) for line in lines]


def test_a_phrase_without_words_is_refused() -> None:
    """What can't be said can't be listened for."""
    with pytest.raises(RecognizerError, match="no words"):
        Recognizer(["Hello", "?!"])


def test_nothing_to_listen_for() -> None:
    """Without phrases everything is unknown."""
    assert Recognizer([]).transcribe(bytes(32_000)) == ""


def test_words_of_a_text() -> None:
    """Texts are compared by bare words."""
    assert words_of("It's \N{EM DASH} yes! -- 9:30, $5.") == ("it's", "yes", "9:30", "$5")


async def test_its_own_process_leaves_the_event_loop_alone(speaker: Speaker) -> None:
    """While a long text is decoded, the loop still answers within some ms."""
    speech = over_telephone(b"".join(speaker.say(line, "caller", 16_000) for line in PHRASES))
    async with RecognizerProcess() as recognizer:
        await recognizer.warm(PHRASES)
        decoding = asyncio.create_task(recognizer.transcribe(PHRASES, speech))
        late_s: list[float] = []
        while not decoding.done():
            before = time.monotonic()
            await asyncio.sleep(0)
            late_s.append(time.monotonic() - before)
            await asyncio.sleep(0.001)
        assert await decoding == " ".join(PHRASES)
    assert sorted(late_s)[len(late_s) * 9 // 10] < 0.01
