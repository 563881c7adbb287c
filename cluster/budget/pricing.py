"""What a call costs: exactly, from what was metered, and estimated, before it begins. Pure.

Rules of this file:
1. Money is integer micro-dollars. Each kind of charge is rounded up, once: no rounding ever hides a cost.
2. A call is priced with its `Tariff`, the prices of the day of its admission, also when it passes midnight.
3. The Live API bills the whole context again on every turn (Google's best-practices page; summing every per-turn
   record matches the bill within 3 %). So an estimate follows the number of turns, and a rate per minute is 3 to 10
   times too low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cluster.errors import PriceError
from cluster.messages import Direction, Metered, Usage

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
SLICE_S = 15.0
"""How much talk is paid ahead, at least."""
GOODBYE_S = 2 * TURN_S
"""The turn in progress, and the goodbye."""

_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per 1,000,000 tokens of one model."""

    text_in: int
    audio_in: int
    text_out: int
    """Thoughts and transcripts too."""
    audio_out: int

    def millionths(self, *, text_in: int = 0, audio_in: int = 0, text_out: int = 0, audio_out: int = 0) -> int:
        """What so many tokens cost, in millionths of a micro-dollar, exactly."""
        return text_in * self.text_in + audio_in * self.audio_in + text_out * self.text_out + audio_out * self.audio_out


