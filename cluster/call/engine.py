"""LiveKit's native engine, used in a way that costs little and does not end the process."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from livekit import rtc
from livekit.rtc import _ffi_client as ffi
from livekit.rtc.version import __version__

STUBS: Final = Path(__file__).with_name("stubs")

_abandoned: set[asyncio.Task[None]] = set()


def prepare() -> None:
    """Once per process, before its first room: take from the engine two habits that cost more than joining a room does.

    It hands libwebrtc's every debug line to Python, which drops them: 1,600 lines and half of the CPU of a connection
    (115 ms with them, 65 without). Errors go with them, and may, since they hold whole tokens; the variable RUST_LOG
    brings them to the standard error. And at every connection it runs `lsb_release`, a shell script that starts eight
    programs, for the name of the system: a stub that fails at once comes first in PATH (15 ms of CPU, 30 of waiting).
    """
    os.environ.setdefault("RUST_LOG", "off")
    path = os.environ.get("PATH", os.defpath)
    if str(STUBS) not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((str(STUBS), path))
    # The SDK has no switch for its log; starting the engine again only replaces the settings it was started with.
    # An SDK that looks different inside is used as it comes.
    with suppress(AttributeError):
        native = ffi.FfiClient.instance._ffi_lib  # noqa: SLF001
        capture_logs = False
        native.livekit_ffi_initialize(ffi.ffi_event_callback, capture_logs, b"python", __version__.encode("ascii"))


async def connect(room: rtc.Room, url: str, token: str, options: rtc.RoomOptions | None = None) -> None:
    """`room.connect` that may be cancelled, and whose signalling is sent at once. Raises `rtc.ConnectError`.

    The SDK's own, when cancelled, leaves the engine waiting for a word from Python; 10 s later that panics and ends the
    process, with whatever call it then serves (measured, livekit 1.x). So an abandoned connection is made, and left.
    """
    before = _open_files()
    connecting = asyncio.create_task(room.connect(url, token, options or rtc.RoomOptions()))
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        leaving = asyncio.create_task(_leave(room, connecting))
        _abandoned.add(leaving)
        leaving.add_done_callback(_abandoned.discard)
        raise
    for descriptor, _what in _open_files() - before:
        _send_at_once(descriptor)


async def settle() -> None:
    """Return when every abandoned connection is left; nobody may close the event loop before."""
    if _abandoned:
        await asyncio.wait(_abandoned)


async def _leave(room: rtc.Room, connecting: asyncio.Task[None]) -> None:
    with suppress(rtc.ConnectError):
        await connecting
        await room.disconnect()


def _open_files() -> set[tuple[int, str]]:
    """The descriptors of this process, which are used again, and what each is of. Nothing elsewhere than on Linux."""
    found: set[tuple[int, str]] = set()
    with suppress(FileNotFoundError):
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add((int(entry.name), str(entry.readlink())))
    return found


def _send_at_once(descriptor: int) -> None:
    """Set TCP_NODELAY where it is a connection: the SDK leaves LiveKit's signalling without.

    It publishes a track by several small messages, and each but the first waits until the server's machine acknowledges
    the one before, which takes Linux 40 ms (Nagle's algorithm, RFC 896, meets delayed acknowledgements, RFC 1122,
    4.2.3.2). Publishing takes 43 ms without this and 4 with it (measured).
    """
    with suppress(OSError):  # no socket, or closed meanwhile
        borrowed = socket.socket(fileno=descriptor)
        try:
            if borrowed.type == socket.SOCK_STREAM and borrowed.family in {socket.AF_INET, socket.AF_INET6}:
                borrowed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        finally:
            borrowed.detach()
