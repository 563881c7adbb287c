"""The policies that held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "policies",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("applied_at", sa.Float(53), nullable=False),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
