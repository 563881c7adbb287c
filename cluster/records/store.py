"""The history in the database. Synchronous: its owner calls it from a thread.

Rules of this file:
1. Every method is one transaction and may be repeated without harm.
2. The first ending of a call is its ending; a later one changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, Table, Text, and_, cast, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cluster.messages import CallEvent, CallQuery, CallRecord, CallRequest
from cluster.records.tables import call_events, calls, webhook_events
from cluster.records.views import FEED_ONLY, event_view

WEBHOOK_KEPT_S: Final = 86_400.0
"""LiveKit's signature on a webhook is good for 5 minutes, so a day is plenty."""

Row = Mapping[str, Any]


class RecordStore:
    """Calls, their events, and the webhooks already taken."""

    def __init__(self, engine: Engine) -> None:
        """`engine`'s database is at the newest migration already."""
        self._engine = engine

    def begin(self, request: CallRequest, started_at: float) -> None:
        """Write the row of a call that was admitted; without effect if it has one."""
        row = {
            "call_id": request.call_id,
            "request_id": request.request_id,
            "tenant": request.tenant,
            "direction": request.direction.value,
            "profile": request.profile,
            "room": request.room,
            "to_number": request.to,
            "from_number": request.from_,
            "started_at": started_at,
        }
        self._insert(calls, row)

    def finish(self, record: CallRecord) -> bool:
        """Write how a call ended. False if it had ended already, in which case nothing changes."""
        row = _row(record)
        change = update(calls).where(calls.c.call_id == record.call_id, calls.c.ended_at.is_(None)).values(row)
        with self._engine.begin() as connection:
            if connection.execute(change).rowcount:
                return True
        return self._insert(calls, row)

    def add_events(self, events: Iterable[tuple[int, CallEvent]]) -> None:
        """Store numbered events, of any calls; those of `FEED_ONLY` kinds are left out."""
        rows = [
            {"call_id": event.call_id, "seq": seq, "kind": event.kind, "at_s": event.at_s, "fields": dict(event.fields)}
            for seq, event in events
            if event.kind not in FEED_ONLY
        ]
        if rows and not self._insert(call_events, rows):
            # An earlier try of this batch may have got through in part.
            for row in rows:
                self._insert(call_events, row)

    def events(self, call_id: str, after: int) -> list[tuple[int, dict[str, Any]]]:
        """A call's stored events numbered higher than `after`."""
        query = (
            select(call_events)
            .where(call_events.c.call_id == call_id, call_events.c.seq > after)
            .order_by(call_events.c.seq)
        )
        return [
            (row["seq"], event_view(row["seq"], row["kind"], row["at_s"], row["fields"])) for row in self._all(query)
        ]

    def last_seq(self, call_id: str) -> int | None:
        """The number of a call's newest stored event, None if it has none."""
        with self._engine.connect() as connection:
            newest = select(func.max(call_events.c.seq)).where(call_events.c.call_id == call_id)
            seq: int | None = connection.execute(newest).scalar_one()
        return seq

    def call(self, call_id: str, tenant: str | None) -> Row | None:
        """A call's row; None if there is none, or if it is another tenant's. Tenant None stands for all."""
        if "\0" in call_id:  # PostgreSQL takes no such text
            return None
        query = select(calls).where(calls.c.call_id == call_id)
        if tenant is not None:
            query = query.where(calls.c.tenant == tenant)
        return next(iter(self._all(query)), None)

    def calls(self, tenant: str | None, query: CallQuery) -> list[Row] | None:
        """Rows of a tenant's calls, or (None) of everybody's; None where `query.before` is none of them."""
        rows = select(calls).order_by(calls.c.started_at.desc(), calls.c.call_id.desc()).limit(query.limit)
        if tenant is not None:
            rows = rows.where(calls.c.tenant == tenant)
        if query.state is not None:
            rows = rows.where(calls.c.ended_at.is_(None) if query.state == "live" else calls.c.ended_at.is_not(None))
        if query.search:
            rows = rows.where(_mentions(query.search, parts_of_numbers=query.parts_of_numbers))
        if query.before is not None:
            last = self.call(query.before, tenant)
            if last is None:
                return None
            older = calls.c.started_at < last["started_at"]
            same = and_(calls.c.started_at == last["started_at"], calls.c.call_id < query.before)
            rows = rows.where(or_(older, same))
        return self._all(rows)

    def webhook_seen(self, event_id: str, now: float) -> bool:
        """Note that a webhook was taken. True the first time, False ever after. `now` is UTC seconds."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(webhook_events).values(event_id=event_id, seen_at=now))
                connection.execute(delete(webhook_events).where(webhook_events.c.seen_at < now - WEBHOOK_KEPT_S))
        except IntegrityError:
            return False
        return True

    def _insert(self, table: Table, rows: Any) -> bool:
        """All of the rows, or none and False where one of them is there already."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table), rows)
        except IntegrityError:
            return False
        return True

    def _all(self, query: Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _mentions(search: str, *, parts_of_numbers: bool) -> ColumnElement[bool]:
    """Whether a call has to do with what is searched for."""
    outcome = calls.c.result + "/" + calls.c.reason
    numbers = (calls.c.to_number, calls.c.from_number)
    columns = (calls.c.call_id, calls.c.profile, outcome, *(numbers if parts_of_numbers else ()))
    whole = (search, f"+{search.strip()}")  # a plus sign is a space in a URL
    # The transcript is JSON, in which some characters stand as escapes.
    spoken = cast(calls.c.transcript, Text).icontains(json.dumps(search)[1:-1], autoescape=True)
    return or_(
        *(column.icontains(search, autoescape=True) for column in columns),
        *(number.in_(whole) for number in numbers),
        spoken,
    )


def _row(record: CallRecord) -> dict[str, Any]:
    return {
        "call_id": record.call_id,
        "request_id": record.request_id,
        "tenant": record.tenant,
        "direction": record.direction.value,
        "profile": record.profile,
        "room": record.room,
        "to_number": record.to,
        "from_number": record.from_,
        "started_at": record.started_at,
        "ended_at": record.started_at + record.duration_s,
        "result": record.outcome.result.value,
        "reason": record.outcome.reason,
        "detail": record.detail,
        "model": record.model,
        "slot": record.slot,
        "node": record.node,
        "answered_s": record.answered_s,
        "duration_s": record.duration_s,
        "talk_s": record.talk_s,
        "cost_usd_micros": record.cost_usd_micros,
        "charges_usd_micros": dict(record.charges_usd_micros),
        "usage": asdict(record.usage),
        "timings_ms": dict(record.timings_ms),
        "quality": dict(record.quality),
        "transcript": [asdict(line) for line in record.transcript],
        "recording_url": record.recording_url,
    }
