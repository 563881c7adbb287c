"""The embedded stack: livekit-server, a Live endpoint and a carrier. Production code does not know that it is there."""
