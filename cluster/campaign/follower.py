"""Follows the calls of a campaign to their ends, whoever asked for them.

Rules of this file:
1. What has no known end is asked of `BudgetPool`, of the history and of LiveKit, in this order.
2. Where all of them say that a call was never begun, its contact waits again, and the same attempt will be made under
   the same ids. Where a call was begun and none of them knows its end, the contact is parked.
3. Who was paused or cancelled takes back what waits in the queue; the record of that brings the contact to wait again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from cluster.campaign.file import Campaign
from cluster.campaign.pace import Pace
from cluster.campaign.ports import Others
from cluster.campaign.retries import NOT_DIALLED, UNCERTAIN, may_have_rung
from cluster.campaign.states import State, Step
from cluster.campaign.store import Entry, Move
from cluster.messages import CallRequest
from cluster.outcome import WITHDRAWN, Outcome

LOST_AFTER_S: Final = 60.0
"""A call that was admitted, and that neither `BudgetPool` nor the history has, is in neither's memory any more."""
UNENDED_AFTER_S: Final = 900.0
"""A call that has begun and does not run any more has its record within seconds, unless a database was lost."""


@dataclass(slots=True)
class _Call:
    """An attempt without a known end."""

    entry: Entry
    request: CallRequest
    state: State
    missing_since: float | None = None
    """Since when it does not run and has no record."""


class Follower:
    """The attempts without a known end."""

    def __init__(
        self,
        campaign: Campaign,
        others: Others,
        pace: Pace,
        move: Callable[[Move], Awaitable[None]],
        utc: Callable[[], float],
    ) -> None:
        self._campaign = campaign
        self._others = others
        self._pace = pace
        self._move = move
        self._utc = utc
        self._calls: dict[str, _Call] = {}
        self._withdraws = self._cancelled = False
        self.busy = asyncio.Event()
        """Set while there is something to follow."""

    def take(self, entry: Entry, request: CallRequest) -> None:
        """Find out about an attempt that an earlier process left, or that got no answer."""
        state = State.DIALLING if entry.state is State.WAITING else entry.state
        self._calls[entry.contact] = _Call(entry, request, state)
        self.busy.set()

    def follow(self, entry: Entry, request: CallRequest) -> None:
        """Follow a call that exists."""
        self._calls[entry.contact] = _Call(entry, request, State.CALLING)
        self.busy.set()

    def withdraw(self, *, cancelled: bool) -> None:
        """From now on take calls from the queue. Those of who is `cancelled` are never made again."""
        self._withdraws, self._cancelled = True, cancelled

    async def look(self) -> None:
        """See how it stands with each. Raises `ControlPlaneDown`."""
        tenant, known = self._campaign.file.tenant, await self._known()
        for call in list(self._calls.values()):
            if call.request.call_id in known:
                call.missing_since = None
                await self._exists(call)
                continue
            record = await self._others.history.call(call.request.call_id, tenant, False)  # noqa: FBT003 an actor's method
            if record is not None:
                await self._exists(call)
            if record is not None and record["outcome"]:
                await self._ended(call, record)
            elif call.state is State.DIALLING:
                await self._never_begun(call)
            elif call.state is State.UNKNOWN:
                del self._calls[call.entry.contact]  # there is no news
            else:
                await self._missing(call, UNENDED_AFTER_S if record else LOST_AFTER_S)
        if not self._calls:
            self.busy.clear()

    async def _known(self) -> set[str]:
        """The calls that `BudgetPool` has, though some of them have just been taken back."""
        pool, tenant = self._others.pool, self._campaign.file.tenant
        queued = {call["call_id"] for call in await pool.queue(tenant)}
        if self._withdraws:
            for call_id in queued & {call.request.call_id for call in self._calls.values()}:
                await pool.leave_queue(call_id)
        return queued | {call["call_id"] for call in await pool.live_calls(tenant)}

    async def _exists(self, call: _Call) -> None:
        if call.state is State.DIALLING:
            await self._move(self._step(call, Step.CALL))
            call.state = State.CALLING

    async def _ended(self, call: _Call, record: dict[str, Any]) -> None:
        outcome = Outcome.parse(f"{record['outcome']['result']}/{record['outcome']['reason']}")
        if outcome in UNCERTAIN and record["answered_s"] is None:
            await self._park(call)
            return
        outcomes = (*call.entry.outcomes, str(outcome))
        is_over = outcome in NOT_DIALLED and may_have_rung(record["answered_s"], record["timings_ms"])
        is_over |= outcome == WITHDRAWN and self._cancelled
        due_at = None if is_over else self._campaign.call_again_at(call.entry.zones, outcomes, self._utc())
        cost = record["cost"]["usd_micros"]
        end = {"outcomes": outcomes, "talk_s": record["talk_s"] or 0.0, "cost_usd_micros": cost}
        await self._move(self._step(call, Step.CLOSE if due_at is None else Step.AGAIN, due_at=due_at or 0.0, **end))
        if call.state is State.UNKNOWN:
            self._pace.found()
        self._pace.ended(str(outcome), cost, again=due_at is not None)
        del self._calls[call.entry.contact]

    async def _never_begun(self, call: _Call) -> None:
        present = await self._others.rooms.present(call.request.room)
        if present is None:
            return
        if present:
            await self._park(call)
            return
        await self._move(self._step(call, Step.PUT_OFF, due_at=self._utc()))
        self._pace.put_off()
        del self._calls[call.entry.contact]

    async def _missing(self, call: _Call, patience_s: float) -> None:
        now = self._utc()
        if call.missing_since is None:
            call.missing_since = now
        if now - call.missing_since >= patience_s and await self._others.rooms.present(call.request.room) == []:
            await self._park(call)

    async def _park(self, call: _Call) -> None:
        del self._calls[call.entry.contact]
        if call.state is not State.UNKNOWN:
            await self._move(self._step(call, Step.PARK))
            self._pace.parked()

    def _step(self, call: _Call, step: Step, **fields: Any) -> Move:
        return Move(
            campaign=self._campaign.file.name,
            contact=call.entry.contact,
            step=step,
            attempt=call.request.request_id,
            at=self._utc(),
            **fields,
        )
