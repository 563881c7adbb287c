"""Campaigns in the database. Synchronous: its owner calls it from a thread.

Rules of this file:
1. Every method is one transaction and may be repeated without harm: whoever got no answer asks again.
2. What a method changes it changes only from the states of `states.TABLE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cluster.campaign.contacts import Contact
from cluster.campaign.hours import Zones
from cluster.campaign.pace import Tally
from cluster.campaign.states import State, Step, contact_id, sources, target
from cluster.campaign.tables import attempts, campaigns, contacts

OPEN: Final = (State.DIALLING.value, State.CALLING.value)
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A contact as it stands."""

    contact: str
    number: str = field(repr=False)  # pii
    zones: Zones
    context: dict[str, str] = field(repr=False)  # pii
    state: State
    due_at: float
    """UTC seconds; for who waits: not before."""
    outcomes: tuple[str, ...]
    """Of its calls, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step of one contact."""

    campaign: str
    contact: str
    step: Step
    attempt: str = ""
    """The call that this is about; empty where there was none."""
    call_id: str = ""
    """Of an attempt that begins."""
    at: float
    """UTC seconds."""
    due_at: float = 0.0
    """For who waits: not before."""
    outcomes: tuple[str, ...] | None = None
    """With the newest; None where there is no new one."""
    talk_s: float = 0.0
    cost_usd_micros: int = 0


class Begun(StrEnum):
    """What became of the wish to begin an attempt."""

    YES = "yes"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    """Another process drives the campaign."""


