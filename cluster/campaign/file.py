"""`campaign.yaml`: all about a campaign but its contacts, checked with file and line before anybody is called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field

from cluster.campaign import contacts as sheet
from cluster.campaign.hours import Hours, Zones, next_open
from cluster.campaign.pace import Limits
from cluster.campaign.retries import REPEATABLE, parse_wait, retry_after_s
from cluster.dispatch.requests import DEFAULT_TENANT, Number, VariableName
from cluster.dispatch.requests import Hours as HoursText
from cluster.errors import InputError
from cluster.marked_yaml import MarkedFile, Part, Where
from cluster.outcome import Outcome
from cluster.profiles import Profile
from cluster.telephony.hours import parse_hours

Text = Annotated[str, Field(min_length=1, max_length=255)]


class CampaignError(InputError):
    """One or more problems in a campaign's file; each line of the message starts with `file:line:`."""


class ContactsPart(Part):
    """Where the contacts stand and what is in their columns."""

    file: Text
    """CSV with a header, or JSONL (one object per line) where its name ends so; beside the campaign's file."""
    number: Text = "number"
    """The column of the number, E.164."""
    time_zone: Text | None = None
    """A column with a time zone such as Europe/Berlin, for contacts whose number does not tell theirs."""
    context: Mapping[VariableName, Text] = {}
    """The profile's {variables}, each with the column that fills it."""


class Pacing(Part):
    """How fast."""

    calls_per_second: Annotated[float, Field(gt=0, le=100)] = 1.0
    """New calls. What most carriers allow a new trunk is 1."""
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 5
    """Calls of this campaign at once."""


class Retries(Part):
    """Who is called again."""

    most_calls: Annotated[int, Field(ge=1, le=20)] = 3
    """To one contact, whatever came of them."""
    after: Mapping[str, tuple[str, ...]] = {}
    """How long after an outcome: `busy: [10m, 1h]` is again after 10 minutes, then after an hour, then no more."""


class Stop(Part):
    """What ends the campaign before everybody was called. Calls in progress go on."""

    at: AwareDatetime | None = None
    """No new call from this moment on."""
    max_usd: Annotated[Decimal, Field(gt=0, decimal_places=6)] | None = None
    """Never passed: a call starts only if all that run could take their limits."""
    max_calls: Annotated[int, Field(ge=1)] | None = None
    """Attempts, whatever came of them."""


class CallPart(Part):
    """Every call of the campaign."""

    from_: Annotated[Number | None, Field(alias="from")] = None  # pii
    """The number to show, one of the trunk's."""
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    """Higher is served first."""
    max_duration_s: Annotated[float, Field(gt=0, le=14_400)] | None = None
    """Tightens the profile's limit."""
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=1000, decimal_places=6)] | None = None
    """Tightens the profile's limit."""


