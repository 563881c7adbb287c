"""The command line: against the real HTTP API over a socket, and the real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner, Result

from cluster import __version__
from cluster.cli import app, run
from cluster.dispatch.api import build_api
from cluster.dispatch.inbound import Inbound
from cluster.errors import PolicyError, PriceError
from cluster.messages import Admission, CallRequest
from cluster.outcome import BUSY
from cluster.records.history import History
from cluster.records.store import RecordStore
from cluster.settings import PRICES
from cluster.storage import open_engine, upgrade
from tests.dispatch.conftest import PROFILES
from tests.dispatch.doubles import ADMIN_KEY, KEY, HistoryPort, PoolDouble, RoomsDouble
from tests.dispatch.test_api import make_front
from tests.records.examples import CALLER, START, a_record, a_request, an_event


class WatchedPool(PoolDouble):
    """A pool that tells when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = asyncio.Event()

    async def admit(self, request: CallRequest) -> Admission:
        """Yes."""
        admission = await super().admit(request)
        self.was_asked.set()
        return admission


class Served:
    """The API on a port of its own, and the command line in a thread."""

    def __init__(self, url: str, pool: WatchedPool, history: History) -> None:
        self.url = url
        self.pool = pool
        self.history = history

    async def ringmaster(self, *arguments: str, key: str = KEY) -> Result:
        """Run a command against it."""
        environ = {"RINGMASTER_URL": self.url, "RINGMASTER_API_KEY": key, "COLUMNS": "200"}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environ)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A running API with a real history."""
    engine = open_engine(f"sqlite:///{tmp_path}/ringmaster.db")
    upgrade(engine)
    history, pool, rooms = History(RecordStore(engine)), WatchedPool(), RoomsDouble()
    port = HistoryPort(history)
    inbound = Inbound(pool, port, rooms, default_profile="receptionist", profiles=PROFILES)
    api = build_api(make_front(pool, port, rooms, inbound))
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    url = "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    yield Served(url, pool, history)
    server.should_exit = True
    await serving
    await history.close()
    engine.dispose()


async def end_when_admitted(served: Served, **changes: Any) -> None:
    """Play one call: it rings, it is answered, a word is said, it ends."""
    await served.pool.was_asked.wait()
    (request,) = served.pool.asked
    call_id = request.call_id
    await served.history.begin(request, START)
    happened = [
        an_event("leg", 0.5, call_id, state="ringing"),
        an_event("leg", 2.0, call_id, state="answered"),
        an_event("line", 3.0, call_id, who="agent", text="Hello, Ana.", heard=True),
    ]
    await served.history.append(happened)
    served.pool.live.clear()
    await served.history.finish(a_record(call_id, request_id=request.request_id, **changes))


async def test_a_call_is_shown_until_it_ends(served: Served) -> None:
    """The call is placed as asked, each step is a line, and the end is a row of the table."""
    playing = asyncio.create_task(end_when_admitted(served))
    result = await served.ringmaster(
        "call", CALLER, "--profile", "reminder", "--context", "name=Ana", "--context", "when=at nine=sharp",
        "--max-cost-usd", "0.50", "--from", "+15559870002",
    )  # fmt: skip
    await playing
    assert result.exit_code == 0, result.output
    (request,) = served.pool.asked
    assert request.context == {"name": "Ana", "when": "at nine=sharp"}
    assert request.max_cost_usd_micros == 500_000
    assert "ringing" in result.output
    assert "agent: Hello, Ana." in result.output
    assert "success/agent-ended" in result.output


async def test_a_call_that_fails_says_so_to_programs(served: Served) -> None:
    """With --json each event and the call are a line each, and the exit code is 1."""
    playing = asyncio.create_task(end_when_admitted(served, outcome=BUSY))
    result = await served.ringmaster("call", CALLER, "--profile", "reminder", "--json")
    await playing
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["kind"] for line in lines[:-1]] == ["leg", "leg", "line", "ended"]
    assert lines[-1]["outcome"]["reason"] == "busy"


async def test_the_same_key_is_the_same_call(served: Served) -> None:
    """--no-wait gives the id at once; --idempotency-key reaches admission."""
    for _ in range(2):
        result = await served.ringmaster(
            "call", CALLER, "--profile", "reminder", "--no-wait", "--idempotency-key", "k1", "--json"
        )
        assert json.loads(result.stdout)["state"] == "starting"
    assert {request.request_id for request in served.pool.asked} == {"k1"}


async def test_calls_are_listed_and_shown(served: Served) -> None:
    """A table of all, filtered by state; one call with its transcript and its times."""
    for call_id, outcome in (("call_1", None), ("call_2", BUSY)):
        await served.history.begin(a_request(call_id), START)
        if outcome:
            await served.history.finish(a_record(call_id, outcome=outcome))
    listed = await served.ringmaster("calls")
    assert "call_1" in listed.output
    assert "caller/busy" in listed.output
    assert "+*********01" in listed.output
    ended = await served.ringmaster("calls", "--state", "ended", "--json", key=ADMIN_KEY)
    assert [one["to"] for one in json.loads(ended.stdout)["calls"]] == [CALLER]
    shown = await served.ringmaster("calls", "call_2")
    assert "agent: Hello." in shown.output
    assert "join 60 ms" in shown.output


async def test_the_timeline_of_a_call(served: Served) -> None:
    """What happened and when; what was said only if asked for."""
    await served.history.begin(a_request(), START)
    await served.history.append([an_event("latency", name="turn", ms=612.0), an_event("leg", 2.5, state="answered")])
    await served.history.append([an_event("line", 3.0, who="caller", text="My secret.", heard=True)])
    shown = (await served.ringmaster("timeline", "call_1")).output
    assert "phone answered" in shown
    assert "612 ms" in shown
    assert "secret" not in shown
    assert "My secret." in (await served.ringmaster("timeline", "call_1", "--words")).output
    listed = json.loads((await served.ringmaster("timeline", "call_1", "--json")).output)["timeline"]
    assert [entry["layer"] for entry in listed] == ["speech", "sip", "speech"]


async def test_a_call_is_hung_up(served: Served) -> None:
    """The pool is told, once."""
    await served.pool.admit(a_request())
    result = await served.ringmaster("hangup", "call_1")
    assert "ending" in result.output
    assert served.pool.hung_up == ["call_1"]


@pytest.mark.parametrize(
    ("arguments", "key", "code", "message"),
    [
        (("call", "555", "--profile", "reminder"), KEY, 2, "The request is not valid"),
        (("call", CALLER, "--profile", "nobody"), KEY, 2, "there is no profile of this name"),
        (("call", CALLER, "--profile", "reminder", "--context", "name"), KEY, 2, "expected name=text"),
        (("calls",), "rm_0_wrong", 2, "RINGMASTER_API_KEY holds it"),
        (("calls", "--state", "odd"), KEY, 2, "state"),
        (("calls", "call_0"), KEY, 2, "there is no such call"),
        (("hangup", "call_0"), KEY, 2, "there is no such call"),
    ],
)
async def test_wrong_input_is_one_line(
    served: Served,
    arguments: tuple[str, ...],
    key: str,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the API refuses is told in its own words, with exit code 2 and no traceback."""
    monkeypatch.setenv("RINGMASTER_URL", served.url)
    monkeypatch.setenv("RINGMASTER_API_KEY", key)
    monkeypatch.setattr("sys.argv", ["ringmaster", *arguments])
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(run, app)
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_an_api_that_is_not_there_is_no_mistake_of_the_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, and where it was looked for."""
    monkeypatch.setattr("sys.argv", ["ringmaster", "calls", "--url", "http://127.0.0.1:9"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 1
    assert "no answer from http://127.0.0.1:9 (ConnectError)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "key", "said"),
    [
        (("calls",), "rm_1_clé", "RINGMASTER_API_KEY has a character that can't be sent"),
        (("call", CALLER, "--profile", "p", "--idempotency-key", "clé"), KEY, "the idempotency key has a character"),
        (("calls", "--url", "http://localhost:80a"), KEY, "'http://localhost:80a' is no URL"),
        (("calls", "--url", "localhost:8080"), KEY, "should be a URL that starts with http:// or https://"),
    ],
)
def test_what_can_not_be_sent_is_one_line(
    arguments: tuple[str, ...],
    key: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With exit code 2, and the key is not in it."""
    monkeypatch.setenv("RINGMASTER_API_KEY", key)
    monkeypatch.setattr("sys.argv", ["ringmaster", *arguments])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert key not in line


