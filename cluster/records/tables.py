"""The tables of the history: one row per call, its events, and the webhooks already taken.

Rules of this file:
1. Seconds ending in `_at` are UTC seconds since the epoch; seconds ending in `_s` count from the start of the call.
2. Columns marked ``# pii`` hold personal data. They leave this process only through `cluster.records.views`.
3. Events refer to a call by id without a foreign key: they come from the call's actor and may be here before the
   call's own row, which comes from `BudgetPool`.
4. What strangers choose (a SIP caller's number, a room's name) has no length here: PostgreSQL would refuse the row.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from cluster.storage import metadata

calls = Table(
    "calls",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("request_id", String(255), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("room", Text, nullable=False),
    Column("to_number", Text, nullable=False, default=""),  # pii
    Column("from_number", Text, nullable=False, default=""),  # pii
    Column("started_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),  # null while the call is live
    Column("result", String(16)),
    Column("reason", String(64)),
    Column("detail", Text),
    Column("model", String(64)),
    Column("slot", String(64)),
    Column("node", String(64)),
    Column("answered_s", Float(53)),
    Column("duration_s", Float(53)),
    Column("talk_s", Float(53)),
    Column("cost_usd_micros", BigInteger, nullable=False, default=0),
    Column("charges_usd_micros", JSON),  # the parts of the cost, by kind
    Column("usage", JSON),
    Column("timings_ms", JSON),
    Column("quality", JSON),
    Column("transcript", JSON),  # pii
    Column("recording_url", Text),  # pii
    Index("calls_of_tenant", "tenant", "started_at"),
)

call_events = Table(
    "call_events",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True),  # 1, 2, 3 … within the call
    Column("kind", String(32), nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("fields", JSON, nullable=False),  # pii
)

webhook_events = Table(
    "webhook_events",
    metadata,
    Column("event_id", String(128), primary_key=True),
    Column("seen_at", Float(53), nullable=False, index=True),
)
