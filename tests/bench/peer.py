"""The peer: LiveKit Agents in a virtual environment of its own, at the same LiveKit server and Live endpoint."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from cluster.local.livekit_server import cache_dir
from cluster.local.stack import LOCAL_KEY
from tests.bench import linux
from tests.bench.system import PEER_NAME, PEER_NUMBER, System, clean_environ, own_process, until

VERSION: Final = "1.8.9"
_AGENT: Final = Path(__file__).with_name("peer_agent.py")
_IDLE, _TAKEN = b'"process initialized"', b'"received job request"'


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer with `idle` processes that wait for calls."""

    agent_name: ClassVar[str] = PEER_NAME
    number: ClassVar[str] = PEER_NUMBER
    pid: int
    idle: int
    log: Path

    async def until_warm(self) -> None:
        """So many processes are initialized and have no job yet, by the peer's own log."""

        async def warm() -> bool:
            said = self.log.read_bytes()
            return b'"registered worker"' in said and said.count(_IDLE) - said.count(_TAKEN) >= self.idle

        await until(warm)

    def call_processes(self) -> list[int]:
        """All of its processes but the one that talks to LiveKit."""
        return list(linux.children(self.pid))


@asynccontextmanager
async def running(system: System, idle: int, folder: Path, progress: Callable[[str], None]) -> AsyncIterator[Peer]:
    """Start the peer and stop it at the end. Its environment is `RINGMASTER_BENCH_PEER` (a Python), or is made."""
    python = os.environ.get("RINGMASTER_BENCH_PEER") or str(await _environment(progress))
    environ = clean_environ() | system.ready["environ"]
    environ |= {"GOOGLE_API_KEY": LOCAL_KEY, "PEER_IDLE": str(idle), "PEER_AGENT_NAME": PEER_NAME}
    path = folder / "peer.log"
    with path.open("wb") as log:
        async with own_process(python, str(_AGENT), "start", environ=environ, stdout=log, stderr=log) as process:
            peer = Peer(process.pid, idle, path)
            await peer.until_warm()
            yield peer


async def _environment(progress: Callable[[str], None]) -> Path:
    """The Python of an environment with the peer in it, made once."""
    folder = cache_dir() / f"livekit-agents-{VERSION}"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        progress(f"installing LiveKit Agents {VERSION}, to measure it beside")
        await _run(sys.executable, "-m", "venv", "--clear", str(folder))
        wanted = (f"livekit-agents=={VERSION}", f"livekit-plugins-google=={VERSION}")
        await _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
        made.touch()
    return python


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{' '.join(command)} failed; what it says is above")
