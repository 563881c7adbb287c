"""Campaigns in the database. Synchronous: its owner calls it from a thread.

Rules of this file:
1. Every method is one transaction and may be repeated without harm: whoever got no answer asks again.
2. What a method changes it changes only from the states of `states.TABLE`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cluster.campaign.contacts import Contact
from cluster.campaign.hours import Zones
from cluster.campaign.pace import Tally
from cluster.campaign.states import State, Step, contact_id, sources, target
from cluster.campaign.tables import attempts, campaigns, contacts

OPEN: Final = (State.DIALLING.value, State.CALLING.value)
CANCELLED: Final = "cancelled"

_LIST: Final = (
    update(contacts)
    .where(contacts.c.campaign == bindparam("of_campaign"), contacts.c.contact == bindparam("of_contact"))
    .where(contacts.c.state == bindparam("of_state"))
    .values(state=target(Step.LIST).value)
)


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
    driver: str = ""
    """Only while this process drives the campaign; empty: whoever does."""
    talk_s: float = 0.0
    cost_usd_micros: int = 0


class Begun(StrEnum):
    """What became of the wish to begin an attempt."""

    YES = "yes"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    """Another process drives the campaign."""
    LEFT_OUT = "left-out"
    """The contact is not in the file any more."""


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

    def add(self, campaign: str, driver: str, found: Sequence[tuple[Contact, float]]) -> None:
        """Take in contacts of the file, each with when its hours allow a call, while `driver` drives the campaign.

        Whoever waits is from now on as the file has him, and due no sooner than he was, if he was called before.
        """
        rows = {
            contact_id(campaign, contact.number): {
                "line": contact.line,
                "zones": list(contact.zones),
                "context": dict(contact.context),
                "number": contact.number,
                "due_at": due_at,
            }
            for contact, due_at in found
        }
        these = (contacts.c.campaign == campaign) & contacts.c.contact.in_(rows)
        with self._engine.begin() as connection:
            if connection.execute(select(campaigns.c.driver).where(campaigns.c.name == campaign)).scalar() != driver:
                return
            known = {row.contact: row for row in connection.execute(select(contacts).where(these))}
            fixed = {"campaign": campaign, "state": State.WAITING.value, "outcomes": [], "listed_by": driver}
            if new := [row | fixed | {"contact": contact} for contact, row in rows.items() if contact not in known]:
                connection.execute(insert(contacts), new)
            if known:
                connection.execute(update(contacts).where(these).values(listed_by=driver))
            if listed := [_listed(row, rows[row.contact]) for row in known.values() if row.state in sources(Step.LIST)]:
                connection.execute(_LIST, listed)

    def left_out(self, campaign: str, driver: str, limit: int) -> list[Entry]:
        """Who waits, and was not in the file when `driver` read it; nobody where that does not drive the campaign."""
        mine = exists().where(campaigns.c.name == campaign, campaigns.c.driver == driver)
        waits = (contacts.c.campaign == campaign) & (contacts.c.state == State.WAITING.value)
        return self._entries(waits & (contacts.c.listed_by != driver) & mine, limit)

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
            listed_by = select(contacts.c.listed_by).where(_contact(move))
            if connection.execute(listed_by).scalar() != driver:
                self._step(connection, replace(move, step=Step.DROP))
                return Begun.LEFT_OUT
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
            done=states.get(State.DONE, 0) + states.get(State.ABSENT, 0),
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
        taken_from = contacts.c.state.in_([state.value for state in sources(move.step)])
        change = update(contacts).where(_contact(move), taken_from).values(changes)
        if move.driver:
            mine = (campaigns.c.name == move.campaign) & (campaigns.c.driver == move.driver)
            change = change.where(exists().where(mine))
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


def _contact(move: Move) -> ColumnElement[bool]:
    return (contacts.c.campaign == move.campaign) & (contacts.c.contact == move.contact)


def _listed(known: Any, row: dict[str, Any]) -> dict[str, Any]:
    """A contact that is known already, as the file has it now. A pause after its last call is kept."""
    due_at = max(row["due_at"], known.due_at if known.outcomes else 0.0)
    key = {"of_campaign": known.campaign, "of_contact": known.contact, "of_state": known.state}
    return row | key | {"due_at": due_at}


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
