"""The last words to a caller whose call nobody can go on with, on a real livekit-server."""

from __future__ import annotations

import asyncio

import pytest
from livekit import api

from cluster.call import farewell as f
from cluster.call.farewell import farewell
from cluster.local.carrier.record import Ending
from cluster.local.livekit_server import LivekitServer
from cluster.messages import CallRequest, Direction
from cluster.settings import LivekitSettings
from tests.fixtures.local import TRUNK_NUMBER, Exchange, room_name


def inbound(room: str) -> CallRequest:
    """A call in that room."""
    return CallRequest(
        request_id="r",
        call_id="call-1",
        tenant="t",
        direction=Direction.INBOUND,
        profile="baker",
        room=room,
        identity="agent-1",
    )


def keys(livekit: LivekitServer) -> LivekitSettings:
    """The server of the test."""
    return LivekitSettings.model_validate(
        {"LIVEKIT_URL": livekit.url, "LIVEKIT_API_KEY": livekit.api_key, "LIVEKIT_API_SECRET": livekit.api_secret}
    )


async def test_a_caller_hears_the_sentence_to_its_end(livekit: LivekitServer, exchange: Exchange) -> None:
    """The phone is answered if it rings still; who says goodbye leaves the hanging up to others."""
    await exchange.take_calls()
    call = exchange.carrier.call_in("+14155550199", TRUNK_NUMBER, steps=())
    await call.joined
    await farewell(keys(livekit), inbound(call.place.room), None)
    assert not call.ended.done()
    await exchange.rooms.room.delete_room(api.DeleteRoomRequest(room=call.place.room))
    log = await call.ended
    assert log.ending is Ending.ROOM_DELETED
    assert log.loud_ms > 1_000


async def test_where_nobody_listens_nobody_is_waited_for(
    livekit: LivekitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phone was put down meanwhile."""
    monkeypatch.setattr(f, "HEARD_WITHIN_S", 0.2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(20):
            await farewell(keys(livekit), inbound(room_name()), None)
