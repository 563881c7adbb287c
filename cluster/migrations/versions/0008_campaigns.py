"""Campaigns, their contacts and their attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "campaigns",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("why", sa.String(16), nullable=False),
        sa.Column("driver", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "campaign_contacts",
        sa.Column("campaign", sa.String(40), primary_key=True),
        sa.Column("contact", sa.String(24), primary_key=True),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("number", sa.String(16), nullable=False),
        sa.Column("zones", sa.JSON, nullable=False),
        sa.Column("context", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.Float(53), nullable=False),
        sa.Column("outcomes", sa.JSON, nullable=False),
    )
    op.create_index("campaign_contacts_due", "campaign_contacts", ["campaign", "state", "due_at"])
    op.create_table(
        "campaign_attempts",
        sa.Column("attempt", sa.String(128), primary_key=True),
        sa.Column("campaign", sa.String(40), nullable=False, index=True),
        sa.Column("contact", sa.String(24), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("begun_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("outcome", sa.String(96)),
        sa.Column("talk_s", sa.Float(53), nullable=False),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
    )