def test_a_policy_file_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right, or one line on what is wrong and exit code 2."""
    path = tmp_path / "policy.yaml"
    path.write_text("inbound_reserve: 2")
    assert CliRunner().invoke(app, ["policy", "check", str(path)]).output == f"{path} is right\n"
    path.write_text("inbound_reserve: many")
    monkeypatch.setattr("sys.argv", ["ringmaster", "policy", "check", str(path)])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path.name}/policy.yaml:1: inbound_reserve: ")


async def test_a_policy_is_applied_and_shown(served: Served, tmp_path: Path) -> None:
    """By the file, over the API."""
    path = tmp_path / "policy.yaml"
    path.write_text("inbound_reserve: 2")
    applied = await served.ringmaster("policy", "apply", str(path), key=ADMIN_KEY)
    assert (applied.exit_code, applied.output) == (0, f"{path} holds from now on\n")
    shown = await served.ringmaster("policy", "show", key=ADMIN_KEY)
    assert json.loads(shown.output)["inbound_reserve"] == 2
    path.write_text("inbound_reserve: -2")
    assert isinstance((await served.ringmaster("policy", "apply", str(path), key=ADMIN_KEY)).exception, PolicyError)


def test_keys_are_made_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is shown once; the list never holds its secret; a revoked key stays in the list."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/state/ringmaster.db")
    runner = CliRunner(env={"COLUMNS": "200"})
    made = json.loads(runner.invoke(app, ["key", "create", "--tenant", "acme", "--scope", "admin", "--json"]).stdout)
    key_id = made["key"].split("_")[1]
    listed = runner.invoke(app, ["key", "list"])
    assert key_id in listed.output
    assert made["key"] not in listed.output
    assert runner.invoke(app, ["key", "revoke", key_id]).exit_code == 0
    (row,) = json.loads(runner.invoke(app, ["key", "list", "--json"]).stdout)["keys"]
    assert (row["tenant"], row["scopes"]) == ("acme", ["admin"])
    assert row["revoked_at"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("key", "create", "--scope", "root"), "root; use one or more of admin, calls, campaigns"),
        (("key", "revoke", "0000"), "there is no key '0000' in use"),
    ],
)
def test_wrong_keys_are_one_line(
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scope or a key that does not exist ends with exit code 2."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/ringmaster.db")
    monkeypatch.setattr("sys.argv", ["ringmaster", *arguments])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_settings_and_the_version_are_shown() -> None:
    """Every variable with its meaning; the version as the package has it."""
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = json.loads(runner.invoke(app, ["settings", "--json"]).stdout)
    assert {"LIVEKIT_URL", "RINGMASTER_MAX_CALLS"} <= {row["name"] for row in listed}
    assert "Calls at once" in runner.invoke(app, ["settings"]).output
    assert runner.invoke(app, ["version"]).output.strip() == __version__


def test_a_table_of_prices_is_checked_before_it_is_used(tmp_path: Path) -> None:
    """What is in it, or the line that is wrong."""
    shipped = CliRunner().invoke(app, ["prices", "check", str(PRICES)])
    assert (shipped.exit_code, shipped.stdout) == (0, "prices.yaml: from 2026-10-09: 6 models\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("tables:\n- from: 2026-10-09\n  models: {m: 3}\n", encoding="utf-8")
    wrong = CliRunner().invoke(app, ["prices", "check", str(mine)])
    assert isinstance(wrong.exception, PriceError)
    assert "mine.yaml:3: tables.0.models.m" in str(wrong.exception)


@pytest.mark.parametrize("value", ["2026-02-30", "!!int soon", "!!bool soon", "!!timestamp soon", "!!int ''"])
def test_a_value_that_only_looks_like_one_is_pointed_at(tmp_path: Path, value: str) -> None:
    """With its line, as everything that is wrong in a file."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"tables:\n- models: {{}}\n  from: {value}\n", encoding="utf-8")
    wrong = CliRunner().invoke(app, ["prices", "check", str(mine)])
    assert isinstance(wrong.exception, PriceError)
    assert "mine.yaml:3: not YAML: " in str(wrong.exception)


def test_an_empty_ledger_has_no_problems(tmp_path: Path) -> None:
    """It is examined in the database that DATABASE_URL names."""
    environ = {"DATABASE_URL": f"sqlite:///{tmp_path}/ringmaster.db", "COLUMNS": "200"}
    found = CliRunner().invoke(app, ["ledger", "check"], env=environ)
    assert found.exit_code == 0
    assert found.stdout == "0 leases, 0 entries, 0 debits, 0 credits in micro-dollars: 0 problems\n"
