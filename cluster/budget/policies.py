"""Which policy holds: the file's, or the one that was applied since. Every one that ever held stays in the database.

What was applied last holds, also after a restart, until the file itself is changed: whoever edits it wants it to count.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select

from cluster.budget.journal import Write
from cluster.budget.policy import NO_POLICY, Policy, load_policy
from cluster.budget.tables import policies
from cluster.errors import PolicyError

log = logging.getLogger(__name__)

_INSERT = insert(policies)


def read_policy(engine: Engine, file: Path | None, now: float) -> tuple[Policy, str]:
    """The policy that holds, and the SHA-256 of the file as it was read; `now` is UTC seconds.

    Raises `PolicyError` for a file that is wrong while nothing else has held before; else that goes on.
    """
    newest = _newest(engine)
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else ""
    if newest is not None and newest.file_sha256 == digest:
        return Policy.model_validate(newest.body), digest
    try:
        policy = NO_POLICY if file is None else load_policy(file)
    except PolicyError as error:
        if newest is None:
            raise
        log.error("the policy file is wrong, so the policy that held before still does: %s", error)  # noqa: TRY400 one line
        return Policy.model_validate(newest.body), newest.file_sha256
    with engine.begin() as connection:
        connection.execute(*applied(policy, digest, now))
    return policy, digest


def applied(policy: Policy, file_sha256: str, now: float) -> Write:
    """From `now` on (UTC seconds) this one holds, until the file is another than that."""
    return _INSERT, {"applied_at": now, "file_sha256": file_sha256, "body": policy.model_dump(mode="json")}


def _newest(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(policies).order_by(policies.c.number.desc()).limit(1)).one_or_none()
