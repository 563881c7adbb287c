"""Whether two actors are configured the same, told without telling how. Pure."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final

from pydantic import BaseModel, SecretStr

NOT_THEIRS: Final = {"http", "ray"}
"""How people reach the API and processes reach the cluster, which may differ from process to process."""


def fingerprint(settings: BaseModel) -> str:
    """64 hexadecimal digits that are the same for the same settings, secrets included, and for no others."""
    theirs = settings.model_dump(exclude=NOT_THEIRS)
    return sha256(json.dumps(theirs, default=_plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
