"""The operator's policy: who may call, how much at once, how fast, when, and whom not. One YAML file.

Without a file nothing is limited beyond the settings. Everything that can be wrong in it is refused before it takes
effect, with the file and the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cluster.budget.budgets import EVERYONE, Budget, Scope, Window
from cluster.errors import PolicyError
from cluster.marked_yaml import MarkedFile, Part, Where
from cluster.telephony.hours import checked_hours
from cluster.telephony.numbers import parse_e164

_DIGITS: Final = r"^\+[1-9][0-9]{0,14}$"


def _quoted(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError("should be a text; put quotes around it, or YAML reads the number as an amount")  # noqa: TRY004 what pydantic wants
    return value


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("there is no such time zone; name one as in Europe/Berlin") from None
    return name


Name = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=100_000)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]
Prefix = Annotated[str, BeforeValidator(_quoted), Field(pattern=_DIGITS)]
"""`+` and the first digits of a number."""
Number = Annotated[str, BeforeValidator(_quoted), AfterValidator(parse_e164)]
HoursText = Annotated[str, AfterValidator(checked_hours)]
"""OpenStreetMap's opening hours: `Mo-Fr 09:00-20:00; Sa 10:00-16:00`."""


class TenantPolicy(Part):
    """One tenant. Whoever has no entry has the defaults."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its share of the slots while several tenants want more than there are: twice the weight, twice the slots."""
    max_calls: Count | None = None
    """At once; None: as many as there are slots."""
    calling_hours: HoursText | None = None
    """In the callee's own time; None: the policy's."""


class CampaignPolicy(Part):
    """One campaign, by its id. Whichever has no entry has the defaults."""

    max_calls: Count | None = None
    """At once; None: as many as its tenant may."""
    calling_hours: HoursText | None = None
    """In the callee's own time; None: the tenant's."""


class TrunkPolicy(Part):
    """One SIP trunk that dials out, by LiveKit's id (ST_…)."""

    calls_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    """What the carrier takes; None: as many as come."""
    max_calls: Count | None = None
    """At once; None: as many as there are slots."""
    prefixes: tuple[Prefix, ...] = ()
    """Numbers that begin so are dialled by this trunk; of several trunks the one with the longest prefix dials."""
    numbers: tuple[Number, ...] = Field(default=(), repr=False)  # pii: the operator's own
    """Calls that show one of these numbers are dialled by this trunk, whatever the prefix."""


class QueuePolicy(Part):
    """Calls that can't start yet wait here."""

    size: Count = 1_000
    """Requests that may wait at once; who comes after is refused."""
    outbound_ttl_s: PositiveSeconds = 300
    """Seconds until an outbound call that could not start is given up: who asked for it has moved on by then."""
    inbound_ttl_s: PositiveSeconds = 8
    """The same for a caller, whose phone rings meanwhile; people hang up after five or six rings of 5 to 6 s."""
    ageing_s: PositiveSeconds = 60
    """Seconds of waiting that weigh as much as one step of priority, so that nobody waits for ever."""


