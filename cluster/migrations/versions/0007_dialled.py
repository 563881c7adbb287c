"""A lease knows whether its call may have rung a phone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Of a call that was open meanwhile nobody knows, so it is not dialled again."""
    op.add_column("leases", sa.Column("dialled", sa.Boolean, nullable=False, server_default=sa.true()))
