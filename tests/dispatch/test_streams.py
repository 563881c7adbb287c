"""Server-sent events of a call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from cluster.dispatch.streams import event_stream
from tests.dispatch.doubles import HistoryPort
from tests.records.examples import START, a_record, a_request, an_event


def parsed(chunk: bytes) -> dict[str, Any]:
    """The fields of one message, by the rules of the standard."""
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines() if not line.startswith(":"))
    return fields | ({"data": json.loads(fields["data"])} if "data" in fields else {})


async def live() -> dict[str, Any]:
    """A call that goes on."""
    return {"state": "answered", "outcome": None}


async def ended() -> dict[str, Any]:
    """A call that is over."""
    return {"state": "ended", "outcome": {"result": "caller", "reason": "busy"}}


async def gone() -> None:
    """No call at all."""


async def test_a_stream_from_the_beginning_to_the_end(history: HistoryPort) -> None:
    """What was is told at once, what comes when it comes, and the call's end is the stream's."""
    records = history.history
    await records.begin(a_request(), START)
    await records.append([an_event("leg", state="ringing")])
    stream = event_stream(history, "call_1", 0, live)
    assert parsed(await anext(stream)) == {"retry": "2000"}
    first = parsed(await anext(stream))
    assert (first["id"], first["event"], first["data"]["state"]) == ("1", "leg", "ringing")
    waiting = asyncio.ensure_future(anext(stream))
    await records.append([an_event("line", who="agent", text="Grüß\nGott")])
    assert parsed(await waiting)["data"]["text"] == "Grüß\nGott"
    await records.finish(a_record())
    assert [parsed(chunk)["event"] async for chunk in stream] == ["ended"]


async def test_a_stream_goes_on_after_the_last_event_seen(history: HistoryPort) -> None:
    """Nothing twice, nothing left out."""
    await history.history.begin(a_request(), START)
    await history.history.append([an_event("leg", state="ringing"), an_event("leg", state="answered")])
    await history.history.finish(a_record())
    chunks = [parsed(chunk) async for chunk in event_stream(history, "call_1", 1, live)]
    assert [chunk.get("id") for chunk in chunks] == [None, "2", "3"]


async def test_a_quiet_call_has_a_heartbeat(history: HistoryPort) -> None:
    """A comment, which clients do not show."""
    await history.history.begin(a_request(), START)
    stream = event_stream(history, "call_1", 0, live, heartbeat_s=0.01)
    await anext(stream)
    assert await anext(stream) == b": still here\n\n"
    await stream.aclose()


async def test_a_stream_resumed_behind_the_end_ends(history: HistoryPort) -> None:
    """And says once more how the call ended, as far as that is known."""
    await history.history.finish(a_record())
    for look_up, outcome in ((ended, {"result": "caller", "reason": "busy"}), (gone, {})):
        chunks = [parsed(chunk) async for chunk in event_stream(history, "call_1", 99, look_up)]
        assert [chunk.get("event") for chunk in chunks] == [None, "ended"]
        assert chunks[-1]["data"] == outcome


async def test_without_the_history_the_stream_ends(history: HistoryPort) -> None:
    """The client comes back with the last id that it has."""
    history.down = True
    assert [parsed(chunk) async for chunk in event_stream(history, "call_1", 0, live)] == [{"retry": "2000"}]
