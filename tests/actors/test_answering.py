"""What who asks a control actor is told when it fails, and what the log is told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from actors import answering
from actors.answering import ControlActor
from actors.budget_pool import BudgetPool
from actors.campaign_book import CampaignBook
from actors.records import Records
from cluster.dispatch.ports import ControlPlaneDown
from cluster.errors import PolicyError
from cluster.settings import Settings, load_settings
from tests.test_settings import REQUIRED

WORDS = "what a caller said"


class Clerk(ControlActor[None]):
    """Answers, or fails as it is told to."""

    failure: Exception | None = None

    async def ask(self, question: str, *, loudly: bool = False) -> str:
        """The question."""
        if self.failure is not None:
            raise self.failure
        return question.upper() if loudly else question

    async def _open(self) -> None:
        """It needs nothing."""

    def name(self) -> str:
        """No message of Ray's."""
        return "clerk"


@pytest.fixture
def clerk() -> Clerk:
    """One that answers."""
    return Clerk(load_settings(REQUIRED))


async def test_what_it_answers_is_what_is_heard(clerk: Clerk) -> None:
    """As if nothing were between."""
    assert (await clerk.ask("so"), await clerk.ask("so", loudly=True), clerk.name()) == ("so", "SO", "clerk")
    assert Clerk.ask.__doc__ == "The question."


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (KeyError(WORDS), "Clerk.ask can't answer: KeyError: in "),
        (PolicyError("policy.yaml:3: no such tenant"), "Clerk.ask can't answer: PolicyError: policy.yaml:3: no such"),
    ],
)
async def test_whatever_fails_is_no_answer_yet(
    clerk: Clerk, failure: Exception, told: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is logged, though not with each heartbeat, nor with what a library has put into its text."""
    clerk.failure = failure
    for _ in range(3):
        with pytest.raises(ControlPlaneDown, match=type(failure).__name__):
            await clerk.ask("so")
    (record,) = caplog.records
    assert record.getMessage().startswith(told)
    assert (record.levelno, WORDS in caplog.text) == (logging.ERROR, False)
    monkeypatch.setattr(answering, "TELL_EVERY_S", 0.0)
    with pytest.raises(ControlPlaneDown):
        await clerk.ask("so")
    assert len(caplog.records) == 2


async def test_an_actor_that_has_heard_it_of_another_one_says_the_same(
    clerk: Clerk, caplog: pytest.LogCaptureFixture
) -> None:
    """Which has logged it."""
    clerk.failure = ControlPlaneDown("elsewhere")
    with pytest.raises(ControlPlaneDown, match="elsewhere"):
        await clerk.ask("so")
    assert caplog.records == []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a database that can't be opened."""
    (tmp_path / "own.db.lock").mkdir()
    return load_settings(REQUIRED | {"DATABASE_URL": f"sqlite:///{tmp_path}/own.db"})


async def test_the_control_actors_do_so_without_their_database(settings: Settings) -> None:
    """Until it is back."""
    pool, records, book = BudgetPool(settings), Records(settings), CampaignBook(settings)
    for asked in (pool.capacity, lambda: records.append([]), lambda: book.tally("spring")):
        with pytest.raises(ControlPlaneDown, match="StorageError"):
            await asked()
