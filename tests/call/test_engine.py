"""LiveKit's native engine."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc
from livekit.rtc import _ffi_client as ffi

from cluster.call import engine
from cluster.call.engine import connect
from cluster.call.room import agent_token
from cluster.local.livekit_server import LivekitServer
from cluster.settings import Settings, load_settings

PANICS_AFTER_S = 10.0


def _settings(url: str, key: str, secret: str) -> Settings:
    return load_settings(
        {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret, "GEMINI_API_KEY": "unused"}
    )


async def cancel_connections(url: str, key: str, secret: str) -> None:
    """Cancel connections at every moment of their making, then wait until an engine that panics has."""
    settings = _settings(url, key, secret)
    for number in range(25):
        room = rtc.Room()
        connecting = asyncio.create_task(connect(room, url, agent_token(settings.livekit, f"room-{number}", "agent")))
        await asyncio.sleep(0.01 * number)
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        await room.disconnect()
    await asyncio.sleep(PANICS_AFTER_S + 2)


async def count_log_lines(url: str, key: str, secret: str) -> int:
    """How many lines of the native log reach Python in a connection."""
    lines = 0

    def count(level: Any) -> int | None:
        nonlocal lines
        lines += 1
        return to_python_level(level)

    to_python_level, ffi.to_python_level = ffi.to_python_level, count
    room = rtc.Room()
    await connect(room, url, agent_token(_settings(url, key, secret).livekit, "room", "agent"))
    await room.disconnect()
    return lines


def are_sent_at_once(port: int) -> list[bool]:
    """Of each of this process's connections to a port, whether TCP_NODELAY is set."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # no socket, or none that is connected
            borrowed = socket.socket(fileno=int(entry.name))
            try:
                if borrowed.type == socket.SOCK_STREAM and borrowed.getpeername()[1:2] == (port,):
                    found.append(bool(borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            finally:
                borrowed.detach()
    return found


async def test_signalling_is_sent_at_once(livekit: LivekitServer) -> None:
    """Without Nagle's delay, which the SDK leaves on; the connections of others stay as they are."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            room = rtc.Room()
            settings = _settings(livekit.url, livekit.api_key, livekit.api_secret)
            await connect(room, livekit.url, agent_token(settings.livekit, "at-once", "agent"))
            assert True in are_sent_at_once(livekit.port)
            assert False not in are_sent_at_once(livekit.port)
            assert are_sent_at_once(port) == [False]
            await room.disconnect()


async def test_signalling_is_sent_at_once_through_a_descriptor_that_was_used_before(livekit: LivekitServer) -> None:
    """Other files were closed meanwhile, and the connection gets the number of one of them."""
    room = rtc.Room()
    settings = _settings(livekit.url, livekit.api_key, livekit.api_secret)
    others = [socket.socket() for _ in range(200)]
    connecting = asyncio.create_task(connect(room, livekit.url, agent_token(settings.livekit, "again", "agent")))
    await asyncio.sleep(0)
    for other in others:
        other.close()
    await connecting
    assert True in are_sent_at_once(livekit.port)
    await room.disconnect()


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_prepared_process_gets_no_native_log_and_runs_no_shell_script(
    livekit: LivekitServer,
    prepared: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    """In a process of its own, since both are for its whole life; without it, the log is there.

    A connection makes a thousand lines; one or two of the engine's very start may be under way already.
    """
    arguments = (livekit.url, livekit.api_key, livekit.api_secret)
    code = (
        f"import asyncio, shutil; from {__name__} import *; {'engine.prepare();' if prepared else ''}"
        f"print(asyncio.run(count_log_lines(*{arguments!r}))); print(shutil.which('lsb_release'))"
    )
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    lines, found = ended.stdout.splitlines()
    assert (int(lines) < 50) is prepared
    assert (found == str(engine.STUBS / "lsb_release")) is prepared


async def test_the_stub_says_nothing_and_fails() -> None:
    """The engine then reads the name of the system from a file."""
    stub = await asyncio.create_subprocess_exec(engine.STUBS / "lsb_release", "-a", stdout=subprocess.PIPE)
    assert (await stub.communicate())[0] == b""
    assert stub.returncode == 1


async def test_a_connection_given_up_half_way_does_not_end_the_process(livekit: LivekitServer) -> None:
    """In a process of its own, since a panic would end this one."""
    arguments = (livekit.url, livekit.api_key, livekit.api_secret)
    code = f"import asyncio; from {__name__} import *; asyncio.run(cancel_connections(*{arguments!r}))"
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
