"""Faults by the hundred in many calls at once."""
