"""livekit-server on this machine: found or built once, then run as a process of its own on loopback.

The configuration is that of the measurements in which LiveKit and the rtc SDK were run on one machine: one UDP port for
all media and the loopback interface alone, since nothing outside this machine takes part.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import aiohttp
import yaml

MODULE: Final = "github.com/livekit/livekit-server/cmd/server@v1.11.0"
_START_WITHIN_S: Final = 20.0
_POLL_EVERY_S: Final = 0.02
_PORT_TRIES: Final = 3
_TAIL_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_PACKAGES_PER_LINE: Final = 100


class LivekitServerError(RuntimeError):
    """livekit-server could not be built or did not start; the message says why and what to do."""


def cache_dir() -> Path:
    """Where built binaries are kept: RINGMASTER_CACHE_DIR, else ~/.cache/ringmaster."""
    configured = os.environ.get("RINGMASTER_CACHE_DIR")
    return Path(configured) if configured else Path.home() / ".cache" / "ringmaster"


def ensure_binary(progress: Callable[[str], None]) -> Path:
    """The path of livekit-server: on PATH, in the cache, or else built into the cache, which takes about two minutes.

    Safe in several processes at once: one builds, the others wait for it. Raises LivekitServerError.
    """
    on_path = shutil.which("livekit-server")
    if on_path:
        return Path(on_path)
    cached = cache_dir() / "bin" / "livekit-server"
    if cached.exists():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with (cached.parent / "livekit-server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that is building livekit-server")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not cached.exists():
            _build(cached, progress)
    return cached


def _build(target: Path, progress: Callable[[str], None]) -> None:
    go = shutil.which("go")
    if go is None:
        raise LivekitServerError(
            "livekit-server is neither on PATH nor built yet, and Go is missing: install either, or set LIVEKIT_URL"
        )
    progress("building livekit-server, once, for about two minutes")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [go, "install", "-v", MODULE]
        with subprocess.Popen(  # noqa: S603 - a fixed command
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "GOBIN": folder}
        ) as build:
            lines = _reported(build, progress)
        if build.returncode != 0:
            message = f"go install {MODULE} failed with code {build.returncode}:\n" + "\n".join(lines[-_TAIL_LINES:])
            raise LivekitServerError(message)
        # Another process may run the file at any moment, so it must appear whole.
        (Path(folder) / "server").replace(target)
    progress("livekit-server is built")


def _reported(build: subprocess.Popen[str], progress: Callable[[str], None]) -> list[str]:
    lines: list[str] = []
    for line in build.stdout or ():
        lines.append(line.rstrip())
        if len(lines) % _PACKAGES_PER_LINE == 0:
            progress(f"building livekit-server: {len(lines)} packages")
    return lines


class LivekitServer:
    """One livekit-server process; ``async with`` starts it and waits until it answers, then stops it by its pid.

    ``webhook_url`` gets LiveKit's signed events. ``node_ip`` is the address to listen on and the one given to rtc
    clients: loopback needs no network at all, but a machine whose packet filter drops what comes to loopback from
    elsewhere (a kubelet's does) needs its own.
    Raises LivekitServerError with the end of the log if it does not start.
    """

    def __init__(self, binary: Path, webhook_url: str | None = None, node_ip: str = "127.0.0.1") -> None:
        self.api_key = f"API{secrets.token_hex(6)}"
        self.api_secret = secrets.token_urlsafe(32)
        self.port = 0
        self._binary = binary
        self._webhook_url = webhook_url
        self._node_ip = node_ip
        self._folder = tempfile.TemporaryDirectory(prefix="livekit-server-")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """``ws://<node_ip>:<port>``, for clients and for the server APIs alike."""
        return f"ws://{self._node_ip}:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log; it goes with the scope."""
        return Path(self._folder.name) / "livekit-server.log"

    @property
    def pid(self) -> int:
        """Of the running process, 0 before it."""
        return self._process.pid if self._process else 0

    async def __aenter__(self) -> Self:
        for attempt in range(_PORT_TRIES):
            try:
                await self._start()
            except LivekitServerError as error:
                await self._stop()
                # A port that was free a moment ago may be somebody else's by now.
                if "address already in use" not in str(error) or attempt == _PORT_TRIES - 1:
                    self._folder.cleanup()
                    raise
            else:
                break
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        self._folder.cleanup()

    async def _start(self) -> None:
        self.port = _free_port(socket.SOCK_STREAM)
        config = Path(self._folder.name) / "livekit.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(self._config()), encoding="utf-8")
        with self.log.open("wb") as log:
            # In a session of its own: Ctrl-C is for the program that uses it, which still needs it to end its calls.
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "--config",
                config,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        try:
            async with asyncio.timeout(_START_WITHIN_S), aiohttp.ClientSession() as http:
                while not await self._answers(http):  # noqa: ASYNC110 - another process can't set an Event
                    await asyncio.sleep(_POLL_EVERY_S)
        except TimeoutError:
            raise self._failure(f"did not answer within {_START_WITHIN_S:.0f} s") from None

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        if self._process is None or self._process.returncode is not None:
            code = self._process.returncode if self._process else None
            raise self._failure(f"ended with code {code} before it answered")
        with suppress(aiohttp.ClientConnectionError):
            async with http.get(f"http://{self._node_ip}:{self.port}/") as response:
                return response.ok
        return False

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        # Asked politely it waits for its rooms to empty, and nothing in it outlives it that would be worth that.
        process.kill()
        await process.wait()

    def _failure(self, what: str) -> LivekitServerError:
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return LivekitServerError("\n".join((f"livekit-server {what}; the end of its log:", *tail)))

    def _config(self) -> dict[str, object]:
        media: dict[str, object] = {
            "udp_port": _free_port(socket.SOCK_DGRAM),
            "tcp_port": 0,
            "node_ip": self._node_ip,
            "use_external_ip": False,
            # Else the server hands out public STUN servers by name, and offline every client then starts resolver
            # threads for ever: half a core for 12 rooms. Nobody listens here, and nobody needs to.
            "stun_servers": ["127.0.0.1:9"],
        }
        if self._node_ip == "127.0.0.1":
            media |= {"enable_loopback_candidate": True, "interfaces": {"includes": ["lo"]}}
        else:
            # Else it gives out `node_ip` for every address that it has, and listens for a client on another one.
            media["ips"] = {"includes": [f"{self._node_ip}/32"]}
        config: dict[str, object] = {
            "port": self.port,
            "bind_addresses": [self._node_ip],
            "rtc": media,
            "keys": {self.api_key: self.api_secret},
            "logging": {"level": "info", "json": True},
        }
        if self._webhook_url:
            # It sends a room's webhooks one by one, each when the one before is answered: none comes in the way.
            only = {"include_events": ["participant_joined"]}
            config["webhook"] = {"api_key": self.api_key, "urls": [self._webhook_url], "filter_params": only}
        return config


def die_with_parent() -> None:
    """For `preexec_fn`, between fork and exec: a program that was killed leaves no process behind (Linux only)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
