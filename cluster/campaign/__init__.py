"""Campaigns: contacts, calling hours, pacing, retries."""
