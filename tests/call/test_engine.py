"""LiveKit's native engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress

from livekit import rtc

from cluster.call.engine import connect
from cluster.call.room import agent_token
from cluster.local.livekit_server import LivekitServer
from cluster.settings import load_settings

PANICS_AFTER_S = 10.0


async def cancel_connections(url: str, key: str, secret: str) -> None:
    """Cancel connections at every moment of their making, then wait until an engine that panics has."""
    environ = {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret, "GEMINI_API_KEY": "unused"}
    settings = load_settings(environ)
    for number in range(25):
        room = rtc.Room()
        connecting = asyncio.create_task(connect(room, url, agent_token(settings.livekit, f"room-{number}", "agent")))
        await asyncio.sleep(0.01 * number)
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        await room.disconnect()
    await asyncio.sleep(PANICS_AFTER_S + 2)


async def test_a_connection_given_up_half_way_does_not_end_the_process(livekit: LivekitServer) -> None:
    """In a process of its own, since a panic would end this one."""
    arguments = (livekit.url, livekit.api_key, livekit.api_secret)
    code = f"import asyncio; from {__name__} import *; asyncio.run(cancel_connections(*{arguments!r}))"
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
