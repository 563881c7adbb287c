"""Fixtures of all tests, of which each area keeps its own in tests/fixtures; and which tests run beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

pytest_plugins = [
    "tests.fixtures.campaign",
    "tests.fixtures.databases",
    "tests.fixtures.local",
    "tests.fixtures.web_service",
]

TESTS: Final = Path(__file__).parent
WHOLE_SYSTEMS: Final = frozenset({"chaos", "e2e", "kills"})


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` has two processes: a file's tests share one, and so do all that start a whole system.

    Those come first, since they take the longest; two systems at once would be more than two cores can do in time.
    """

    def group(item: pytest.Item) -> str:
        within = item.path.relative_to(TESTS)
        return "whole systems" if within.parts[0] in WHOLE_SYSTEMS else str(within)

    items.sort(key=lambda item: group(item) != "whole systems")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
