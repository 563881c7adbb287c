"""The table of prices, from `prices.yaml`: data, not code. Several tables, each from its day on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cluster.budget.pricing import PerMinute, Rates, Route, Tariff
from cluster.errors import PriceError
from cluster.marked_yaml import MarkedFile, Part, Where
from cluster.messages import Direction
from cluster.settings import PRICES

DEFAULT_TRUNK = "default"


def _micros(usd: Any) -> int:
    try:
        micros = Decimal(str(usd)) * 1_000_000
        if micros >= 0 and micros == int(micros):
            return int(micros)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    message = "should be an amount in USD of at most six decimals"
    raise ValueError(message)


Usd = Annotated[int, BeforeValidator(_micros)]
"""Written in US dollars, read as micro-dollars."""
Prefix = Annotated[str, Field(pattern=r"^\+[0-9]{0,14}$")]


class _TokenPrices(Part):
    """Of a model, per 1,000,000 tokens."""

    text_in: Usd
    audio_in: Usd
    text_out: Usd
    audio_out: Usd


class _PerMinute(Part):
    usd_per_minute: Usd
    increment_s: Annotated[int, Field(ge=1, le=3_600)] = 60

    def price(self) -> PerMinute:
        return PerMinute(self.usd_per_minute, self.increment_s)


_NOTHING = _PerMinute(usd_per_minute=0)


class _Trunk(Part):
    inbound: _PerMinute = _NOTHING
    outbound: Mapping[Prefix, _PerMinute] = {}

    def destination(self, number: str) -> str:
        """The longest prefix that the number has."""
        return max((prefix for prefix in self.outbound if number.startswith(prefix)), key=len, default="")


class _Table(Part):
    from_: date = Field(alias="from")
    models: Mapping[str, _TokenPrices]
    trunks: Mapping[str, _Trunk] = {}
    """By LiveKit's id; `default` is every other one."""
    livekit: _PerMinute = _NOTHING
    tools: Mapping[str, Usd] = {}


class _File(Part):
    tables: Annotated[tuple[_Table, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Prices:
    """All tables, the newest first."""

    tables: tuple[_Table, ...]

    def tariff(self, route: Route, models: Iterable[str], day: date) -> Tariff:
        """The prices of one call of that day, whichever of `models` will serve it.

        Raises `PriceError` for a model without a price, and for a day before the first table.
        """
        table = self._of(day)
        trunk = table.trunks.get(route.trunk) or table.trunks.get(DEFAULT_TRUNK) or _Trunk()
        outbound = route.direction is Direction.OUTBOUND
        destination = trunk.destination(route.number) if outbound else ""
        return Tariff(
            rates={model: _rates(table, model) for model in models},
            trunk=(trunk.outbound.get(destination, _NOTHING) if outbound else trunk.inbound).price(),
            destination=destination,
            livekit=table.livekit.price(),
            tools=table.tools,
        )

    def rates(self, model: str, day: date) -> Rates:
        """A model's rates on a day. Raises `PriceError` as `tariff` does."""
        return _rates(self._of(day), model)

    def _of(self, day: date) -> _Table:
        for table in self.tables:
            if table.from_ <= day:
                return table
        raise PriceError(f"there are no prices of {day}: the first table begins on {self.tables[-1].from_}; add one")


@cache
def load_prices(path: Path = PRICES) -> Prices:
    """The tables of a YAML file. Raises `PriceError`: each line is `file:line: field: what is wrong`."""
    file = MarkedFile(path, _File, PriceError)
    file.refuse(_refusals(file.content.tables))
    return Prices(tuple(sorted(file.content.tables, key=lambda table: table.from_, reverse=True)))


def _refusals(tables: tuple[_Table, ...]) -> Iterator[tuple[Where, str]]:
    days = [table.from_ for table in tables]
    for i, table in enumerate(tables):
        if table.from_ in days[:i]:
            yield ("tables", i, "from"), f"there is a table from {table.from_} already"
        for name, trunk in table.trunks.items():
            if trunk.outbound and "+" not in trunk.outbound:
                where: Where = ("tables", i, "trunks", name, "outbound")
                yield where, 'needs "+", the price of every other destination: none is free by oversight'


def _rates(table: _Table, model: str) -> Rates:
    prices = table.models.get(model)
    if prices is None:
        known = ", ".join(sorted(table.models))
        raise PriceError(
            f"no price for the model {model!r} in the table from {table.from_}: add it, or use one of {known}"
        )
    return Rates(**prices.model_dump())
