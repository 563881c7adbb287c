"""The ledger, and what a lease's cost was worked out from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TEXTS = {"direction": 16, "campaign": 64, "profile": 64, "trunk": 64, "destination": 16}


def upgrade() -> None:
    """Leases that have ended keep their cost, and nothing that it could be worked out from again."""
    op.create_table(
        "ledger",
        sa.Column("lease_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("account", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("usd_micros", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
    )
    with op.batch_alter_table("leases") as leases:
        leases.add_column(sa.Column("metered", sa.JSON))
        leases.add_column(sa.Column("charges_usd_micros", sa.JSON, nullable=False, server_default="{}"))
        leases.add_column(sa.Column("entries", sa.Integer, nullable=False, server_default="0"))
        for name, length in TEXTS.items():
            leases.add_column(sa.Column(name, sa.String(length), nullable=False, server_default=""))
    _take_over_open_leases()


def _take_over_open_leases() -> None:
    """What is held for a call that runs is entered; what it has used counts as the model's."""
    connection = op.get_bind()
    tables = sa.MetaData()
    leases = sa.Table("leases", tables, autoload_with=connection)
    ledger = sa.Table("ledger", tables, autoload_with=connection)
    for row in connection.execute(sa.select(leases).where(leases.c.ended_at.is_(None))).mappings().all():
        request, cost = row["request"] or {}, row["cost_usd_micros"]
        known = {name: request.get(name, "") for name in TEXTS}
        nothing = {"usage_by_model": {}, "line_s": 0.0, "room_s": 0.0, "tool_calls": {}}
        used = {"entries": 1, "metered": nothing, "charges_usd_micros": {"model": cost} if cost else {}}
        connection.execute(sa.update(leases).where(leases.c.lease_id == row["lease_id"]).values(**used, **known))
        entry = {"lease_id": row["lease_id"], "number": 1, "kind": "reserve", "at": row["granted_at"]}
        held = row["reserved_usd_micros"]
        for account, usd_micros in ((f"held:{row['lease_id']}", held), (f"tenant:{row['tenant']}", -held)):
            connection.execute(sa.insert(ledger).values(**entry, account=account, usd_micros=usd_micros))
