"""The queue: calls that wait to start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create its table."""
    op.create_table(
        "waiting",
        sa.Column("call_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.Column("waits_for", sa.String(64), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
    )
