"""Logging: one line per event, the call's id on every line of a call, no personal data or credential in any of them.

Everything goes through the standard library's root logger, so the lines of LiveKit, Ray and the HTTP libraries look and
are cleaned like our own. Messages are static; what varies stands in `extra`. What belongs to a caller stands under a
key that starts with `pii.`, and is dropped. Rule: the cleaning is the last step before the rendering, so that it sees
exceptions too (LiveKit's errors carry the whole token).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from cluster.telephony.masking import mask

if TYPE_CHECKING:
    from cluster.settings import Settings

PII = "pii."
REMOVED = "[removed]"
_CHATTY = ("aiohttp", "alembic", "asyncio", "google_genai", "httpcore2", "httpx2", "livekit", "urllib3", "websockets")
"""Libraries whose `info` is about themselves."""
_WITH_OWN_OUTPUT = ("ray", "livekit")
"""Libraries that write past the root logger unless their own output is taken away."""

_SECRETS = re.compile(
    r"eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"  # a JSON web token
    r"|AIza[\w-]{20,}"  # a Google API key
    r"|ya29\.[\w.-]+"  # a Google access token
    r"|auth_tokens/[\w-]+"  # a Live API token
    r"|rm_[0-9a-f]{8}_[\w-]+"  # one of our keys
    r"|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"  # a user and a password in a URL
    r"|(?<=[?&]key=)[^\s&'\"]+"
    r"|(?<=access_token=)[^\s&'\"]+"
    r"|(?<=Bearer )[^\s'\"]+",
)
_NUMBER = re.compile(r"(?:\+|%2B)[1-9][0-9]{6,14}|(?<=sip:)[0-9]{5,}(?=@)")
_CARD = re.compile(r"(?<![\d.])[3-6]\d{3}[ -]?\d{4,6}[ -]?\d{4,5}[ -]?\d{0,4}(?![\d.])")
_CARDS_DIGITS = range(13, 17)
_STAYS = frozenset({"timestamp", "level", "logger", "call_id"})
_call_id: ContextVar[str] = ContextVar("call_id", default="")


def configure_logging(settings: Settings) -> None:
    """Send the process's log to standard error, at the settings' level and in their format. May be called again."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(level if level < logging.INFO else max(level, logging.WARNING))
    for name in _WITH_OWN_OUTPUT:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


@contextmanager
def call_scope(call_id: str) -> Iterator[None]:
    """Every line that is logged inside, also by tasks begun inside, carries the call's id."""
    token = _call_id.set(call_id)
    try:
        yield
    finally:
        _call_id.reset(token)


class JsonLines(JsonFormatter):
    """Renders a record as one JSON object."""

    def __init__(self) -> None:
        """What the record itself carries is put in by `add_fields`; the rest is its `extra`."""
        super().__init__([], rename_fields={"exc_info": "exception"})

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Begin with when, how bad, by whom and in which call."""
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        if call_id := _call_id.get():
            log_data["call_id"] = call_id
        log_data["event"] = record.message
        super().add_fields(log_data, record, message_dict)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Clean it: the last step before the rendering."""
        return {
            key: value if key in _STAYS else _cleaned(value)
            for key, value in log_data.items()
            if not key.startswith(PII)
        }


class PlainLines(JsonLines):
    """Renders a record for people: what happened, then the rest as `key=value`, an exception below."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """One line, and as many as the exception has."""
        when, level, event = (log_data.pop(key) for key in ("timestamp", "level", "event"))
        exception = log_data.pop("exception", None)
        line = " ".join([f"{when} {level:<8} {event}", *(f"{key}={value}" for key, value in log_data.items())])
        return line if exception is None else f"{line}\n{exception}"


def redact(text: str) -> str:
    """The text without tokens, keys, passwords and numbers of payment cards, and with phone numbers masked."""
    without_cards = _CARD.sub(lambda found: REMOVED if _is_card(found[0]) else found[0], _SECRETS.sub(REMOVED, text))
    return _NUMBER.sub(lambda found: mask(found[0].replace("%2B", "+")), without_cards)


def _is_card(text: str) -> bool:
    """Whether the digits have the check sum of a card's (ISO/IEC 7812): it is a multiple of ten."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) in _CARDS_DIGITS and str(sum(doubled) + sum(digits[-1::-2])).endswith("0")


def _cleaned(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _cleaned(item) for key, item in value.items() if not str(key).startswith(PII)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned(item) for item in value]
    return redact(value if isinstance(value, str) else repr(value))
