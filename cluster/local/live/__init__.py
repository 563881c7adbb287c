"""A local Gemini Live service that speaks the real protocol with real speech, for demonstrations, tests and benches."""

from cluster.local.live.endpoint import LiveEndpoint

__all__ = ["LiveEndpoint"]
