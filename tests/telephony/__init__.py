"""Tests of numbers and outcomes."""
