"""Telephony: numbers, and what the outcomes of dialling mean."""
