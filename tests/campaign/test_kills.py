"""A small one of `python -m tests.campaign.kills`."""

from __future__ import annotations

from pathlib import Path

from tests.campaign import kills


async def test_job_and_budget_pool_are_killed(tmp_path: Path) -> None:
    """Nobody is called twice, and nobody is lost."""
    (tmp_path / "c").mkdir()
    wrong, happened = await kills.run(f"sqlite:///{tmp_path}/a.db", tmp_path / "c", contacts=30, kills=3)
    assert wrong == []
    assert happened["calls"] + happened["parked"] >= 30
    assert happened["job killed"] == happened["BudgetPool killed"] > 0
