"""The tables of admission and money.

Rules of this file:
1. Seconds ending in `_at` are UTC seconds since the epoch; money is integer micro-dollars.
2. Columns marked ``# pii`` hold personal data, and are emptied as soon as they are not needed.
3. What was spent of a budget is the sum over the ended leases that were granted in its window, and stands nowhere else.
4. Rows of `ledger` are added, never changed.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, String, Table

from cluster.storage import metadata

leases = Table(
    "leases",
    metadata,
    Column("lease_id", String(64), primary_key=True),
    Column("call_id", String(64), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("day", String(10), nullable=False),  # UTC, as 2026-11-24
    Column("slot", String(64), nullable=False),
    Column("fencing_token", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("max_cost_usd_micros", BigInteger, nullable=False),
    Column("reserved_usd_micros", BigInteger, nullable=False),
    Column("cost_usd_micros", BigInteger, nullable=False),
    Column("charges_usd_micros", JSON, nullable=False),  # the cost, by kind
    Column("metered", JSON(none_as_null=True)),  # what the cost was worked out from; null if before the ledger
    Column("entries", Integer, nullable=False),  # in the ledger
    Column("direction", String(16), nullable=False),
    Column("campaign", String(64), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("trunk", String(64), nullable=False),
    Column("destination", String(16), nullable=False),  # the prefix that its price goes by
    Column("dialled", Boolean, nullable=False),  # a phone may have rung
    Column("granted_at", Float(53), nullable=False),
    Column("ended_at", Float(53)),  # null while the lease is open
    Column("request", JSON(none_as_null=True)),  # pii: the request and its limits, until the call has ended
    Column("record", JSON(none_as_null=True)),  # pii: the call's record, until the history has it
    Index("leases_granted", "granted_at"),
    Index("leases_open", "ended_at"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("lease_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the entry, from 1 within the lease
    Column("account", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("usd_micros", BigInteger, nullable=False),  # a debit is positive
    Column("at", Float(53), nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("request_id", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("lease_id", String(64), nullable=False),
    Column("warm", Boolean, nullable=False),
    Column("admitted_at", Float(53), nullable=False, index=True),
)

waiting = Table(
    "waiting",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),  # grows in the order of arrival
    Column("asked_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("waits_for", String(64), nullable=False),  # an outcome
    Column("request", JSON, nullable=False),  # pii: until the call starts or is given up
)

policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True),  # grows; the last one holds
    Column("applied_at", Float(53), nullable=False),
    Column("file_sha256", String(64), nullable=False),  # of the file while this one held; empty without one
    Column("body", JSON, nullable=False),  # pii: blocked numbers
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("scopes", String(255), nullable=False),  # separated by blanks
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
)

journals = Table(
    "journals",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("writer", String(32), nullable=False),  # the process that writes it now
    Column("number", BigInteger, nullable=False),  # of its last commit
)
