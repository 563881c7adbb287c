"""`ringmaster up`: it says in one line why it can't, and reports no success where nothing would work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import serve

from actors import names, up
from cluster.dispatch.ports import ControlPlaneDown
from cluster.errors import PolicyError, PriceError, ProfileError, RingmasterError, SettingsError
from cluster.settings import Settings, load_settings
from tests.test_settings import REQUIRED


class Pool:
    """A handle of `BudgetPool`; `ray.get` gives what it said."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.capacity = self

    def remote(self) -> int | Exception:
        """Ask; the last answer is the one for good."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def get(answer: int | Exception, *, timeout: float) -> int:
    """As `ray.get`."""
    assert timeout > 0
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was started, of which nothing is."""
    found: list[str] = []
    for module, name in ((names, "connect"), (names, "ensure_control_plane"), (serve, "start"), (serve, "run")):
        monkeypatch.setattr(module, name, lambda *_, _name=name, **__: found.append(_name))
    monkeypatch.setattr(names, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr("ray.get", get)
    return found


def settings(**environ: str) -> Settings:
    """Those that are needed, and these."""
    return load_settings(REQUIRED | environ)


@pytest.mark.parametrize(
    ("variable", "error", "said"),
    [
        ("RINGMASTER_PRICES_FILE", PriceError, r"wrong\.yaml:1: "),
        ("RINGMASTER_POLICY_FILE", PolicyError, r"wrong\.yaml:1: "),
        ("RINGMASTER_PROFILES_DIR", ProfileError, r"wrong\.yaml:1: "),
        ("RINGMASTER_PARKED", SettingsError, "the profile 'nobody', which does not exist"),
    ],
)
def test_what_is_configured_wrong_is_told_before_anything_is_started(
    tmp_path: Path, started: list[str], variable: str, error: type[Exception], said: str
) -> None:
    """With the file and the line; an actor would tell only its log."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("odd: 1\n")
    value = {"RINGMASTER_PROFILES_DIR": str(tmp_path), "RINGMASTER_PARKED": "nobody=1"}.get(variable, str(wrong))
    with pytest.raises(error, match=said):
        up.start(settings(**{variable: value}))
    assert started == []


def test_it_is_up_when_budget_pool_answers(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may take it a moment."""
    pool = Pool(ControlPlaneDown("StorageError"), ControlPlaneDown("StorageError"), 8)
    monkeypatch.setattr(names, "budget_pool", lambda: pool)
    assert up.start(settings()) == "http://127.0.0.1:8080"
    assert started == ["connect", "ensure_control_plane", "start", "run"]


def test_without_budget_pool_it_is_not_up(started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However well everything else was deployed."""
    monkeypatch.setattr(up, "ANSWERS_WITHIN_S", 0.05)
    monkeypatch.setattr(names, "budget_pool", lambda: Pool(ControlPlaneDown("StorageError")))
    with pytest.raises(RingmasterError, match="the database that DATABASE_URL names can't be opened"):
        up.start(settings())
    assert "run" in started


def test_an_application_that_can_not_be_deployed_is_one_line(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of the many that Serve has, without what is secret in it."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Deploying application failed: Error:\nTraceback\n  File x\nValueError: rm_0123abcd_key\n")

    monkeypatch.setattr(serve, "run", fail)
    with pytest.raises(RingmasterError) as error:
        up.start(settings())
    assert str(error.value).startswith("the application can't be deployed: ValueError: [removed]; ")
    assert started[:2] == ["connect", "ensure_control_plane"]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; Ray itself would try for minutes, and then show a traceback."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(RingmasterError, match=f"no cluster at {address} .*set RINGMASTER_RAY_ADDRESS"):
        names.connect(settings(RINGMASTER_RAY_ADDRESS=address))