@dataclass(frozen=True, slots=True)
class PerMinute:
    """A price by time."""

    usd_micros: int = 0
    increment_s: int = 60
    """Each one that has begun is charged whole."""

    def charge(self, seconds: float) -> int:
        """Micro-dollars for so many seconds; none for none."""
        increments = -(-round(seconds * 1000) // (self.increment_s * 1000))
        return -(-increments * self.increment_s * self.usd_micros // 60)


FREE = PerMinute()


@dataclass(frozen=True, slots=True)
class Route:
    """What the price of a call's phone leg depends on."""

    direction: Direction
    trunk: str
    """LiveKit's id."""
    number: str = field(default="", repr=False)  # pii: E.164, or the start of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Every price that one call can meet."""

    rates: Mapping[str, Rates]
    """By model."""
    trunk: PerMinute = FREE
    """From the answer to the end."""
    livekit: PerMinute = FREE
    """From the beginning to the end."""
    tools: Mapping[str, int] = field(default_factory=dict)
    """Micro-dollars per call, by the tool's name; others are free."""
    destination: str = ""
    """What of the dialled number the trunk's price goes by: the prefix in the table of prices."""

    def dearest(self) -> Rates:
        """The highest rate of each modality, whichever of the models will serve."""
        every = self.rates.values()
        return Rates(
            text_in=max(rates.text_in for rates in every),
            audio_in=max(rates.audio_in for rates in every),
            text_out=max(rates.text_out for rates in every),
            audio_out=max(rates.audio_out for rates in every),
        )


@dataclass(frozen=True, slots=True)
class Talk:
    """What a call's cost depends on before it begins."""

    instruction_tokens: int
    """Of instructions and tools, billed as text with every turn."""
    trigger_tokens: int
    """Above so many tokens of conversation, the sliding window cuts it …"""
    target_tokens: int
    """… to so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What a running call has to hold beyond its bill; each includes the one before."""

    goodbye: int
    """To end well."""
    soon: int
    """To go on for as long as it may without being heard of, and to end well then."""
    slice: int
    """To go on for `SLICE_S`, or as long if that is longer, and to end well then."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call has used, and what that costs."""

    metered: Metered = field(default_factory=Metered)
    charges: Mapping[str, int] = field(default_factory=dict)
    """Micro-dollars by kind."""

    @property
    def usd_micros(self) -> int:
        """The sum."""
        return sum(self.charges.values())


def dearer(one: Bill, other: Bill) -> Bill:
    """Of two accounts of the same call the one that has seen more of it."""
    return other if other.usd_micros > one.usd_micros else one


def charges(metered: Metered, tariff: Tariff) -> dict[str, int]:
    """What was metered, priced: micro-dollars by kind, those that are not nothing.

    Raises `PriceError` for a model that the tariff does not have.
    """
    millionths = sum(_millionths(usage, model, tariff) for model, usage in metered.usage_by_model.items())
    by_kind = {
        "model": -(-millionths // _TOKENS_PER_PRICE),
        "trunk": tariff.trunk.charge(metered.line_s),
        "livekit": tariff.livekit.charge(metered.room_s),
        "tools": sum(calls * tariff.tools.get(name, 0) for name, calls in metered.tool_calls.items()),
    }
    return {kind: usd_micros for kind, usd_micros in by_kind.items() if usd_micros}


def priced(metered: Metered, tariff: Tariff) -> Bill:
    """The bill for what was metered; nothing where the tariff lacks a price, since there is a bill from when it had."""
    try:
        return Bill(metered, charges(metered, tariff))
    except PriceError:
        return Bill()


def _millionths(usage: Usage, model: str, tariff: Tariff) -> int:
    rates = tariff.rates.get(model)
    if rates is None:
        raise PriceError(f"the call's tariff has no price for the model {model!r}")
    transcript = -(-usage.transcript_chars // CHARS_PER_TOKEN)
    return rates.millionths(
        text_in=usage.text_in,
        audio_in=usage.audio_in,
        text_out=usage.text_out + transcript,
        audio_out=usage.audio_out,
    )


def instruction_tokens(text: str) -> int:
    """Roughly how many tokens a text is; it matters little beside the audio."""
    return -(-len(text) // CHARS_PER_TOKEN)


def estimate_usd_micros(duration_s: float, talk: Talk, tariff: Tariff) -> int:
    """What a call of that length will cost, as a conversation in which both sides speak about equally."""
    by_time = tariff.trunk.charge(duration_s) + tariff.livekit.charge(duration_s)
    return _talk_usd_micros(duration_s, talk, tariff.dearest()) + by_time


def ahead_usd_micros(talk_s: float, seconds: float, talk: Talk, tariff: Tariff) -> int:
    """What so many seconds more cost after so many seconds of talk, and after them a goodbye.

    The goodbye is two turns: the one that is in progress, and the last one.
    """
    heard = int(talk_s + seconds) * AUDIO_TOKENS_PER_S
    # Where in its cycle the window stands is not known, so it counts as full.
    conversation = min(heard, talk.trigger_tokens) + (CALLER_S_PER_TURN + AGENT_S_PER_TURN) * AUDIO_TOKENS_PER_S
    turns_ms, turn_ms = round((GOODBYE_S + seconds) * 1000), TURN_S * 1000
    by_time = sum(_begun(price, talk_s, GOODBYE_S + seconds) for price in (tariff.trunk, tariff.livekit))
    return -(-_turn(conversation, talk, tariff.dearest()) * turns_ms // turn_ms) + by_time


def _begun(price: PerMinute, after_s: float, seconds: float) -> int:
    """The increments that will begin. The room is some seconds older than the talk: one more may."""
    return price.charge(after_s + seconds + price.increment_s) - price.charge(after_s)


@lru_cache(maxsize=1024)
def _talk_usd_micros(duration_s: float, talk: Talk, rates: Rates) -> int:
    """The model's part of an estimate.

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


def _cut(conversation: int, talk: Talk) -> int:
    return talk.target_tokens if conversation > talk.trigger_tokens else conversation


def _turn(conversation: int, talk: Talk, rates: Rates) -> int:
    listening = (TURN_S - CALLER_S_PER_TURN) * AUDIO_TOKENS_PER_S
    millionths = rates.millionths(
        text_in=talk.instruction_tokens,
        audio_in=conversation + listening,
        text_out=TRANSCRIPT_TOKENS_PER_TURN,
        audio_out=AGENT_S_PER_TURN * AUDIO_TOKENS_PER_S,
    )
    return -(-millionths // _TOKENS_PER_PRICE)
