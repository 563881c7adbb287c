"""Numbers: what is one, what is none and why, and how one is hidden."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.budget.policy import Policy
from cluster.dispatch.requests import CallBody
from cluster.telephony.masking import mask
from cluster.telephony.numbers import NumberError, parse_e164


@pytest.mark.parametrize("number", ["+15551230001", "+493012345678", "+442071838750", "+6591234567", "+390612345678"])
def test_e164_is_taken_as_it_is(number: str) -> None:
    """A number that its country could have is returned unchanged."""
    assert parse_e164(number) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+4402079460958", "+442079460958"),
        ("+49015112345678", "+4915112345678"),
        ("+490015112345678", "+4915112345678"),
        ("+330612345678", "+33612345678"),
        ("+114155550101", "+14155550101"),
        ("+370860012345", "+37060012345"),
        ("+390612345678", "+390612345678"),
        ("+78005551234", "+78005551234"),
    ],
)
def test_a_phone_has_one_spelling(text: str, number: str) -> None:
    """A national prefix is no part of it, an Italian 0 and a Russian 8 that belong to it are."""
    assert parse_e164(text) == number


def test_a_phone_has_one_spelling_in_policies_and_requests() -> None:
    """A block holds however either is written, and the same wish has the same fingerprint."""
    long, short = "+4402079460958", "+442079460958"
    bodies = [CallBody.model_validate({"to": number, "profile": "p"}) for number in (long, short)]
    assert bodies[0].sha256() == bodies[1].sha256()
    for blocked in (long, short):
        assert all(Policy(blocked_numbers=(blocked,)).blocks(body.to) for body in bodies)
    assert all(Policy(blocked_prefixes=("+4420",)).blocks(body.to) for body in bodies)


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_spelling_is_the_same_when_it_is_read_again(text: str) -> None:
    """Whatever is stored can be compared with whatever is read."""
    with suppress(NumberError):
        number = parse_e164(text)
        assert parse_e164(number) == number


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("15551230001", "does not start with +"),
        ("0049301234567", "does not start with +"),
        (" +15551230001", "does not start with +"),
        ("+1555123000a", "other than the digits"),
        ("+1 555 123 0001", "other than the digits"),
        ("+1-555-123-0001", "other than the digits"),
        ("+15551230001\n", "other than the digits"),
        ("+١٥٥٥١٢٣٠٠٠١", "other than the digits"),
        ("+1555123000²", "other than the digits"),
        ("+05551230001", "no country code starts with 0"),
        ("+", "other than the digits"),
        ("+12345", "has 5 digits"),
        ("+1234567890123456", "has 16 digits"),
        ("+9991234567", "no country has this calling code"),
        ("+155512300", "too short"),
        ("+1555123000123", "too long"),
        ("+15551234", "lacks its area code"),
        ("+1555123", "too short"),
        ("sip:someone@example.com", "does not start with +"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(text: str, why: str) -> None:
    """Each kind of mistake has a message that names it."""
    with pytest.raises(NumberError, match=why.replace("+", r"\+")):
        parse_e164(text)


@given(st.text("2346789", min_size=5, max_size=30), st.sampled_from(["", "+", "00", "tel:"]))
def test_an_error_never_repeats_the_number(digits: str, prefix: str) -> None:
    """Whatever is sent, the message holds none of it, since messages reach logs."""
    with suppress(NumberError):
        parse_e164(prefix + digits)
        return
    with pytest.raises(NumberError) as error:
        parse_e164(prefix + digits)
    assert digits not in str(error.value)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15551230001", "+*********01"),
        ("15551230001", "*********01"),
        ("anonymous", "*******us"),
        ("", ""),
        ("+12", "+**"),
        ("7", "*"),
    ],
)
def test_a_masked_number_shows_two_characters(number: str, shown: str) -> None:
    """The length and the + stay, the last two characters stay unless they would be all."""
    assert mask(number) == shown