class CampaignStore:
    """Campaigns, their contacts and their attempts."""

    def __init__(self, engine: Engine) -> None:
        """`engine`'s database is at the newest migration already."""
        self._engine = engine

    def open(self, name: str, tenant: str, driver: str, now: float) -> str:
        """Take a campaign over, or begin it; returns its state, which is `cancelled` if it is not to go on."""
        row = {"name": name, "tenant": tenant, "state": "running", "why": "", "driver": driver, "started_at": now}
        self._insert(campaigns, [row])
        mine = (campaigns.c.name == name) & (campaigns.c.state != CANCELLED)
        with self._engine.begin() as connection:
            taken = connection.execute(update(campaigns).where(mine).values(driver=driver, state="running", why=""))
        return "running" if taken.rowcount else CANCELLED

    def close(self, name: str, driver: str, state: str, why: str) -> None:
        """The campaign is `done`, or `stopped` for the reason `why`."""
        mine = (campaigns.c.name == name) & (campaigns.c.driver == driver) & (campaigns.c.state != CANCELLED)
        with self._engine.begin() as connection:
            connection.execute(update(campaigns).where(mine).values(state=state, why=why))

    def cancel(self, name: str) -> bool:
        """No new call from now on, and none ever again. False where there is no such campaign."""
        with self._engine.begin() as connection:
            changed = connection.execute(update(campaigns).where(campaigns.c.name == name).values(state=CANCELLED))
        return bool(changed.rowcount)

    def add(self, campaign: str, found: Sequence[tuple[Contact, float]]) -> None:
        """Take in contacts, each with when it is due; whoever is there already stays as he is."""
        rows = [
            {
                "campaign": campaign,
                "contact": contact_id(campaign, contact.number),
                "line": contact.line,
                "number": contact.number,
                "zones": list(contact.zones),
                "context": dict(contact.context),
                "state": State.WAITING.value,
                "due_at": due_at,
                "outcomes": [],
            }
            for contact, due_at in found
        ]
        ids = [row["contact"] for row in rows]
        known = select(contacts.c.contact).where(contacts.c.campaign == campaign, contacts.c.contact.in_(ids))
        with self._engine.begin() as connection:
            there = set(connection.execute(known).scalars())
            if new := [row for row in rows if row["contact"] not in there]:
                connection.execute(insert(contacts), new)

    def waiting(self, campaign: str, limit: int) -> list[Entry]:
        """Who waits, in the order in which they are due."""
        return self._entries((contacts.c.campaign == campaign) & (contacts.c.state == State.WAITING.value), limit)

    def unfinished(self, campaign: str) -> list[Entry]:
        """Whose last call has no known end."""
        unfinished = contacts.c.state.in_((*OPEN, State.UNKNOWN.value))
        return self._entries((contacts.c.campaign == campaign) & unfinished, None)

    def begin(self, driver: str, move: Move) -> Begun:
        """Write down an attempt, before anybody is asked for its call."""
        with self._engine.begin() as connection:
            row = connection.execute(select(campaigns).where(campaigns.c.name == move.campaign)).one()
            if row.state == CANCELLED:
                return Begun.CANCELLED
            if row.driver != driver:
                return Begun.REPLACED
            if self._step(connection, move):
                attempt = {"attempt": move.attempt, "campaign": move.campaign, "contact": move.contact}
                rest = {"call_id": move.call_id, "begun_at": move.at, "talk_s": 0.0, "cost_usd_micros": 0}
                connection.execute(insert(attempts), attempt | rest)
        return Begun.YES

    def move(self, moves: Sequence[Move]) -> None:
        """Take a step with each of these contacts."""
        with self._engine.begin() as connection:
            for move in moves:
                if not self._step(connection, move):
                    continue
                mine = attempts.c.attempt == move.attempt
                if move.step is Step.PUT_OFF:
                    connection.execute(delete(attempts).where(mine))
                elif move.outcomes:
                    end = {"ended_at": move.at, "outcome": move.outcomes[-1], "talk_s": move.talk_s}
                    cost = {"cost_usd_micros": move.cost_usd_micros}
                    connection.execute(update(attempts).where(mine).values(end | cost))

    def tally(self, campaign: str) -> Tally:
        """How far it is."""
        of_contacts = (
            select(contacts.c.state, func.count()).where(contacts.c.campaign == campaign).group_by(contacts.c.state)
        )
        of_attempts = (
            select(attempts.c.outcome, func.count(), func.sum(attempts.c.cost_usd_micros))
            .where(attempts.c.campaign == campaign)
            .group_by(attempts.c.outcome)
        )
        with self._engine.connect() as connection:
            states = {state: count for state, count in connection.execute(of_contacts)}  # noqa: C416 rows are no pairs
            calls = [(outcome, count, int(cost)) for outcome, count, cost in connection.execute(of_attempts)]
        return Tally(
            waiting=states.get(State.WAITING, 0),
            open=sum(states.get(state, 0) for state in OPEN),
            done=states.get(State.DONE, 0),
            unknown=states.get(State.UNKNOWN, 0),
            calls=sum(count for _, count, _ in calls),
            spent_usd_micros=sum(cost for _, _, cost in calls),
            outcomes=Counter({outcome: count for outcome, count, _ in calls if outcome}),
        )

    def state(self, campaign: str) -> tuple[str, str] | None:
        """Its state and what stopped it; None where there is no such campaign."""
        with self._engine.connect() as connection:
            row = connection.execute(select(campaigns).where(campaigns.c.name == campaign)).one_or_none()
        return None if row is None else (row.state, row.why)

    def report(self, campaign: str) -> Iterator[dict[str, Any]]:
        """Every contact in the order of the file, with what came of it."""
        calls = (
            select(
                attempts.c.contact,
                func.count().label("calls"),
                func.sum(attempts.c.talk_s).label("talk_s"),
                func.sum(attempts.c.cost_usd_micros).label("cost_usd_micros"),
                func.max(attempts.c.begun_at).label("last_call_at"),
            )
            .where(attempts.c.campaign == campaign)
            .group_by(attempts.c.contact)
            .subquery()
        )
        query = (
            select(contacts, calls.c.calls, calls.c.talk_s, calls.c.cost_usd_micros, calls.c.last_call_at)
            .join(calls, calls.c.contact == contacts.c.contact, isouter=True)
            .where(contacts.c.campaign == campaign)
            .order_by(contacts.c.line)
        )
        with self._engine.connect() as connection:
            yield from map(dict, connection.execute(query).mappings())

    def _step(self, connection: Connection, move: Move) -> bool:
        """Whether the contact was where that step is taken."""
        changes: dict[str, Any] = {"state": target(move.step).value, "due_at": move.due_at}
        if move.outcomes is not None:
            changes["outcomes"] = list(move.outcomes)
        there = (contacts.c.campaign == move.campaign) & (contacts.c.contact == move.contact)
        taken_from = contacts.c.state.in_([state.value for state in sources(move.step)])
        change = update(contacts).where(there & taken_from).values(changes)
        return bool(connection.execute(change).rowcount)

    def _entries(self, which: Any, limit: int | None) -> list[Entry]:
        query = select(contacts).where(which).order_by(contacts.c.due_at, contacts.c.line).limit(limit)
        with self._engine.connect() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def _insert(self, table: Any, rows: Sequence[dict[str, Any]]) -> None:
        """Those that are not there yet."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table), rows)
        except IntegrityError:
            pass


def _entry(row: Any) -> Entry:
    return Entry(
        contact=row.contact,
        number=row.number,
        zones=tuple(row.zones),
        context=row.context,
        state=State(row.state),
        due_at=row.due_at,
        outcomes=tuple(row.outcomes),
    )
