"""What a call costs: exactly, from the tokens that were reported, and estimated, before it begins.

Rules of this file:
1. Money is integer micro-dollars, rounded up: no rounding ever hides a cost.
2. Nothing here reads a clock: the day of the call is an argument.
3. The Live API bills the whole context again on every turn (Google's best-practices page; summing every per-turn
   record matches the bill within 3 %). So an estimate follows the number of turns, and a rate per minute is 3 to 10
   times too low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import InputError
from cluster.messages import Usage

PRICES_FILE = Path(__file__).with_name("prices.yaml")
AUDIO_TOKENS_PER_S = 25
"""Of Live audio, in and out; 12 USD per million tokens are then the price list's 0.018 USD a minute exactly."""
CHARS_PER_TOKEN = 4
"""Of transcripts and instructions; transcripts are billed but not reported."""

CALLER_S_PER_TURN = 10
AGENT_S_PER_TURN = 8
TURN_S = 20
"""A turn of phone talk as in the reference's cost table: 2 s of it are pauses."""
TRANSCRIPT_TOKENS_PER_TURN = -(-175 * (CALLER_S_PER_TURN + AGENT_S_PER_TURN) // 60)
"""About 175 tokens in a minute of speech."""

_MODALITIES = ("text_in", "audio_in", "text_out", "audio_out")
_TOKENS_PER_PRICE = 1_000_000


class PriceError(InputError):
    """The price table is malformed, or has no price that was asked for; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per 1,000,000 tokens of one model on one day."""

    text_in: int
    audio_in: int
    text_out: int
    """Thoughts and transcripts too."""
    audio_out: int

    def charge(self, *, text_in: int = 0, audio_in: int = 0, text_out: int = 0, audio_out: int = 0) -> int:
        """Micro-dollars for so many tokens, rounded up once for the sum."""
        millionths = (
            text_in * self.text_in + audio_in * self.audio_in + text_out * self.text_out + audio_out * self.audio_out
        )
        return -(-millionths // _TOKENS_PER_PRICE)


@dataclass(frozen=True, slots=True)
class Talk:
    """What a call's cost depends on before it begins."""

    instruction_tokens: int
    """Of instructions and tools, billed as text with every turn."""
    trigger_tokens: int
    """Above so many tokens of conversation, the sliding window cuts it …"""
    target_tokens: int
    """… to so many."""


Prices = Mapping[date, Mapping[str, Rates]]
"""Tables by their first day."""


@cache
def load_prices(path: Path = PRICES_FILE) -> Prices:
    """The dated price tables of a YAML file. Raises `PriceError` with the file, the table and the field."""
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(tables, list) or not tables:
        raise PriceError(f"{path.name}: expected a list of tables, each with `from` and `models`")
    return dict(_table(path.name, table) for table in tables)


def _table(file: str, table: Any) -> tuple[date, dict[str, Rates]]:
    if not isinstance(table, dict) or table.keys() != {"from", "models"} or not isinstance(table["models"], dict):
        raise PriceError(f"{file}: a table has exactly `from` (a date) and `models` (a mapping)")
    first_day = table["from"]
    if not isinstance(first_day, date):
        raise PriceError(f"{file}: from: {first_day!r} is not a date; write it as 2026-10-09")
    return first_day, {
        model: _rates(f"{file}: {first_day}: {model}", prices) for model, prices in table["models"].items()
    }


def _rates(where: str, prices: Any) -> Rates:
    if not isinstance(prices, dict) or prices.keys() != set(_MODALITIES):
        raise PriceError(f"{where}: expected exactly {', '.join(_MODALITIES)}")
    return Rates(*(_micros(f"{where}: {name}", prices[name]) for name in _MODALITIES))


def _micros(where: str, usd: Any) -> int:
    try:
        micros = Decimal(str(usd)) * 1_000_000
        if micros >= 0 and micros == int(micros):
            return int(micros)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise PriceError(f"{where}: {usd!r} is not an amount in USD of at most six decimals")


def rates_of(model: str, day: date | None = None, prices: Prices | None = None) -> Rates:
    """The model's rates on a day, by default those of its newest table. Raises `PriceError` if there are none."""
    tables = load_prices() if prices is None else prices
    in_force = [first for first, models in tables.items() if model in models and (day is None or first <= day)]
    if not in_force:
        known = ", ".join(sorted({name for models in tables.values() for name in models}))
        when = "" if day is None else f" on {day}"
        raise PriceError(f"no price for the model {model!r}{when}: add it to prices.yaml or use one of {known}")
    return tables[max(in_force)][model]


def cost_usd_micros(usage: Usage, model: str, day: date | None = None) -> int:
    """What the reported tokens cost. Raises `PriceError` for a model without a price."""
    transcript = -(-usage.transcript_chars // CHARS_PER_TOKEN)
    return rates_of(model, day).charge(
        text_in=usage.text_in,
        audio_in=usage.audio_in,
        text_out=usage.text_out + transcript,
        audio_out=usage.audio_out,
    )


def call_cost_usd_micros(usages: Mapping[str, Usage], day: date | None = None) -> int:
    """What a call costs that several models served. Raises `PriceError` for a model without a price."""
    return sum(cost_usd_micros(usage, model, day) for model, usage in usages.items())


def instruction_tokens(text: str) -> int:
    """Roughly how many tokens a text is; it matters little beside the audio."""
    return -(-len(text) // CHARS_PER_TOKEN)


@lru_cache(maxsize=1024)
def estimate_usd_micros(duration_s: float, talk: Talk, rates: Rates) -> int:
    """What a call of that length will cost, as a conversation in which both sides speak about equally.

    Turn i bills the instructions, the conversation so far (the caller's seconds up to i, the agent's before i), the
    agent's audio, both transcripts and the time spent listening, which 3.8 bills once and does not keep.
    """
    turns = max(1, -(-int(duration_s * 1000) // (TURN_S * 1000)))
    conversation = total = 0
    for _ in range(turns):
        conversation = _cut(conversation, talk) + CALLER_S_PER_TURN * AUDIO_TOKENS_PER_S
        total += _turn(conversation, talk, rates)
        conversation += AGENT_S_PER_TURN * AUDIO_TOKENS_PER_S
    return total


def wind_down_usd_micros(talk_s: float, talk: Talk, rates: Rates) -> int:
    """What two more turns cost after so many seconds of talk: the one in progress, and the goodbye."""
    heard = int(talk_s) * AUDIO_TOKENS_PER_S
    # Where in its cycle the window stands is not known, so it counts as full.
    conversation = min(heard, talk.trigger_tokens) + (CALLER_S_PER_TURN + AGENT_S_PER_TURN) * AUDIO_TOKENS_PER_S
    return 2 * _turn(conversation, talk, rates)


def _cut(conversation: int, talk: Talk) -> int:
    return talk.target_tokens if conversation > talk.trigger_tokens else conversation


def _turn(conversation: int, talk: Talk, rates: Rates) -> int:
    listening = (TURN_S - CALLER_S_PER_TURN) * AUDIO_TOKENS_PER_S
    return rates.charge(
        text_in=talk.instruction_tokens,
        audio_in=conversation + listening,
        text_out=TRANSCRIPT_TOKENS_PER_TURN,
        audio_out=AGENT_S_PER_TURN * AUDIO_TOKENS_PER_S,
    )
