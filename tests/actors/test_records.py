"""`Records` as a plain class, as Ray runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.records import Records
from cluster.messages import CallQuery
from cluster.outcome import BUSY
from cluster.settings import load_settings
from tests.records.examples import CALLER, START, a_record, a_request, an_event

ENVIRONMENT = {
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": "APIkey",
    "LIVEKIT_API_SECRET": "s" * 32,
    "GEMINI_API_KEY": "x",
}


async def test_a_call_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """The database is made with the first message, even if several come at once; then all methods work."""
    records = Records(load_settings(ENVIRONMENT | {"RINGMASTER_STATE_DIR": str(tmp_path / "state")}))
    await asyncio.gather(
        records.begin(a_request(), START),
        records.append([an_event("leg", state="ringing")]),
        records.webhook_seen("EV_1"),
    )
    assert [seq for seq, _ in await records.events("call_1", 0, 5.0)] == [1]
    assert await records.finish(a_record(outcome=BUSY))
    assert not await records.finish(a_record())
    call = await records.call("call_1", "acme")
    assert call is not None
    assert (call["outcome"]["reason"], call["to"]) == ("busy", "+*********01")
    [listed] = await records.calls("acme", CallQuery(state="ended"), full_numbers=True) or []
    assert listed["to"] == CALLER
    assert not await records.webhook_seen("EV_1")
    assert (await records.statistics())["unstored"] == 0
    await (await records._ready()).close()
