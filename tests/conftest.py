"""Fixtures of all tests, of which each area keeps its own in tests/fixtures; and which tests run beside each other."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = [
    "tests.fixtures.campaign",
    "tests.fixtures.databases",
    "tests.fixtures.local",
    "tests.fixtures.web_service",
]

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

WHOLE_SYSTEMS: Final = ("tests/chaos/", "tests/e2e/", "tests/kills/")
"""Two of them at once are more than two cores can do in time."""


class Lanes(LoadScopeScheduling):
    """How `make test` shares the tests out to its processes."""

    def _split_scope(self, nodeid: str) -> str:
        """A file's tests stay together, for the parts they share, and so do all that start a whole system."""
        return "whole systems" if nodeid.startswith(WHOLE_SYSTEMS) else nodeid.split("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Of pytest-xdist."""
    return Lanes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the longest comes first."""
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE_SYSTEMS))
