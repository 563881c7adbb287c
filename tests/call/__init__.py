"""Tests of one phone call."""
