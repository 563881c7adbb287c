"""Rows of contacts: who is called, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from cluster.campaign.contacts import (
    Columns,
    Contact,
    ContactsError,
    Rejected,
    Why,
    csv_rows,
    jsonl_rows,
    numbers_in,
    select,
)
from cluster.campaign.hours import Hours
from cluster.telephony.hours import parse_hours

HOURS = Hours(parse_hours("Mo-Fr 09:00-18:00"))
COLUMNS = Columns(number="phone", context={"name": "first"}, time_zone="zone")
NOW = 1_796_000_000.0
ALL_MONDAYS = frozenset(date.fromtimestamp(NOW) + timedelta(days=n) for n in range(-7, 60))  # noqa: DTZ012 any will do


def read(*lines: str, suppressed: frozenset[str] = frozenset()) -> list[Contact | Rejected]:
    """Contacts of a CSV with our header."""
    rows = csv_rows(["first,phone,zone\n", *(f"{line}\n" for line in lines)], "c.csv", COLUMNS)
    return list(select(rows, COLUMNS, HOURS, suppressed, NOW))


def reason(line: str) -> str:
    """Why a row is bad."""
    (rejected,) = read(line)
    assert isinstance(rejected, Rejected)
    assert (rejected.line, rejected.why) == (2, Why.BAD)
    return rejected.reason


def test_a_row_is_a_contact() -> None:
    """However people write a number."""
    (contact,) = read("Sam,+1 (415) 555-0101,")
    assert contact == Contact(line=2, number="+14155550101", zones=("America/Los_Angeles",), context={"name": "Sam"})
    assert "415" not in repr(contact)
    assert "Sam" not in repr(contact)


def test_a_column_knows_the_time_zone_better() -> None:
    """A mobile number travels."""
    (contact,) = read("Sam,+14155550101,Europe/Berlin")
    assert isinstance(contact, Contact)
    assert contact.zones == ("Europe/Berlin",)


def test_a_number_is_called_once() -> None:
    """On whatever lines it stands, a suppressed one never."""
    found = read("A,+14155550101,", "B,+1-415-555-0101,", "C,+14155550102,", suppressed=frozenset({"+14155550102"}))
    assert [one.why for one in found if isinstance(one, Rejected)] == [Why.DUPLICATE, Why.SUPPRESSED]
    assert len(found) == 3


def test_a_national_prefix_makes_no_other_number() -> None:
    """Nobody is called twice, nor in spite of the list, for a 0 in brackets."""
    suppressed = numbers_in(["+44 (0)20 7946 0959"], "s.txt")
    lines = ["A,+44 (0)20 7946 0958,", "B,+44 20 7946 0958,", "C,+442079460959,"]
    contact, *rejected = read(*lines, suppressed=suppressed)
    assert isinstance(contact, Contact)
    assert contact.number == "+442079460958"
    assert [one.why for one in rejected if isinstance(one, Rejected)] == [Why.DUPLICATE, Why.SUPPRESSED]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Sam,4155550101,", "phone: the number does not start with +"),
        ("Sam,,", "phone: is empty"),
        ("Sam", "phone: is empty"),
        (",+14155550101,", "first: is empty"),
        (f"{'x' * 4001},+14155550101,", "first: is longer than 4000"),
        ("Sam,+14155550101,Mars/Base", "zone: there is no such time zone"),
        ("Sam,+15550000100,", "its number tells no time zone"),
        ("Sam,+18005550100,", "the hours leave no time for it in all 42 time zones"),
        ('"Sam"x,+14155550101,', "it is not CSV"),
    ],
)
def test_a_bad_row_says_why(line: str, expected: str) -> None:
    """Without repeating what stands in it."""
    said = reason(line)
    assert said.startswith(expected)
    assert "415" not in said


def test_hours_that_never_come() -> None:
    """Nobody is called at no time."""
    rows: Iterator[tuple[int, dict[str, str]]] = iter([(2, {"phone": "+14155550101", "first": "x"})])
    (found,) = select(rows, COLUMNS, Hours(parse_hours("Mo 09:00-10:00"), ALL_MONDAYS), frozenset(), NOW)
    assert isinstance(found, Rejected)
    assert found.reason == "the hours leave no time for it"


def test_one_object_per_line() -> None:
    """Numbers are texts too; lists and the like are not."""
    lines = ['{"phone": "+14155550101", "first": 7}\n', "\n", "[1]\n", "{\n", '{"phone": true}\n']
    columns = Columns(number="phone", context={"name": "first"})
    contact, *bad = select(jsonl_rows(lines), columns, HOURS, frozenset(), NOW)
    assert isinstance(contact, Contact)
    assert contact.context == {"name": "7"}
    assert [(one.line, one.reason) for one in bad if isinstance(one, Rejected)] == [
        (3, "it is not a JSON object"),
        (4, "it is not a JSON object"),
        (5, "phone: is empty or no text"),
    ]


def test_a_missing_column_is_the_files_fault() -> None:
    """One error instead of a million bad rows."""
    with pytest.raises(ContactsError, match=r"c\.csv:1: there is no column 'phone'; there are: first, zone"):
        list(csv_rows(["first,zone\n"], "c.csv", COLUMNS))
    with pytest.raises(ContactsError, match="there are: none"):
        list(csv_rows([], "c.csv", COLUMNS))


def test_a_list_of_numbers() -> None:
    """One that is not understood protects nobody."""
    assert numbers_in(["# them\n", "\n", "+1 415 555 0101  # Sam\n"], "s.txt") == {"+14155550101"}
    with pytest.raises(ContactsError, match=r"^s\.txt:2: the number does not start with \+"):
        numbers_in(["+14155550101\n", "415\n"], "s.txt")
