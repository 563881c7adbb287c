"""The first tables: the history, admission and money, API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    _history()
    _money()
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("revoked_at", sa.Float(53)),
    )


def _history() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.String(255), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("room", sa.Text, nullable=False),
        sa.Column("to_number", sa.Text, nullable=False),
        sa.Column("from_number", sa.Text, nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("result", sa.String(16)),
        sa.Column("reason", sa.String(64)),
        sa.Column("detail", sa.Text),
        sa.Column("model", sa.String(64)),
        sa.Column("slot", sa.String(64)),
        sa.Column("node", sa.String(64)),
        sa.Column("answered_s", sa.Float(53)),
        sa.Column("duration_s", sa.Float(53)),
        sa.Column("talk_s", sa.Float(53)),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("usage", sa.JSON),
        sa.Column("timings_ms", sa.JSON),
        sa.Column("quality", sa.JSON),
        sa.Column("transcript", sa.JSON),
        sa.Column("recording_url", sa.Text),
    )
    op.create_index("calls_of_tenant", "calls", ["tenant", "started_at"])
    op.create_table(
        "call_events",
        sa.Column("call_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at_s", sa.Float(53), nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
    )
    op.create_table(
        "webhook_events",
        sa.Column("event_id", sa.String(128), primary_key=True),
        sa.Column("seen_at", sa.Float(53), nullable=False, index=True),
    )


def _money() -> None:
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.String(64), primary_key=True),
        sa.Column("call_id", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("slot", sa.String(64), nullable=False),
        sa.Column("fencing_token", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("max_cost_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("reserved_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("granted_at", sa.Float(53), nullable=False),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("request", sa.JSON),
        sa.Column("record", sa.JSON),
    )
    op.create_index("leases_of_day", "leases", ["day", "tenant"])
    op.create_index("leases_open", "leases", ["ended_at"])
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("request_id", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("lease_id", sa.String(64), nullable=False),
        sa.Column("warm", sa.Boolean, nullable=False),
        sa.Column("admitted_at", sa.Float(53), nullable=False, index=True),
    )
