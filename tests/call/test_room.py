"""The agent's place in the room."""

from __future__ import annotations

import time

import pytest
from livekit import api, rtc
from pydantic import SecretStr

from cluster.call.room import SETTLED_S, RoomLink, unsettled_s
from cluster.local.livekit_server import LivekitServer
from cluster.settings import LivekitSettings
from tests.fixtures.web_caller import WebCaller

NOON = 1_800_000_000.0


@pytest.mark.parametrize(
    ("ours", "theirs", "began", "now", "expected"),
    [
        # The phone came in 70 ms before us, and our connection is 20 ms old.
        (0.070, [0.0], 0.060, 0.090, SETTLED_S - 0.090),
        # Who came last counts.
        (0.070, [0.0, 0.050], 0.060, 0.090, SETTLED_S - 0.040),
        # One came in while we did.
        (0.070, [0.080], 0.060, 0.090, SETTLED_S - 0.010),
        # It has been there for long.
        (0.070, [-10.0], 0.060, 0.090, 0.0),
        # LiveKit's clock is an hour ahead or behind: we came in after we began, and before now.
        (3600.070, [3600.0], 0.060, 0.090, SETTLED_S - 0.070),
        (-3599.930, [-3600.0], 0.060, 0.090, SETTLED_S - 0.100),
        # Never longer than a whole one, whatever the server says.
        (0.070, [5.0], 0.060, 0.090, SETTLED_S),
        # Nobody is there, or the server does not say since when.
        (0.070, [], 0.060, 0.090, 0.0),
        (0.070, [None], 0.060, 0.090, 0.0),
        (None, [0.0], 0.060, 0.090, 0.0),
    ],
)
def test_how_long_a_phone_needs_until_it_can_be_offered_a_track(
    ours: float | None, theirs: list[float | None], began: float, now: float, expected: float
) -> None:
    """By LiveKit's clock and our own."""
    at = None if ours is None else NOON + ours
    others = [None if each is None else NOON + each for each in theirs]
    assert unsettled_s(at, others, NOON + began, NOON + now) == pytest.approx(expected, abs=1e-5)


async def test_a_track_is_published_when_the_phone_can_be_offered_it(livekit: LivekitServer) -> None:
    """Not sooner after its joining, where the offer would wait for longer."""
    settings = LivekitSettings(url=livekit.url, api_key=livekit.api_key, api_secret=SecretStr(livekit.api_secret))
    caller, link, source = WebCaller(), RoomLink(lambda _: None, lambda: None), rtc.AudioSource(24_000, 1)
    await caller.join(livekit, "settles")
    await link.join(settings, "settles", "agent-settles")
    await link.publish(rtc.LocalAudioTrack.create_audio_track("agent", source))
    published_at = time.time()
    async with api.LiveKitAPI(livekit.url, livekit.api_key, livekit.api_secret) as client:
        there = (await client.room.list_participants(api.ListParticipantsRequest(room="settles"))).participants
    joined_ms = next(each.joined_at_ms for each in there if each.identity == "caller")
    assert published_at - joined_ms / 1000 >= SETTLED_S - 0.001
    await link.take_back()
    await link.leave()
    await source.aclose()
    await caller.leave()
