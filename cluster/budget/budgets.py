"""Budgets: hard caps on what tenants, campaigns and profiles spend in a day, in a month or at all. Pure.

Rules of this file:
1. A call's money belongs to the windows in which it was admitted, also when it goes on into the next ones.
2. What is spent and held of a window never passes its cap through anything decided here. A holder that spends more than
   it was told to is booked truthfully, and what it took is missing for the next call.
3. Times are UTC seconds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

EVERYONE: Final = "*"
"""The name of a budget that each tenant, campaign or profile has for itself, unless it has one of its own."""
UNLIMITED: Final = 1 << 62


class Scope(StrEnum):
    """Whose budget it is."""

    TENANT = "tenant"
    CAMPAIGN = "campaign"
    PROFILE = "profile"


class Window(StrEnum):
    """How long it lasts."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class Mode(StrEnum):
    """What a budget allows, by how much of it is spent and held."""

    OPEN = "open"
    CONCISE = "concise"
    """Agents are told to be brief."""
    PRIORITY = "priority"
    """Beside that, only calls of high priority are admitted."""
    USED_UP = "used-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Shares of a cap from which on a budget is in another mode."""

    concise_at: float = 0.7
    priority_at: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One cap."""

    scope: Scope
    name: str
    window: Window
    cap_usd_micros: int
    time_zone: str = "UTC"
    """Whose midnights begin the days and months."""

    def bounds(self, at: float) -> tuple[float, float]:
        """When the window that `at` is in begins, and when the next one does."""
        if self.window is Window.TOTAL:
            return -math.inf, math.inf
        zone = ZoneInfo(self.time_zone)
        first = datetime.fromtimestamp(at, zone).date()
        if self.window is Window.DAY:
            return _midnight(first, zone), _midnight(first + timedelta(days=1), zone)
        first = first.replace(day=1)
        return _midnight(first, zone), _midnight((first + timedelta(days=31)).replace(day=1), zone)


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time.min, zone).timestamp()


@dataclass(frozen=True, slots=True)
class Purse:
    """One budget of one name in one window."""

    budget: Budget
    name: str
    begins_at: float
    ends_at: float

    def __hash__(self) -> int:
        """Of what tells most purses apart: they are looked up many times for each decision."""
        return hash((self.name, self.begins_at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose money a call spends."""

    tenant: str
    campaign: str
    """Empty: it belongs to none."""
    profile: str
    at: float
    """When it was admitted."""

    def name(self, scope: Scope) -> str:
        """The tenant, campaign or profile."""
        return str(getattr(self, scope.value))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a purse stands."""

    purse: Purse
    spent_usd_micros: int
    """By calls that have ended."""
    held_usd_micros: int
    """For calls that run."""

    @property
    def cap_usd_micros(self) -> int:
        """The budget's."""
        return self.purse.budget.cap_usd_micros

    @property
    def used_usd_micros(self) -> int:
        """Spent or held."""
        return self.spent_usd_micros + self.held_usd_micros

    def mode(self, thresholds: Thresholds) -> Mode:
        """What it allows now."""
        used, cap = self.used_usd_micros, self.cap_usd_micros
        if used >= cap:
            return Mode.USED_UP
        if used >= thresholds.priority_at * cap:
            return Mode.PRIORITY
        return Mode.CONCISE if used >= thresholds.concise_at * cap else Mode.OPEN


def _order(purse: Purse) -> tuple[str, str, str, float]:
    return purse.budget.scope, purse.name, purse.budget.window, purse.begins_at


@dataclass(slots=True)
class _Money:
    spent: int = 0
    held: int = 0


@dataclass(slots=True)
class Treasury:
    """What each budget has spent and holds."""

    budgets: tuple[Budget, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    _money: defaultdict[Purse, _Money] = field(default_factory=lambda: defaultdict(_Money))

    def purses(self, owner: Owner) -> tuple[Purse, ...]:
        """Those that pay for a call."""
        return tuple(self._purses(owner))

    def windows(self, times: Iterable[float]) -> set[Purse]:
        """The windows of all budgets at those times; `name` is the budget's, which may be `EVERYONE`."""
        return {Purse(budget, budget.name, *budget.bounds(at)) for budget in self.budgets for at in times}

    def load(self, purse: Purse, spent_usd_micros: int) -> None:
        """Take over what was spent before this treasury was opened; without effect for who has not got such a purse."""
        own = {(budget.scope, budget.name, budget.window) for budget in self.budgets}
        of = purse.budget
        if purse.name and (of.name == purse.name or (of.scope, purse.name, of.window) not in own):
            self._money[purse].spent = spent_usd_micros

    def hold(self, purses: Iterable[Purse], usd_micros: int) -> None:
        """So much more is held than before, or less."""
        for purse in purses:
            self._money[purse].held += usd_micros

    def spend(self, purses: Iterable[Purse], usd_micros: int) -> None:
        """A call has ended and cost so much."""
        for purse in purses:
            self._money[purse].spent += usd_micros

    def room_usd_micros(self, purses: Iterable[Purse]) -> int:
        """How much more they could all hold; below nothing where a call has spent too much."""
        standings = self.standings(purses)
        return min((standing.cap_usd_micros - standing.used_usd_micros for standing in standings), default=UNLIMITED)

    def is_concise(self, purses: Iterable[Purse]) -> bool:
        """Whether one of them runs low."""
        return any(standing.mode(self.thresholds) is not Mode.OPEN for standing in self.standings(purses))

    def standings(self, purses: Iterable[Purse]) -> tuple[Standing, ...]:
        """How they stand."""
        nothing = _Money()
        found = ((purse, self._money.get(purse, nothing)) for purse in purses)
        return tuple(Standing(purse, money.spent, money.held) for purse, money in found)

    def now(self, at: float) -> tuple[Standing, ...]:
        """How everybody's windows stand that are open at that time, and those of earlier ones that still hold money."""
        named = {purse for purse in self.windows([at]) if purse.name != EVERYONE}
        known = {purse for purse, money in self._money.items() if purse.begins_at <= at < purse.ends_at or money.held}
        return self.standings(sorted(named | known, key=_order))

    def tenants_days(self, at: float) -> dict[str, Standing]:
        """How the days of the tenants stand that have spent or hold anything of it."""
        return {
            standing.purse.name: standing
            for standing in self.now(at)
            if (standing.purse.budget.scope, standing.purse.budget.window) == (Scope.TENANT, Window.DAY)
            and standing.purse.begins_at <= at < standing.purse.ends_at
        }

    def forget(self, at: float) -> None:
        """Drop the windows that are over, once they hold nothing."""
        for purse in [purse for purse, money in self._money.items() if purse.ends_at <= at and not money.held]:
            del self._money[purse]

    def _purses(self, owner: Owner) -> Iterator[Purse]:
        own = {(budget.scope, budget.window) for budget in self.budgets if budget.name == owner.name(budget.scope)}
        for budget in self.budgets:
            name = owner.name(budget.scope)
            is_default = budget.name == EVERYONE and (budget.scope, budget.window) not in own
            if name and (budget.name == name or is_default):
                yield Purse(budget, name, *budget.bounds(owner.at))
