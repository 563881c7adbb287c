"""What a call costs, and what it is expected to cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.budget.pricing import (
    GOODBYE_S,
    PerMinute,
    Rates,
    Talk,
    Tariff,
    ahead_usd_micros,
    charges,
    estimate_usd_micros,
    instruction_tokens,
)
from cluster.errors import PriceError
from cluster.messages import Metered, Usage
from tests.fixtures.prices import TARIFF

MODEL, OTHER = "gemini-3.8-live", "gemini-live-2.5-flash"
ONE = Tariff(rates={MODEL: TARIFF.rates[MODEL]})
UNCAPPED = 10**9


def model_charge(**usages: Usage) -> int:
    """Micro-dollars of the model's part."""
    models = {"main": MODEL, "other": OTHER}
    metered = Metered(usage_by_model={models[name]: usage for name, usage in usages.items()})
    return charges(metered, TARIFF).get("model", 0)


@pytest.mark.parametrize(
    ("trigger_tokens", "target_tokens", "usd_of_minutes"),
    [
        (UNCAPPED, 0, {1: 0.020, 5: 0.221, 10: 0.745, 20: 2.705}),
        (25_000, 8_000, {1: 0.020, 5: 0.221, 10: 0.745, 20: 2.499}),
        (8_000, 4_000, {1: 0.020, 5: 0.221, 10: 0.561, 20: 1.241}),
        (5_000, 2_000, {1: 0.020, 5: 0.190, 10: 0.420, 20: 0.883}),
    ],
)
def test_the_estimate_is_that_of_the_reference_table(
    trigger_tokens: int, target_tokens: int, usd_of_minutes: dict[int, float]
) -> None:
    """An estimate is within a tenth of a cent of the table that was worked out from Google's billing rules."""
    talk = Talk(1_500, trigger_tokens, target_tokens)
    for minutes, usd in usd_of_minutes.items():
        assert estimate_usd_micros(minutes * 60, talk, ONE) / 1_000_000 == pytest.approx(usd, abs=0.001)


def test_the_price_of_a_minute_of_audio_is_the_one_that_google_states() -> None:
    """A minute of model audio is 1,500 tokens and costs 0.018 USD exactly."""
    assert model_charge(main=Usage(audio_out=1_500)) == 18_000


@pytest.mark.parametrize(
    ("usage", "usd_micros"),
    [
        (Usage(), 0),
        (Usage(text_in=1), 1),
        (Usage(text_in=4), 3),
        (Usage(audio_in=1_000_000), 3_000_000),
        (Usage(text_out=1_000_000), 4_500_000),
        (Usage(transcript_chars=4_000_000), 4_500_000),
        (Usage(transcript_chars=1), 5),
        (Usage(text_in=51_000, audio_in=22_500, text_out=10, audio_out=3_000), 38_250 + 67_500 + 45 + 36_000),
    ],
)
def test_every_modality_has_its_price_and_the_sum_is_rounded_up(usage: Usage, usd_micros: int) -> None:
    """Money is rounded once, and never down."""
    assert model_charge(main=usage) == usd_micros


def test_a_call_of_several_models_costs_what_each_of_them_does() -> None:
    """The same tokens have another price with another model; what only describes them has none."""
    described = Usage(text_out=1_000_000, thoughts=7, tool_use=7, cached=7, unattributed=7, estimated_tokens=7)
    assert model_charge(main=described, other=described) == 4_500_000 + 2_000_000
    assert model_charge(main=Usage(text_in=1), other=Usage(text_in=1)) == 2  # 0.75 and 0.50 are rounded together


def test_a_model_without_a_price_is_not_free() -> None:
    """Nothing ever costs nothing because nobody knows its price."""
    with pytest.raises(PriceError, match="no price for the model 'gpt'"):
        charges(Metered(usage_by_model={"gpt": Usage()}), TARIFF)


