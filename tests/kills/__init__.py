"""Processes that are killed while people talk, and what the people notice of it."""
