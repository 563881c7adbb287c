"""Tests of the actors, as plain objects."""
