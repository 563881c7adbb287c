"""Inbound calls: a room that wants our agent gets a call actor, or its caller gets a final answer.

Rules of this file:
1. Whoever hears of a room first asks for it; asking twice is asking once, since the request is the room's.
2. A caller is never left ringing: who is not admitted within the time in the queue is refused, and the refusal is
   recorded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

from cluster import outcome as o
from cluster.dispatch.ports import ControlPlaneDown, History, Pool, Rooms
from cluster.dispatch.requests import UNKNOWN_PROFILE, Arrival, BadDispatch, inbound_request, wish_of
from cluster.messages import Admission, Admitted, CallRequest, Queued, Refused, Wait
from cluster.outcome import Outcome, Result
from cluster.records.refusal import refusal

log = logging.getLogger(__name__)

PATIENCE_S: Final = 8.0
"""How long a caller may ring while `BudgetPool` has no queue to be in; people hang up after five or six rings of 5 to
6 s."""
ASK_AGAIN_S: Final = 2.0
CALLER_KNOWN_WITHIN_S: Final = 0.3
"""A call without its caller's number is better than a late one."""
CONTROL_PLANE_DOWN: Final = Outcome(Result.OURS, "control-plane-down")
CONTROL_PLANE_PAUSE_S: Final = 1.0


class Inbound:
    """Takes or refuses the calls that LiveKit brings."""

    def __init__(
        self,
        pool: Pool,
        history: History,
        rooms: Rooms,
        *,
        default_profile: str,
        profiles: frozenset[str],
    ) -> None:
        """`profiles` are the names of those that are installed."""
        self._pool = pool
        self._history = history
        self._rooms = rooms
        self._default_profile = default_profile
        self._profiles = profiles

    def request(self, arrival: Arrival) -> CallRequest:
        """The request behind an arrival. Raises `BadDispatch`."""
        profile, context = wish_of(arrival, self._default_profile)
        if profile not in self._profiles:
            known = ", ".join(sorted(self._profiles))
            raise BadDispatch(
                UNKNOWN_PROFILE, f"the dispatch asks for a profile that is not installed; there are: {known}"
            )
        return inbound_request(arrival, profile, context)

    async def hint(self, arrival: Arrival) -> Admission | None:
        """Ask once, early. Nothing but an admission has an effect: LiveKit's own dispatch comes, and refuses, later."""
        try:
            return await self._pool.admit(self.request(arrival))
        except (BadDispatch, ControlPlaneDown):
            return None

    async def take(self, arrival: Arrival) -> Admitted | None:
        """Have the call admitted; or refuse it, which hangs up, and return None."""
        arrival = await self._with_caller(arrival)
        try:
            request = self.request(arrival)
        except BadDispatch as error:
            await self.refuse(inbound_request(arrival, self._default_profile, {}), error.outcome, str(error))
            return None
        try:
            answer = await self._ask(request)
            if isinstance(answer, Queued | Wait):
                answer = await self._wait_for_a_place(request, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody's phone is ringing
            answer = Refused(outcome=o.FAULT, detail=f"fault in the admission: {type(error).__name__}")
        if isinstance(answer, Admitted):
            return answer
        await self.refuse(request, answer.outcome, answer.detail)
        return None

    async def refuse(self, request: CallRequest, outcome: Outcome, detail: str) -> None:
        """Give the caller a final answer and record it. `detail` holds no personal data."""
        noted = {"call_id": request.call_id, "outcome": str(outcome)}
        log.warning("an inbound call is refused", extra=noted | {"why": detail})
        await self._rooms.delete(request.room)
        now = time.time()
        try:
            await self._history.finish(refusal(request, outcome, detail, asked_at=now, ended_at=now))
        except ControlPlaneDown:
            log.warning("a refusal is not recorded: the history did not answer", extra=noted)

    async def _with_caller(self, arrival: Arrival) -> Arrival:
        """LiveKit's job does not say who is in the room; the room does, within a few milliseconds."""
        if arrival.attributes:
            return arrival
        try:
            async with asyncio.timeout(CALLER_KNOWN_WITHIN_S):
                present = await self._rooms.present(arrival.room) or ()
        except TimeoutError:
            return arrival
        callers = sorted((who for who in present if who.kind != "AGENT"), key=lambda who: who.kind != "SIP")
        return replace(arrival, attributes=callers[0].attributes) if callers else arrival

    async def _wait_for_a_place(self, request: CallRequest, answer: Queued | Wait) -> Admitted | Refused:
        """`BudgetPool` holds its answer about a queued call for some seconds; what can't queue is asked again."""
        give_up_at = time.monotonic() + (answer.expires_in_s if isinstance(answer, Queued) else PATIENCE_S)
        somebody = await self._rooms.present(request.room)
        while time.monotonic() + (0.0 if isinstance(answer, Queued) else answer.retry_after_s) <= give_up_at:
            if isinstance(answer, Wait):
                await asyncio.sleep(min(answer.retry_after_s, ASK_AGAIN_S))
            # LiveKit does not tell a worker that a room without its agent has emptied.
            present = await self._rooms.present(request.room)
            if somebody and present is not None and not present:
                await self._leave_queue(request)
                return Refused(outcome=o.CALLER_LEFT_EARLY, detail="the caller hung up while waiting for a place")
            somebody = somebody or present
            asked = await self._ask(request)
            if not isinstance(asked, Queued | Wait):
                return asked
            answer = asked
        await self._leave_queue(request)
        return Refused(outcome=answer.outcome, detail="no place became free while the phone rang")

    async def _leave_queue(self, request: CallRequest) -> None:
        with suppress(ControlPlaneDown):  # its time in the queue ends by itself
            await self._pool.hangup(request.call_id)

    async def _ask(self, request: CallRequest) -> Admission:
        try:
            return await self._pool.admit(request)
        except ControlPlaneDown:
            return Wait(outcome=CONTROL_PLANE_DOWN, retry_after_s=CONTROL_PLANE_PAUSE_S)
