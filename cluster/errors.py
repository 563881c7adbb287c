"""Errors that people see.

    RingmasterError            one line: what was wrong, where, what to do
      InputError               the person who typed it, wrote it or set it can mend it; the CLI exits with 2
        SettingsError          an environment variable
        ProfileError           a profile file
        ModelError             the table of models
        CampaignError          a campaign's file; ContactsError, what it calls
        ManifestError          the manifest of a cluster on KubeRay
        PriceError             the table of prices
        PolicyError            the operator's policy file

An error holds no personal data and no credential: its text reaches logs and screens.
"""

from __future__ import annotations


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


class ManifestError(InputError):
    """The manifest of a cluster on KubeRay would cut calls off; each line of the message starts with `file:line:`."""


class PriceError(InputError):
    """The table of prices is malformed, each line of the message starting with `file:line:`, or lacks a price."""


class PolicyError(InputError):
    """One or more problems in the policy file; each line of the message starts with `file:line:`."""
