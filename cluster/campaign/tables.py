"""The tables of campaigns.

Rules of this file:
1. Seconds ending in `_at` are UTC seconds since the epoch; money is integer micro-dollars.
2. Columns marked ``# pii`` hold personal data.
3. A contact is one number of one campaign. It has one row here however often it is called.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table

from cluster.storage import metadata

campaigns = Table(
    "campaigns",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # running, done, stopped, cancelled
    Column("why", String(64), nullable=False),  # what stopped it: time, money, calls, or a refusal's reason
    Column("driver", String(64), nullable=False),  # the process that drives it; the newest one wins
    Column("started_at", Float(53), nullable=False),
)

contacts = Table(
    "campaign_contacts",
    metadata,
    Column("campaign", String(40), primary_key=True),
    Column("contact", String(24), primary_key=True),
    Column("line", Integer, nullable=False),
    Column("number", String(16), nullable=False),  # pii
    Column("zones", JSON, nullable=False),
    Column("context", JSON, nullable=False),  # pii
    Column("state", String(16), nullable=False),
    Column("due_at", Float(53), nullable=False),
    Column("outcomes", JSON, nullable=False),  # of its calls, oldest first
    Column("listed_by", String(64), nullable=False),  # the last process that found it in the file
    Index("campaign_contacts_due", "campaign", "state", "due_at"),
)

attempts = Table(
    "campaign_attempts",
    metadata,
    Column("attempt", String(128), primary_key=True),
    Column("campaign", String(40), nullable=False, index=True),
    Column("contact", String(24), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("begun_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),  # null while nobody knows its end
    Column("outcome", String(96)),
    Column("talk_s", Float(53), nullable=False),
    Column("cost_usd_micros", BigInteger, nullable=False),
)
