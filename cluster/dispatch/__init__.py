"""Requests for calls: the HTTP API, LiveKit's worker protocol and webhooks."""
