"""Whether a control actor was made with the settings that hold."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from actors import names

RESTARTING = ActorUnavailableError("restarting", None)


class Actor:
    """A handle; `ray.get` gives what it said."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.fingerprint = self

    def remote(self) -> Any:
        """Ask."""
        return self.answers.pop(0)


def get(answer: str | Exception, *, timeout: float) -> str:
    """As `ray.get`."""
    assert 0 < timeout <= names.SAYS_WITHIN_S
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["abc"], "abc"),
        ([RESTARTING, RESTARTING, "abc"], "abc"),
        ([GetTimeoutError(), "abc"], "abc"),
        ([RESTARTING, ActorDiedError()], None),
    ],
)
def test_an_actor_that_restarts_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[str | Exception], found: str | None
) -> None:
    """A replica may come up with the new settings before the actor of the old ones is back."""
    monkeypatch.setattr(names, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr("ray.get", get)
    assert names._fingerprint_of(Actor(*answers)) == found


def test_who_does_not_say_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica, or the next deployment, asks again."""
    monkeypatch.setattr(names, "SAYS_WITHIN_S", 0.0)
    assert names._fingerprint_of(Actor()) is None
