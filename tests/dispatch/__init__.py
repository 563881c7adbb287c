"""Tests of the HTTP API, LiveKit's worker protocol and webhooks."""
