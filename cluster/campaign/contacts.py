"""Whom a campaign calls: rows of a CSV or JSONL file, one at a time, and why a row is no contact. Pure.

Rules of this file:
1. Rows are read one by one: of a million contacts only the numbers seen so far are kept.
2. A reason never repeats what stands in the row, since reasons reach logs.
3. A number is one contact, on whatever line it stands first.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cluster.campaign.hours import Hours, Zones, is_zone, next_open, zones_of
from cluster.errors import InputError
from cluster.telephony.numbers import NumberError, parse_e164

TEXT_LIMIT: Final = 4000
"""Of a prompt variable, as in `POST /v1/calls`."""
_PUNCTUATION: Final = str.maketrans("", "", " -.()/\u00a0")
"""What people write between the digits of a number."""

Row = Mapping[str, Any]


class ContactsError(InputError):
    """A file of contacts or numbers can't be used; the message starts with the file and the line."""


class Why(StrEnum):
    """Why a row is not called."""

    BAD = "bad"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Somebody to call."""

    line: int
    """Of the file of contacts."""
    number: str = field(repr=False)  # pii: E.164
    zones: Zones
    context: Mapping[str, str] = field(repr=False)  # pii: fills the profile's {variables}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not called."""

    line: int
    why: Why
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What stands where in a row."""

    number: str
    context: Mapping[str, str]
    """Prompt variables, each with its column."""
    time_zone: str | None = None
    """Names of the time zone database; what it says is believed more than the number."""

    def names(self) -> Iterator[str]:
        """Every column that a row must have."""
        yield self.number
        yield from self.context.values()
        if self.time_zone:
            yield self.time_zone


def csv_rows(lines: Iterable[str], name: str, columns: Columns) -> Iterator[tuple[int, Row | str]]:
    """The rows of a CSV file with a header, by line; a text says why a row can't be read. Raises `ContactsError`."""
    reader = csv.DictReader(lines, strict=True)
    header = reader.fieldnames or ()
    for wanted in columns.names():
        if wanted not in header:
            raise ContactsError(f"{name}:1: there is no column {wanted!r}; there are: {', '.join(header) or 'none'}")
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.reader.line_num, f"it is not CSV: {error}"
        else:
            yield reader.line_num, row


def jsonl_rows(lines: Iterable[str]) -> Iterator[tuple[int, Row | str]]:
    """The rows of a file with one JSON object per line; empty lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield number, row if isinstance(row, dict) else "it is not a JSON object"


def numbers_in(lines: Iterable[str], name: str) -> frozenset[str]:
    """A list of numbers, one per line, `#` before a remark.

    Raises `ContactsError`: a list that is not understood protects nobody.
    """
    found = set()
    for line, text in enumerate(lines, start=1):
        number = text.partition("#")[0].strip()
        if number:
            try:
                found.add(_number(number))
            except NumberError as error:
                raise ContactsError(f"{name}:{line}: {error}") from None
    return frozenset(found)


def select(
    rows: Iterable[tuple[int, Row | str]],
    columns: Columns,
    hours: Hours,
    suppressed: AbstractSet[str],
    now: float,
) -> Iterator[Contact | Rejected]:
    """Whom to call, in the file's order. `now` is UTC seconds: whoever can't be called within a month is rejected."""
    seen: set[str] = set()
    for line, row in rows:
        try:
            contact = _contact(line, row, columns, hours, now)
        except _Bad as bad:
            yield Rejected(line, Why.BAD, str(bad))
            continue
        if contact.number in seen:
            yield Rejected(line, Why.DUPLICATE, "the number stands on an earlier line")
        elif contact.number in suppressed:
            yield Rejected(line, Why.SUPPRESSED, "the number is on the suppression list")
        else:
            yield contact
        seen.add(contact.number)


class _Bad(Exception):
    """A row that can't be called; the message says why."""


def _contact(line: int, row: Row | str, columns: Columns, hours: Hours, now: float) -> Contact:
    if isinstance(row, str):
        raise _Bad(row)
    try:
        number = _number(_text(row, columns.number))
    except NumberError as error:
        raise _Bad(f"{columns.number}: {error}") from None
    zones = _zones(row, columns, number, hours, now)
    context = {variable: _text(row, column) for variable, column in columns.context.items()}
    return Contact(line=line, number=number, zones=zones, context=context)


def _number(text: str) -> str:
    return parse_e164(text.translate(_PUNCTUATION))


def _zones(row: Row, columns: Columns, number: str, hours: Hours, now: float) -> Zones:
    given = str(row.get(columns.time_zone) or "").strip() if columns.time_zone else ""
    if given and not is_zone(given):
        raise _Bad(f"{columns.time_zone}: there is no such time zone; write it as Europe/Berlin, or leave it empty")
    zones = (given,) if given else zones_of(number)
    if not zones:
        raise _Bad("its number tells no time zone; give one in a column, and name it under contacts.time_zone")
    if next_open(hours, zones, now) is None:
        many = f" in all {len(zones)} time zones of its number" if len(zones) > 1 else ""
        raise _Bad(f"the hours leave no time for it{many}")
    return zones


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
        raise _Bad(f"{column}: is empty or no text")
    text = str(value).strip()
    if len(text) > TEXT_LIMIT:
        raise _Bad(f"{column}: is longer than {TEXT_LIMIT} characters")
    return text
