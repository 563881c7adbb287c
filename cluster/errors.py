"""Errors that people see, and errors that end a call.

    RingmasterError            one line: what was wrong, where, what to do
      InputError               the person who typed it, wrote it or set it can mend it; the CLI exits with 2
        SettingsError          an environment variable
        ProfileError           a profile file
        ModelError             the table of models
      CallError                ends a call, and says itself with which `Outcome`

An error holds no personal data and no credential: its text reaches logs and screens.
"""

from __future__ import annotations

from typing import ClassVar

from cluster.outcome import UNKNOWN, Outcome


class RingmasterError(Exception):
    """The message is one line for a person: what was wrong, where, and what to do."""


class InputError(RingmasterError):
    """Something that a person gave is wrong, and the message says how to put it right."""


class SettingsError(InputError):
    """An environment variable is missing, malformed or unknown."""


class ProfileError(InputError):
    """One or more problems in profiles; each line of the message starts with `file:line:`."""


class ModelError(InputError):
    """The table of models is malformed; the message starts with `file:line:`."""


class CallError(RingmasterError):
    """Ends a call. What nobody can attribute counts as ours, so that it is seen."""

    outcome: ClassVar[Outcome] = UNKNOWN
