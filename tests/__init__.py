"""Mirrors the tree; `tests/e2e` runs the whole system."""