class Expectation(Part):
    """What a dry run reckons with."""

    answered: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the calls that somebody answers."""
    talk_s: Annotated[float, Field(gt=0, le=14_400)] = 60.0
    """Seconds that an answered call lasts."""
    ring_s: Annotated[float, Field(ge=0, le=80)] = 20.0
    """Seconds that a phone rings."""


class CampaignFile(Part):
    """What stands in the file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
    """Lower-case letters, digits and hyphens. The same name is the same campaign: started again, it goes on."""
    profile: Text
    """Which agent speaks."""
    tenant: Annotated[str, Field(min_length=1, max_length=64)] = DEFAULT_TENANT
    """Whose budget pays."""
    contacts: ContactsPart
    hours: HoursText
    """When calls may be placed, by the clock of each contact: `Mo-Fr 09:00-20:00; Sa 10:00-14:00`."""
    closed: tuple[date, ...] = ()
    """Dates on which nobody is called."""
    call: CallPart = CallPart()
    pacing: Pacing = Pacing()
    retries: Retries = Retries()
    stop: Stop = Stop()
    suppression: Text | None = None
    """A file of numbers that are never called, one per line; beside the campaign's file."""
    expect: Expectation = Expectation()


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign that can be run."""

    file: CampaignFile
    folder: Path
    profile: Profile
    hours: Hours
    waits_s: Mapping[str, tuple[float, ...]]
    """How long after an outcome, by its reason, a contact is called again."""

    @property
    def max_cost_usd_micros(self) -> int:
        """What one call may cost at most."""
        asked, limit = self.file.call.max_cost_usd, self.profile.limits.max_cost_usd_micros
        return limit if asked is None else min(limit, int(asked * 1_000_000))

    def limits(self) -> Limits:
        """How fast, how much at once, and what ends it."""
        pacing, stop = self.file.pacing, self.file.stop
        return Limits(
            calls_per_second=pacing.calls_per_second,
            concurrency=pacing.concurrency,
            max_cost_usd_micros=self.max_cost_usd_micros,
            stop_at=stop.at.timestamp() if stop.at else math.inf,
            max_usd_micros=None if stop.max_usd is None else int(stop.max_usd * 1_000_000),
            max_calls=stop.max_calls,
        )

    def call_again_at(self, zones: Zones, outcomes: Sequence[str], now: float) -> float | None:
        """When a contact with these outcomes (oldest first, as text) is called again; None for never. UTC seconds."""
        ended = [Outcome.parse(text) for text in outcomes]
        wait_s = retry_after_s(ended, self.waits_s, self.file.retries.most_calls)
        stretch = None if wait_s is None else next_open(self.hours, zones, now + wait_s)
        return None if wait_s is None or stretch is None else max(stretch.opens_at, now + wait_s)

    def suppressed(self) -> frozenset[str]:
        """The numbers that are never called. Raises `ContactsError`."""
        if not self.file.suppression:
            return frozenset()
        with _lines(self.folder, self.file.suppression) as lines:
            return sheet.numbers_in(lines, self.file.suppression)

    def contacts(self, now: float) -> Iterator[sheet.Contact | sheet.Rejected]:
        """Whom to call, read row by row. Raises `ContactsError`. `now` is UTC seconds."""
        part = self.file.contacts
        columns = sheet.Columns(number=part.number, context=part.context, time_zone=part.time_zone)
        suppressed = self.suppressed()
        with _lines(self.folder, part.file) as lines:
            is_json = part.file.endswith(".jsonl")
            rows = sheet.jsonl_rows(lines) if is_json else sheet.csv_rows(lines, part.file, columns)
            yield from sheet.select(rows, columns, self.hours, suppressed, now)


def load_campaign(path: Path, profiles: Mapping[str, Profile]) -> Campaign:
    """Read a campaign's file. Raises `CampaignError`. The contacts are not read yet."""
    marked = MarkedFile(path, CampaignFile, CampaignError)
    file = marked.content
    marked.refuse(_refusals(file, path.parent, profiles))
    return Campaign(
        file=file,
        folder=path.parent,
        profile=profiles[file.profile],
        hours=Hours(parse_hours(file.hours), frozenset(file.closed)),
        waits_s={reason: tuple(map(parse_wait, waits)) for reason, waits in file.retries.after.items()},
    )


def _refusals(file: CampaignFile, folder: Path, profiles: Mapping[str, Profile]) -> Iterator[tuple[Where, str]]:
    if file.profile not in profiles:
        yield ("profile",), f"there is no such profile; there are {', '.join(sorted(profiles))}"
    else:
        asked, given = profiles[file.profile].variables, file.contacts.context.keys()
        if missing := sorted(asked - given):
            yield ("contacts", "context"), f"the profile {file.profile} also needs: {', '.join(missing)}"
        if surplus := sorted(given - asked):
            yield ("contacts", "context"), f"the profile {file.profile} has no variable {', '.join(surplus)}"
    yield from _refused_retries(file)
    for where, name in ((("contacts", "file"), file.contacts.file), (("suppression",), file.suppression)):
        if name and not (folder / name).is_file():
            yield where, f"there is no file {name} beside the campaign's"


def _refused_retries(file: CampaignFile) -> Iterator[tuple[Where, str]]:
    for reason, waits in file.retries.after.items():
        here: Where = ("retries", "after", reason)
        if reason not in REPEATABLE:
            nearest = get_close_matches(reason, REPEATABLE, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(REPEATABLE))}"
            yield here, f"is no outcome that is called again; {hint}"
        for wait in waits:
            try:
                parse_wait(wait)
            except ValueError as error:
                yield here, f"{wait} {error}"


@contextmanager
def _lines(folder: Path, name: str) -> Iterator[Iterator[str]]:
    try:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError:
        raise sheet.ContactsError(f"{name}:1: it is not UTF-8; save it as such") from None
    except OSError as error:
        raise sheet.ContactsError(f"{name}:1: can't be read: {error.strerror}") from None
