"""Two processes that are configured the same have the same fingerprint, and others have not."""

from __future__ import annotations

import pickle

from cluster.fingerprint import fingerprint
from cluster.settings import load_settings

ENVIRON = {"LIVEKIT_URL": "ws://x", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s", "GEMINI_API_KEY": "g"}


def test_it_is_the_same_in_another_process() -> None:
    """Where the settings come from the same environment, or were handed over."""
    settings = load_settings(ENVIRON)
    handed_over = pickle.loads(pickle.dumps(settings))  # noqa: S301 - as Ray hands it over
    assert fingerprint(settings) == fingerprint(load_settings(ENVIRON)) == fingerprint(handed_over)


def test_every_setting_counts_that_an_actor_works_by() -> None:
    """A secret, a number, a folder; not how a process got into the cluster."""
    assert fingerprint(load_settings(ENVIRON | {"RINGMASTER_RAY_ADDRESS": "auto"})) == fingerprint(
        load_settings(ENVIRON)
    )
    changes = ({"LIVEKIT_API_SECRET": "t"}, {"RINGMASTER_MAX_CALLS": "3"}, {"RINGMASTER_STATE_DIR": "/elsewhere"})
    assert len({fingerprint(load_settings(ENVIRON | change)) for change in ({}, *changes)}) == 4
