"""Logs: one shape for every library, a call's id on its lines, nothing of a caller or a key in any of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest

from cluster.logs import JsonLines, call_scope, configure_logging, redact
from cluster.settings import load_settings
from tests.test_settings import REQUIRED

NUMBER = "+15551230001"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZ2VudCJ9.c2lnbmF0dXJl"


@pytest.fixture
def output() -> Iterator[StringIO]:
    """What a logger of this test's own writes, as JSON lines."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield stream
    log.removeHandler(handler)
    log.propagate = True


log = logging.getLogger("ringmaster.test")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"dialling {NUMBER} now", "dialling +*********01 now"),
        (f"sip_{NUMBER}", "sip_+*********01"),
        ("sip:15551230001@carrier.example", "sip:*********01@carrier.example"),
        ("?to=%2B15551230001&x=1", "?to=+*********01&x=1"),
        (f"401: token {TOKEN} is expired", "401: token [removed] is expired"),
        (f"wss://h/rtc?access_token={TOKEN}&auto=1", "wss://h/rtc?access_token=[removed]&auto=1"),
        ("https://h/v1?key=AIzaSyA-1234567890abcdefghijklmnopqrs", "https://h/v1?key=[removed]"),
        ("Authorization: Bearer rm_0a1b2c3d_secret-part", "Authorization: Bearer [removed]"),
        ("key rm_0a1b2c3d_secret-part.", "key [removed]."),
        ("postgresql://me:hunter2@db/calls", "postgresql://[removed]@db/calls"),
        ("my card is 4111 1111 1111 1111, or 378282246310005", "my card is [removed], or [removed]"),
        (
            "a node of 4111111111111112 bytes at 1790000000.4111111",
            "a node of 4111111111111112 bytes at 1790000000.4111111",
        ),
        ("2026-11-24T12:00:00 took 1234567 us, 5 calls", "2026-11-24T12:00:00 took 1234567 us, 5 calls"),
    ],
)
def test_what_must_not_be_seen_is_removed(text: str, clean: str) -> None:
    """Numbers are masked, tokens, keys and passwords are gone, and the rest stays as it is."""
    assert redact(text) == clean


def test_a_line_is_one_json_object(output: StringIO) -> None:
    """Message, level, logger, time and what stands in `extra`."""
    log.info("registered as %s", "worker-1", extra={"calls": 3, "_ray_job_id": 1})
    line = json.loads(output.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "registered as worker-1", "level": "info", "logger": "ringmaster.test", "calls": 3}


def test_personal_data_does_not_reach_the_line(output: StringIO) -> None:
    """A `pii.` key is dropped at any depth; a number that slipped into another place is masked."""
    log.warning(
        "a call to %s failed",
        NUMBER,
        extra={"pii.said": "my secret", "leg": {"pii.to": NUMBER, "other": [NUMBER]}, "calls": (1, None)},
    )
    assert "my secret" not in output.getvalue()
    assert "5551230" not in output.getvalue()
    assert json.loads(output.getvalue())["leg"] == {"other": ["+*********01"]}


def test_a_traceback_is_cleaned_too(output: StringIO) -> None:
    """LiveKit's errors carry the whole token, wherever in the chain they are."""

    def connect() -> None:
        raise ConnectionError(f"signal failure: {TOKEN}")

    def join() -> None:
        try:
            connect()
        except ConnectionError as cause:
            raise RuntimeError(f"no room for {NUMBER}") from cause

    try:
        join()
    except RuntimeError:
        log.exception("fault")
    line = json.loads(output.getvalue())
    assert "RuntimeError: no room for +*********01" in line["exception"]
    assert TOKEN not in output.getvalue()


async def test_a_calls_lines_carry_its_id(output: StringIO) -> None:
    """Inside the scope, tasks that were begun there included; not outside it, nor in another call's."""

    async def serve(call_id: str) -> None:
        with call_scope(call_id):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.to_thread(log.info, call_id))

    await asyncio.gather(serve("call_1"), serve("call_2"))
    log.info("none")
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert {line["event"]: line.get("call_id") for line in lines} == {
        "call_1": "call_1",
        "call_2": "call_2",
        "none": None,
    }


@pytest.fixture
def _root() -> Iterator[None]:
    """The root logger is put back as it was."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.usefixtures("_root")
def test_without_a_terminal_it_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The level holds, and a chatty library is heard from `warning` on, cleaned like ourselves."""
    configure_logging(load_settings(REQUIRED))
    logging.getLogger("cluster").debug("not shown")
    logging.getLogger("livekit").info("not shown")
    logging.getLogger("livekit").warning("track lost, token %s", TOKEN)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "track lost, token [removed]"


@pytest.mark.usefixtures("_root")
def test_people_may_have_it_for_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    """`console` is one plain line, and configuring twice does not double it."""
    for _ in range(2):
        configure_logging(load_settings(REQUIRED | {"RINGMASTER_LOG_FORMAT": "console"}))
    logging.getLogger("cluster").info("deployed", extra={"replicas": 2})
    (line,) = capsys.readouterr().err.splitlines()
    assert "deployed" in line
    assert "replicas=2" in line
    assert not line.startswith("{")
