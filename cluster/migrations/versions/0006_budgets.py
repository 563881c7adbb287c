"""What was spent of a budget is looked for by the time of admission."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """One index for another."""
    op.drop_index("leases_of_day", "leases")
    op.create_index("leases_granted", "leases", ["granted_at"])