@pytest.mark.parametrize(
    ("price", "seconds", "usd_micros"),
    [
        (PerMinute(6_000, 60), 0.0, 0),
        (PerMinute(6_000, 60), 0.001, 6_000),
        (PerMinute(6_000, 60), 60.0, 6_000),
        (PerMinute(6_000, 60), 60.001, 12_000),
        (PerMinute(6_000, 6), 7.0, 1_200),
        (PerMinute(6_000, 1), 61.0, 6_100),
        (PerMinute(100, 1), 1.0, 2),
        (PerMinute(0, 60), 999.0, 0),
    ],
)
def test_time_is_charged_by_increments_that_have_begun(price: PerMinute, seconds: float, usd_micros: int) -> None:
    """Each whole, and a fraction of a micro-dollar is one."""
    assert price.charge(seconds) == usd_micros


def test_the_charges_of_a_call_are_told_by_kind() -> None:
    """Those that are not nothing; a tool without a price is free."""
    tariff = Tariff(rates=TARIFF.rates, trunk=PerMinute(7_000, 6), livekit=PerMinute(5_000), tools={"paid": 2_000})
    usages = {MODEL: Usage(audio_out=1_500)}
    metered = Metered(usage_by_model=usages, line_s=61.0, room_s=70.0, tool_calls={"paid": 2, "free": 9})
    assert charges(metered, tariff) == {"model": 18_000, "trunk": 7_700, "livekit": 10_000, "tools": 4_000}
    assert charges(Metered(), tariff) == {}


def test_a_goodbye_costs_more_the_longer_the_talk_until_the_window_is_full() -> None:
    """What has to be left for the end follows the context, which compression bounds."""
    talk = Talk(1_500, 25_000, 8_000)
    costs = [ahead_usd_micros(talk_s, 0, talk, ONE) for talk_s in (0, 60, 600, 1_000, 3_600)]
    assert costs == sorted(costs)
    assert costs[-1] == costs[-2]
    assert ahead_usd_micros(0, 0, talk, ONE) >= estimate_usd_micros(20, talk, ONE)


def test_fifteen_seconds_more_cost_three_quarters_of_a_turn() -> None:
    """Of the context at their end, which is longer by then."""
    talk = Talk(1_500, 25_000, 8_000)
    goodbye = ahead_usd_micros(75, 0, talk, ONE)
    assert ahead_usd_micros(60, 15, talk, ONE) == pytest.approx(goodbye * 2.75 / 2, abs=1)


@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 6, 30, 60, 90]),
    st.integers(0, 4_000),
    st.integers(0, GOODBYE_S),
    st.integers(0, 59),
)
def test_what_is_left_for_a_goodbye_covers_the_increments_that_begin_in_it(
    usd_micros: int, increment_s: int, talk_s: int, goodbye_s: int, room_is_older_by_s: int
) -> None:
    """Of the leg and of the room, which may be some seconds older."""
    price = PerMinute(usd_micros, increment_s)
    talk, nothing = Talk(0, 25_000, 8_000), Tariff(rates={"m": Rates(0, 0, 0, 0)})
    left = ahead_usd_micros(talk_s, 0, talk, Tariff(rates=nothing.rates, livekit=price))
    room_s = talk_s + min(room_is_older_by_s, increment_s)
    assert price.charge(room_s + goodbye_s) - price.charge(room_s) <= left


def test_an_estimate_has_the_dearest_model_and_all_that_is_charged_by_time() -> None:
    """A fallback may serve the whole call."""
    talk = Talk(0, 25_000, 8_000)
    dear = Rates(*(10 * rate for rate in (750_000, 3_000_000, 4_500_000, 12_000_000)))
    both = Tariff(rates={**ONE.rates, "dear": dear}, trunk=PerMinute(6_000), livekit=PerMinute(1_000))
    only_dear = estimate_usd_micros(60, talk, Tariff(rates={"dear": dear}))
    assert estimate_usd_micros(60, talk, both) == only_dear + 7_000


def test_a_call_of_any_length_has_at_least_one_turn() -> None:
    """A second of call may cost a whole turn."""
    talk = Talk(0, 25_000, 8_000)
    assert estimate_usd_micros(0.5, talk, ONE) == estimate_usd_micros(20, talk, ONE) > 0
    assert estimate_usd_micros(20.001, talk, ONE) > estimate_usd_micros(20, talk, ONE)


def test_the_length_of_instructions_in_tokens_is_rounded_up() -> None:
    """A short text is not free."""
    assert [instruction_tokens(text) for text in ("", "a", "abcde")] == [0, 1, 2]
