"""The table of prices: dated, complete, and refused with its line where it is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from cluster.budget.prices import load_prices
from cluster.budget.pricing import FREE, PerMinute, Route
from cluster.errors import PriceError
from cluster.messages import Direction

MODEL = "gemini-3.8-live"
OUT = Direction.OUTBOUND
DAY = date(2026, 11, 24)
OUTBOUND = """
tables:
- from: 2026-10-09
  models: {{}}
  trunks: {{default: {{outbound:
      {{"{}": {{usd_per_minute: 1}}}}}}}}
"""
RATES = "{text_in: 1, audio_in: 1, text_out: 1, audio_out: 1}"
TABLE = f"""
tables:
  - from: 2026-12-01
    models:
      m: {{text_in: "0.75", audio_in: 3, text_out: 4.5, audio_out: 12}}
    trunks:
      default:
        inbound: {{usd_per_minute: 0.0045}}
        outbound:
          "+1": {{usd_per_minute: 0.007, increment_s: 6}}
          "+1555": {{usd_per_minute: 0.009, increment_s: 1}}
          "+": {{usd_per_minute: 0.1}}
      ST_own:
        inbound: {{usd_per_minute: 0.001}}
    livekit: {{usd_per_minute: 0.005, increment_s: 60}}
    tools: {{check_stock: 0.002}}
  - from: 2026-10-01
    models: {{m: {RATES}}}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A file with two tables."""
    path = tmp_path / "prices.yaml"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_a_call_is_priced_with_the_table_of_its_day(table: Path) -> None:
    """A later table does not change what an earlier call cost; before the first there are no prices."""
    prices = load_prices(table)
    assert prices.rates("m", date(2026, 11, 30)).audio_out == 1_000_000
    assert prices.rates("m", date(2026, 12, 1)).audio_out == 12_000_000
    assert prices.tariff(Route(Direction.OUTBOUND, "", "+1"), ["m"], date(2026, 11, 30)).trunk == FREE
    with pytest.raises(PriceError, match=r"no prices of 2026-09-30.*begins on 2026-10-01"):
        prices.rates("m", date(2026, 9, 30))


@pytest.mark.parametrize(
    ("route", "price", "destination"),
    [
        (Route(OUT, "", "+15559870002"), PerMinute(9_000, 1), "+1555"),
        (Route(OUT, "", "+12125550100"), PerMinute(7_000, 6), "+1"),
        (Route(OUT, "", "+4930123456"), PerMinute(100_000, 60), "+"),
        (Route(Direction.INBOUND, "", "+15559870002"), PerMinute(4_500, 60), ""),
        (Route(Direction.INBOUND, "ST_own"), PerMinute(1_000, 60), ""),
        (Route(OUT, "ST_own", "+15559870002"), FREE, ""),
        (Route(OUT, "ST_other", "+4930123456"), PerMinute(100_000, 60), "+"),
    ],
)
def test_a_trunk_has_prices_by_direction_and_destination(
    table: Path, route: Route, price: PerMinute, destination: str
) -> None:
    """The longest prefix decides, and finds the price again; a trunk that is not named has the default one's prices."""
    prices, day = load_prices(table), date(2026, 12, 1)
    tariff = prices.tariff(route, ["m"], day)
    assert (tariff.trunk, tariff.destination) == (price, destination)
    assert (tariff.livekit, tariff.tools) == (PerMinute(5_000, 60), {"check_stock": 2_000})
    assert prices.tariff(replace(route, number=destination), ["m"], day) == tariff


def test_a_model_without_a_price_is_refused_with_those_that_have_one() -> None:
    """Nothing is ever free because nobody knows its price."""
    with pytest.raises(PriceError, match=r"no price for the model 'gpt'.* use one of .*gemini-3.8-live"):
        load_prices().tariff(Route(OUT, ""), [MODEL, "gpt"], DAY)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "prices.yaml:1: tables: is missing"),
        ("[]", "prices.yaml:1: expected `field: value` lines"),
        ("tables: []", "prices.yaml:1: tables: tuple should have at least 1 item"),
        ("tables:\n- from: soon\n  models: {}", "prices.yaml:2: tables.0.from: input should be a valid date"),
        ("tables:\n- from: 2026-10-09\n  model: {}", "no such field; did you mean models"),
        *(
            (
                f"tables:\n- from: 2026-10-09\n  models:\n    m:\n      text_in: {bad}",
                "prices.yaml:5: tables.0.models.m.text_in: should be an amount in USD of at most six decimals",
            )
            for bad in ("free", "-1", "0.0000001", ".inf", ".nan", "null")
        ),
        (
            f"tables:\n- {{from: 2026-10-09, models: {{m: {RATES}}}}}\n- {{from: 2026-10-09, models: {{}}}}",
            "prices.yaml:3: tables.1.from: there is a table from 2026-10-09 already",
        ),
        (
            OUTBOUND.format("+1"),
            r'prices.yaml:5: tables.0.trunks.default.outbound: needs "\+"',
        ),
        (
            OUTBOUND.format("1"),
            r"prices.yaml:6: tables.0.trunks.default.outbound.1.*: string should match pattern",
        ),
    ],
)
def test_a_malformed_table_is_refused_with_the_place(tmp_path: Path, text: str, problem: str) -> None:
    """The message names the file, the line and the field."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PriceError, match=problem):
        load_prices(path)
