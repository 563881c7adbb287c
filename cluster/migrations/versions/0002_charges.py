"""A call's cost by kind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Calls that ended before have none."""
    op.add_column("calls", sa.Column("charges_usd_micros", sa.JSON))
