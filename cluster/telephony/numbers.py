"""Phone numbers: what counts as one, and how one is shown to people who need not know it.

Rules of this file:
1. A number is E.164 text, `+` and 7 to 15 ASCII digits. Nothing is guessed: a national number has no country.
2. A phone has one spelling, whoever wrote it: `+44 0 20…` is `+44 20…`, or a list of numbers would not protect it.
3. An error never repeats the number it is about, since errors reach logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import phonenumbers

from cluster.errors import InputError

_SHAPE: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)

_WRONG_LENGTH: Final[Mapping[int, str]] = {
    phonenumbers.ValidationResult.TOO_SHORT: "it is too short for its country",
    phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "it lacks its area code",
    phonenumbers.ValidationResult.TOO_LONG: "it is too long for its country",
    phonenumbers.ValidationResult.INVALID_LENGTH: "its length does not exist in its country",
}


class NumberError(InputError, ValueError):
    """The text is not a phone number that can be dialled; the message says why and never holds the number."""


def parse_e164(text: str) -> str:
    """The number as E.164, without a national prefix such as the 0 of `+44 (0)20`, or `NumberError`.

    Lengths per country come from libphonenumber's metadata. Whether a subscriber has the number, only a dial tells.
    """
    if not _SHAPE.fullmatch(text):
        raise NumberError(f"{_wrong_shape(text)}; a number is + and 7 to 15 digits, e.g. +15551230001")
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise NumberError("no country has this calling code; a number starts with + and its country's code") from None
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise NumberError(f"{_WRONG_LENGTH.get(reason, 'its country does not have such numbers')}; check the digits")
    spelling = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return text if spelling == text else parse_e164(spelling)  # of two prefixes only the first was taken away


def _wrong_shape(text: str) -> str:
    if not text:
        return "the number is empty"
    if not text.startswith("+"):
        return "the number does not start with + and a country code"
    digits = text[1:]
    if not digits.isascii() or not digits.isdigit():
        return "the number has something other than the digits 0 to 9 after its +"
    if digits.startswith("0"):
        return "no country code starts with 0"
    return f"the number has {len(digits)} digits"
