"""What a call costs, and what it is expected to cost."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from cluster.budget.pricing import (
    PriceError,
    Rates,
    Talk,
    call_cost_usd_micros,
    cost_usd_micros,
    estimate_usd_micros,
    instruction_tokens,
    load_prices,
    rates_of,
    wind_down_usd_micros,
)
from cluster.messages import Usage
from cluster.models import load_models

MODEL = "gemini-3.8-live"
RATES = rates_of(MODEL)
UNCAPPED = 10**9


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
        assert estimate_usd_micros(minutes * 60, talk, RATES) / 1_000_000 == pytest.approx(usd, abs=0.001)


def test_the_price_of_a_minute_of_audio_is_the_one_that_google_states() -> None:
    """A minute of model audio is 1,500 tokens and costs 0.018 USD exactly."""
    assert cost_usd_micros(Usage(audio_out=1_500), MODEL) == 18_000


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
    assert cost_usd_micros(usage, MODEL) == usd_micros


def test_a_call_of_several_models_costs_what_each_of_them_does() -> None:
    """The same tokens have another price with another model; what only describes them has none."""
    described = Usage(text_out=1_000_000, thoughts=7, tool_use=7, cached=7, unattributed=7, estimated_tokens=7)
    assert call_cost_usd_micros({MODEL: described, "gemini-live-2.5-flash": described}) == 4_500_000 + 2_000_000
    assert call_cost_usd_micros({}) == 0


def test_every_model_that_is_served_has_a_price() -> None:
    """A profile that validates can be priced."""
    for model in load_models().values():
        if not model.retired:
            assert rates_of(model.name, date(2026, 11, 24)).audio_out > 0


def test_a_model_without_a_price_is_refused_with_those_that_have_one() -> None:
    """Nothing is ever free because nobody knows its price."""
    with pytest.raises(PriceError, match=r"no price for the model 'gpt'.* use one of .*gemini-3.8-live"):
        cost_usd_micros(Usage(), "gpt")


def test_a_call_is_priced_with_the_table_of_its_day() -> None:
    """A later table does not change what an earlier call cost."""
    old, new = Rates(1, 1, 1, 1), Rates(2, 2, 2, 2)
    prices = {date(2026, 10, 1): {MODEL: old}, date(2026, 12, 1): {MODEL: new}}
    assert rates_of(MODEL, date(2026, 11, 30), prices) is old
    assert rates_of(MODEL, date(2026, 12, 1), prices) is new
    assert rates_of(MODEL, None, prices) is new
    with pytest.raises(PriceError, match="on 2026-09-30"):
        rates_of(MODEL, date(2026, 9, 30), prices)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "expected a list of tables"),
        ("[]", "expected a list of tables"),
        ("- from: 2026-10-09", "exactly `from`"),
        ("- {from: 2026-10-09, models: []}", "exactly `from`"),
        ("- {from: soon, models: {}}", "from: 'soon' is not a date"),
        ("- {from: 2026-10-09, models: {m: 3}}", "2026-10-09: m: expected exactly text_in"),
        ("- {from: 2026-10-09, models: {m: {text_in: 1}}}", "2026-10-09: m: expected exactly text_in"),
        *(
            (
                f"- {{from: 2026-10-09, models: {{m: {{text_in: {bad}, audio_in: 1, text_out: 1, audio_out: 1}}}}}}",
                "text_in",
            )
            for bad in ("free", "-1", "0.0000001", ".inf", ".nan", "null")
        ),
    ],
)
def test_a_malformed_table_is_refused_with_the_place(tmp_path: Path, text: str, problem: str) -> None:
    """The message names the file, the table and the field."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PriceError, match=problem):
        load_prices(path)


def test_a_goodbye_costs_more_the_longer_the_talk_until_the_window_is_full() -> None:
    """What has to be left for the end follows the context, which compression bounds."""
    talk = Talk(1_500, 25_000, 8_000)
    costs = [wind_down_usd_micros(talk_s, talk, RATES) for talk_s in (0, 60, 600, 1_000, 3_600)]
    assert costs == sorted(costs)
    assert costs[-1] == costs[-2]
    assert wind_down_usd_micros(0, talk, RATES) >= estimate_usd_micros(20, talk, RATES)


def test_a_call_of_any_length_has_at_least_one_turn() -> None:
    """A second of call may cost a whole turn."""
    talk = Talk(0, 25_000, 8_000)
    assert estimate_usd_micros(0.5, talk, RATES) == estimate_usd_micros(20, talk, RATES) > 0
    assert estimate_usd_micros(20.001, talk, RATES) > estimate_usd_micros(20, talk, RATES)


def test_the_length_of_instructions_in_tokens_is_rounded_up() -> None:
    """A short text is not free."""
    assert [instruction_tokens(text) for text in ("", "a", "abcde")] == [0, 1, 2]
