"""livekit-server as a process: found or built, started, stopped, and explained when it fails."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from pathlib import Path

import aiohttp
import pytest
from livekit import api

from cluster.local.livekit_server import LivekitServer, LivekitServerError, ensure_binary

GO = """#!/bin/sh
echo "compiling" "$@"
echo run >> "$GO_RUNS"
[ "$GO_FAILS" ] && exit 1
sleep 0.2
printf '#!/bin/sh\\n' > "$GOBIN/server"
chmod +x "$GOBIN/server"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose PATH has only a stand-in for Go, since the real build takes two minutes."""
    tools = tmp_path / "tools"
    tools.mkdir()
    _script(tools / "go", GO)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("GO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RINGMASTER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_binary_on_path_is_used(machine: Path) -> None:
    """What is installed goes before what would have to be built."""
    _script(machine / "tools" / "livekit-server", "#!/bin/sh\n")
    assert ensure_binary(print) == machine / "tools" / "livekit-server"


def test_binary_is_built_once_even_by_two_at_a_time(machine: Path) -> None:
    """One builds, the other waits, and both get the same whole file."""
    lines: list[str] = []
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_binary(lines.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [machine / "cache" / "bin" / "livekit-server"] * 2
    assert os.access(found[0], os.X_OK)
    assert (machine / "runs").read_text(encoding="utf-8").count("run") == 1
    assert "livekit-server is built" in lines
    assert ensure_binary(print) == found[0]


def test_failed_build_shows_the_compilers_words(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has what Go said, and no file is left that looks like a binary."""
    monkeypatch.setenv("GO_FAILS", "1")
    with pytest.raises(LivekitServerError, match=r"failed with code 1:\ncompiling install"):
        ensure_binary(print)
    assert not (machine / "cache" / "bin" / "livekit-server").exists()


def test_without_go_the_error_says_what_to_do(machine: Path) -> None:
    """No binary and no Go: three ways out are named."""
    (machine / "tools" / "go").unlink()
    with pytest.raises(LivekitServerError, match="Go is missing: install either, or set LIVEKIT_URL"):
        ensure_binary(print)


async def test_server_answers_with_its_keys_and_is_stopped_by_its_pid() -> None:
    """It is ready when the scope is entered, knows its keys, and is gone when the scope is left."""
    async with LivekitServer(ensure_binary(print)) as server:
        pid = server.pid
        assert len(server.api_secret) >= 32
        assert server.api_secret not in _command_line(pid)
        async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
            await livekit.room.create_room(api.CreateRoomRequest(name="one"))
            rooms = await livekit.room.list_rooms(api.ListRoomsRequest())
        assert [room.name for room in rooms.rooms] == ["one"]
    assert _command_line(pid) == ""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(server.url.replace("ws", "http"))


async def test_server_does_not_outlive_a_killed_program() -> None:
    """Where its program can't stop it any more, the kernel does."""
    program = (
        "import asyncio\n"
        "from cluster.local.livekit_server import LivekitServer, ensure_binary\n"
        "async def main():\n"
        "    async with LivekitServer(ensure_binary(print)) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert "livekit-server" in _command_line(pid)
    process.kill()
    await process.wait()
    async with asyncio.timeout(5):
        while _command_line(pid):  # noqa: ASYNC110 - the kernel sets no Event
            await asyncio.sleep(0.01)


def _command_line(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline")
    return line.read_text(encoding="utf-8") if line.exists() else ""


async def test_server_that_ends_at_once_is_explained_by_its_log(tmp_path: Path) -> None:
    """The end of its log is in the error."""
    broken = tmp_path / "livekit-server"
    _script(broken, "#!/bin/sh\necho could not parse config >&2\nexit 3\n")
    with pytest.raises(LivekitServerError, match=r"ended with code 3 before it answered(?s:.*)could not parse config"):
        async with LivekitServer(broken):
            pass
