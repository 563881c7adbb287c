"""The commands that need Ray: what the doctor says of a cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors import cli, drain
from actors.cli import check_ray
from cluster.cli import app
from cluster.errors import InputError
from cluster.settings import Settings, load_settings
from tests.test_settings import REQUIRED

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of somebody's own, in whose configuration the niceness was forgotten."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    environ = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    environ.pop("RAY_worker_niceness", None)
    folder = tempfile.TemporaryDirectory(prefix="ray-")  # a test's own folder is too deep for Ray's sockets
    head = subprocess.Popen(
        [
            RAY, "start", "--head", "--block", "--port=0", "--node-ip-address=127.0.0.1", "--num-cpus=1",
            "--include-dashboard=false", '--resources={"control": 1, "call_slot": 3}', f"--temp-dir={folder.name}",
        ],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert head.stdout is not None
    yield next(found[1] for line in head.stdout if (found := re.search(r"ray start --address='([\d.:]+)'", line)))
    head.terminate()
    head.wait()
    head.stdout.close()
    folder.cleanup()


async def test_a_cluster_that_would_make_calls_stutter_is_found(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's default priority for workers is the lowest, which no call survives beside a busy process."""
    monkeypatch.setattr(cli, "CLUSTER_ANSWERS_WITHIN_S", 120.0)  # nor does a quick answer
    check = await check_ray(load_settings(REQUIRED | {"RINGMASTER_RAY_ADDRESS": cluster}))
    assert check.ok is False
    assert "niceness 15" in check.detail
    assert "RAY_worker_niceness=0" in check.fix


async def test_a_cluster_that_is_not_there_is_found_at_once() -> None:
    """Ray itself would try for minutes."""
    check = await check_ray(load_settings(REQUIRED | {"RINGMASTER_RAY_ADDRESS": "127.0.0.1:9"}))
    assert check.ok is False
    assert "no cluster at 127.0.0.1:9" in check.detail


@pytest.mark.parametrize(
    ("resources", "niceness", "ok", "detail"),
    [
        ({"control": 1.0, "call_slot": 8.0}, 0, True, "room for 8 calls"),
        ({"call_slot": 8.0}, 0, False, "has control"),
        ({"CPU": 4.0}, 0, False, "has control or call_slot"),
        ({"control": 1.0, "call_slot": 8.0}, 15, False, "niceness 15"),
    ],
)
def test_what_a_cluster_needs(resources: dict[str, float], niceness: int, ok: bool, detail: str) -> None:  # noqa: FBT001
    """Both resources, and workers at full priority."""
    check = cli._judge("head:6379", resources, niceness)
    assert check.ok is ok
    assert detail in check.detail


def test_the_doctor_exits_with_1_where_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows what to do."""
    for name in REQUIRED:
        monkeypatch.delenv(name, raising=False)
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "LIVEKIT_URL is not set" in result.output
    assert "set the environment variables that are named" in result.output


@pytest.mark.parametrize(
    "command", ["up", "demo", "call", "calls", "hangup", "doctor", "drain", "key", "settings", "version"]
)
def test_every_command_explains_itself(command: str) -> None:
    """`--help` costs no connection and no settings."""
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "address", "said"),
    [
        (["all"], "", "there is no cluster to drain; set RINGMASTER_RAY_ADDRESS"),
        (["a-node", "--off"], "127.0.0.1:9", "a node that drains does not come back"),
    ],
)
def test_what_can_not_be_drained_is_refused(
    arguments: list[str], address: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 2 and one line, before any cluster is asked."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, text in (REQUIRED | {"RINGMASTER_RAY_ADDRESS": address}).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr("sys.argv", ["ringmaster", "drain", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_draining_goes_to_the_budget_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call node by its name, and all calls."""
    asked: list[tuple[str, object]] = []

    def answer(_settings: Settings, method: str, argument: object) -> bool:
        asked.append((method, argument))
        return argument != "nowhere"

    monkeypatch.setattr(drain, "_ask", answer)
    for name, text in (REQUIRED | {"RINGMASTER_RAY_ADDRESS": "127.0.0.1:9"}).items():
        monkeypatch.setenv(name, text)
    runner = CliRunner()
    assert "and ends with its last one" in runner.invoke(app, ["drain", "worker-1"]).output
    assert "no new calls are taken" in runner.invoke(app, ["drain", "all"]).output
    assert "taken again" in runner.invoke(app, ["drain", "all", "--off"]).output
    assert isinstance(runner.invoke(app, ["drain", "nowhere"]).exception, InputError)
    assert asked == [("drain_node", "worker-1"), ("drain", True), ("drain", False), ("drain_node", "nowhere")]
