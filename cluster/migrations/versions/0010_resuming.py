"""Why a campaign stopped may be any refusal's reason, and a contact knows which process found it in the file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """The next process finds every contact anew."""
    with op.batch_alter_table("campaigns") as campaigns:
        campaigns.alter_column("why", type_=sa.String(64), existing_type=sa.String(16), existing_nullable=False)
    op.add_column("campaign_contacts", sa.Column("listed_by", sa.String(64), nullable=False, server_default=""))
