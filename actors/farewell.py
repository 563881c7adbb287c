"""A Ray task that says a call's last words; a process of its own, since every call actor is taken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.messages import CallRequest
    from cluster.settings import Settings


def say_farewell(settings: Settings, request: CallRequest) -> None:
    """Tell the caller that nobody can talk to them. Raises what `cluster.call.farewell.farewell` does."""
    from cluster.call.farewell import farewell
    from cluster.models import load_models
    from cluster.profiles import load_profiles

    profile = load_profiles(settings.profiles_dir, load_models()).get(request.profile)
    asyncio.run(farewell(settings.livekit, request, profile.unavailable_sentence if profile else None))
