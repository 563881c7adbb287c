"""Whether two processes are configured the same, told without telling how. Pure."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, SecretStr


def fingerprint(settings: BaseModel) -> str:
    """64 hexadecimal digits that are the same for the same settings, secrets included, and for no others."""
    return sha256(json.dumps(settings.model_dump(), default=_plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