class BudgetPolicy(Part):
    """A hard cap on what one tenant, campaign or profile spends; `*` for each of them by itself."""

    tenant: Name | None = None
    campaign: Name | None = None
    profile: Name | None = None
    per: Window = Window.TOTAL
    cap_usd: Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=6)]
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Whose midnights begin the days and months, such as Europe/Berlin."""

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if len(self._named()) != 1:
            raise ValueError("name exactly one of tenant, campaign and profile")
        return self

    def budget(self) -> Budget:
        """As budgets are kept."""
        ((scope, name),) = self._named().items()
        cap = int(self.cap_usd * 1_000_000)
        return Budget(scope=scope, name=name, window=self.per, cap_usd_micros=cap, time_zone=self.time_zone)

    def _named(self) -> dict[Scope, str]:
        return {scope: name for scope in Scope if (name := getattr(self, scope.value)) is not None}


class Policy(Part):
    """The whole file."""

    tenants: Mapping[Name, TenantPolicy] = Field(default_factory=dict)
    campaigns: Mapping[Name, CampaignPolicy] = Field(default_factory=dict)
    trunks: Mapping[Name, TrunkPolicy] = Field(default_factory=dict)
    gemini_sessions: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Live sessions at once that Google allows the project; None: as many as there are slots."""
    blocked_numbers: tuple[Number, ...] = Field(default=(), repr=False)  # pii
    """Never dialled, and not answered."""
    blocked_prefixes: tuple[Prefix, ...] = ()
    """The same for all numbers that begin so, such as +1900 for premium numbers."""
    calling_hours: HoursText | None = None
    """When outbound calls may be made, in the callee's own time; None: always."""
    inbound_reserve: Count = 0
    """Slots that outbound calls leave free for inbound ones."""
    queue: QueuePolicy = QueuePolicy()
    budgets: tuple[BudgetPolicy, ...] = ()

    def caps(self, daily_usd_micros: int) -> tuple[Budget, ...]:
        """Every budget; tenants without a daily one have `daily_usd_micros` per UTC day."""
        daily = Budget(scope=Scope.TENANT, name=EVERYONE, window=Window.DAY, cap_usd_micros=daily_usd_micros)
        own = tuple(entry.budget() for entry in self.budgets)
        has_default = any((one.scope, one.name, one.window) == (daily.scope, daily.name, daily.window) for one in own)
        return own if has_default else (*own, daily)

    def tenant(self, name: str) -> TenantPolicy:
        """A tenant's part."""
        return self.tenants.get(name) or TenantPolicy()

    def campaign(self, name: str) -> CampaignPolicy:
        """A campaign's part; `name` is empty for a call without one."""
        return self.campaigns.get(name) or CampaignPolicy()

    def trunk(self, name: str) -> TrunkPolicy:
        """A trunk's part."""
        return self.trunks.get(name) or TrunkPolicy()

    def hours(self, tenant: str, campaign: str) -> str | None:
        """The calling hours of such a call: the campaign's, else the tenant's, else those of all."""
        own = self.campaign(campaign).calling_hours or self.tenant(tenant).calling_hours
        return own or self.calling_hours

    def trunk_for(self, to: str, from_: str) -> str:
        """The trunk that dials `to` and shows `from_` (E.164, may be empty); empty where the policy names none."""
        if from_ in self._trunk_of_number:
            return self._trunk_of_number[from_]
        return next((self._trunk_of_prefix[start] for start in _beginnings(to) if start in self._trunk_of_prefix), "")

    def blocks(self, number: str) -> bool:
        """Whether the operator wants no calls with this number."""
        return number in self._blocked_numbers or any(start in self._blocked_prefixes for start in _beginnings(number))

    @cached_property
    def _trunk_of_number(self) -> dict[str, str]:
        return {number: name for name, trunk in self.trunks.items() for number in trunk.numbers}

    @cached_property
    def _trunk_of_prefix(self) -> dict[str, str]:
        return {prefix: name for name, trunk in self.trunks.items() for prefix in trunk.prefixes}

    @cached_property
    def _blocked_numbers(self) -> frozenset[str]:
        return frozenset(self.blocked_numbers)

    @cached_property
    def _blocked_prefixes(self) -> frozenset[str]:
        return frozenset(self.blocked_prefixes)


NO_POLICY: Final = Policy()
"""What holds without a file."""


def load_policy(path: Path) -> Policy:
    """Read and validate a policy file. Raises `PolicyError`, one line for each problem: `file:line: field: what`."""
    file = MarkedFile(path, Policy, PolicyError)
    file.refuse(contradictions(file.content))
    return file.content


def contradictions(policy: Policy) -> Iterator[tuple[Where, str]]:
    """Where a policy says two things about the same, and what to do about it."""
    yield from _trunks_twice(policy)
    yield from _budgets_twice(policy)


def _trunks_twice(policy: Policy) -> Iterator[tuple[Where, str]]:
    """A number or prefix at two trunks, of which only one would ever be used."""
    for field in ("prefixes", "numbers"):
        owner: dict[str, str] = {}
        for name, trunk in policy.trunks.items():
            for place, value in enumerate(getattr(trunk, field)):
                if value in owner:
                    yield ("trunks", name, field, place), f"stands at {owner[value]} too; a call goes by one trunk"
                owner.setdefault(value, name)


def _budgets_twice(policy: Policy) -> Iterator[tuple[Where, str]]:
    budgets = [entry.budget() for entry in policy.budgets]
    keys = [(budget.scope, budget.name, budget.window) for budget in budgets]
    for place, (scope, name, window) in enumerate(keys):
        if (scope, name, window) in keys[:place]:
            yield ("budgets", place), f"the {scope} {name} has a budget of this kind already: {window}"


def _beginnings(number: str) -> Iterator[str]:
    """The beginnings of a number, longest first."""
    return (number[:length] for length in range(len(number), 1, -1))
