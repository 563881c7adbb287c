"""Fixtures of all tests; each area keeps its own in tests/fixtures."""

pytest_plugins = [
    "tests.fixtures.campaign",
    "tests.fixtures.databases",
    "tests.fixtures.local",
    "tests.fixtures.web_service",
]
