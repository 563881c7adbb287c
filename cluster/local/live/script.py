"""Which scripted answer fits what was said or written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from cluster.local.recognizer import words_of
from cluster.local.scenario import Agent, Answer

_LEAST_FIT: Final = 0.5


def answer_to_speech(agent: Agent, text: str) -> Answer | None:
    """The exchange that fits best (half of a phrase's words in a row do); else ``otherwise``; None to stay silent."""
    heard = words_of(text)
    fits = [(_fit(heard, words_of(phrase)), exchange) for exchange in agent.exchanges for phrase in exchange.when]
    best, exchange = max(fits, key=lambda fit: fit[0], default=(0.0, None))
    if exchange is not None and best >= _LEAST_FIT:
        return exchange
    return Answer(say=agent.otherwise) if agent.otherwise else None


def answer_to_text(agent: Agent, text: str, *, opening: bool) -> Answer | None:
    """To a written prompt: the one that fits, else the greeting if nothing was said before, else as if spoken."""
    fitting = (prompt for prompt in agent.prompts if prompt.contains.lower() in text.lower())
    if (prompt := next(fitting, None)) is not None:
        return prompt
    return Answer(say=agent.greeting) if opening else answer_to_speech(agent, text)


def if_remembered(agent: Agent, answer: Answer | None, told: str) -> Answer | None:
    """``answer``, or the agent's ``otherwise`` if what the answer ``needs`` does not stand in ``told``."""
    if answer is None or not answer.needs or f" {_plain(answer.needs)} " in f" {_plain(told)} ":
        return answer
    return Answer(say=agent.otherwise) if agent.otherwise else None


def split_transcript(text: str, parts_ms: Sequence[float]) -> list[str]:
    """``text`` cut at words, each part for audio of that length, as if every letter took the same time."""
    total_ms, spoken_ms, position = sum(parts_ms), 0.0, 0
    cut: list[str] = []
    for part_ms in parts_ms:
        spoken_ms += part_ms
        end = round(len(text) * spoken_ms / total_ms)
        if spoken_ms < total_ms:
            end = max(position, text.rfind(" ", 0, end + 1))
        cut.append(text[position:end])
        position = end
    return cut


def _plain(text: str) -> str:
    return " ".join(words_of(text))


def _fit(heard: Sequence[str], phrase: Sequence[str]) -> float:
    match = SequenceMatcher(a=heard, b=phrase, autojunk=False).find_longest_match()
    return match.size / len(phrase)
