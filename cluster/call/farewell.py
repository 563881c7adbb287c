"""The last words to a caller whose call nobody can go on with, from a process that has nothing else of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cluster.call import engine
from cluster.call.room import RoomLink
from cluster.call.sentence import unavailable_sentence
from cluster.call.timers import TAIL_S
from cluster.call.voice import AgentVoice

if TYPE_CHECKING:
    from cluster.messages import CallRequest
    from cluster.settings import LivekitSettings

HEARD_WITHIN_S: Final = 8.0
"""A phone that is there subscribes within a fraction of this, or when it is offered the track again."""


async def farewell(livekit: LivekitSettings, request: CallRequest, sentence: str | None) -> None:
    """Join the call's room under the agent's identity, play the recorded sentence to its end, and leave.

    `sentence` is the profile's own file, if it has one. Raises `RoomUnreachable`, and `TimeoutError` where nobody
    listens; the room is left as it is.
    """
    engine.prepare()
    heard = asyncio.Event()
    link = RoomLink(lambda _event: None, heard.set)
    voice = AgentVoice(heard.set, lambda _pcm, _rate_hz: None)
    playing = asyncio.create_task(voice.play_for_ever())
    try:
        await link.join(livekit, request.room, request.identity)
        publication = await link.publish(voice.new_track())
        async with asyncio.timeout(HEARD_WITHIN_S):
            await link.until_heard(publication, voice.new_track)
        voice.open()
        voice.put(*unavailable_sentence(sentence))
        await heard.wait()
        await asyncio.sleep(TAIL_S)
    finally:
        playing.cancel()
        await link.take_back()
        await link.leave()
        await voice.aclose()
