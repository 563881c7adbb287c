"""One call of the carrier, from the INVITE to the record of how it ended.

A call is a task of its own: whoever asked for it may go away, and it goes on, as it does with a real carrier.
`answered` is the final answer to its INVITE, for those who wait for it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from livekit import rtc

from cluster.local.carrier import twirp
from cluster.local.carrier.ears import Kind
from cluster.local.carrier.leg import Event, Leg, Livekit, RoomUnreachable, Status, after
from cluster.local.carrier.numbers import Callee, Way
from cluster.local.carrier.phone import Phone
from cluster.local.carrier.record import CallLog, Direction, Ending, Utterance
from cluster.local.carrier.routing import Place

_ENDING_OF: Final[Mapping[int, Ending]] = {
    rtc.DisconnectReason.PARTICIPANT_REMOVED: Ending.REMOVED,
    rtc.DisconnectReason.ROOM_DELETED: Ending.ROOM_DELETED,
}
_REASON_OF: Final[Mapping[Ending, rtc.DisconnectReason.ValueType]] = {
    Ending.REFUSED: rtc.DisconnectReason.USER_REJECTED,
    Ending.UNANSWERED: rtc.DisconnectReason.USER_UNAVAILABLE,
}
_NO_CREDENTIALS: Final = (
    "twirp error unknown: INVITE failed: server required auth, but no username or password was provided"
)
_REJECTED: Final = 486
_OK: Final = 200
_TERMINATED: Final = 487
_DIGIT_S: Final = 0.25
_DIGIT_PAUSE_S: Final = 0.5


class _Over(Exception):
    """The call has ended; carries how."""

    def __init__(self, ending: Ending, error: twirp.TwirpError | None = None) -> None:
        super().__init__(ending)
        self.ending = ending
        self.error = error or twirp.canceled()


class Call:
    """One phone's call. Start it with `ring_in` or `ring_out` in a task; `log` is its record at any moment."""

    def __init__(self, livekit: Livekit, place: Place, phone: Phone, direction: Direction, call_id: str) -> None:
        loop = asyncio.get_running_loop()
        self.call_id = call_id
        self.place = place
        self.phone = phone
        self.joined: asyncio.Future[str] = loop.create_future()
        """Done with the participant's sid once the phone is in the room; fails with TwirpError."""
        self.answered: asyncio.Future[None] = loop.create_future()
        """Done with the answer; fails with the TwirpError that the API gives."""
        self.ended: asyncio.Future[CallLog] = loop.create_future()
        """Done with the final record."""
        self.joined.add_done_callback(_looked_at)
        self.answered.add_done_callback(_looked_at)
        self._direction = direction
        self._leg = Leg(livekit, place, media=phone.media, on_digit=phone.hear_digit)
        self._wants_over: asyncio.Future[Ending] = loop.create_future()
        self._status = Status.DIALING if direction is Direction.OUTBOUND else Status.RINGING
        self._sip_status = 0
        self._ending: Ending | None = None
        self._started = time.monotonic()
        self._started_at = time.time()
        self._at: dict[str, float] = {}

    @property
    def log(self) -> CallLog:
        """How the call stands, or stood at its end."""
        phone = self.phone
        attributes = self.place.attributes
        return CallLog(
            call_id=self.call_id,
            direction=self._direction,
            number=attributes.get("sip.phoneNumber", ""),
            trunk_number=attributes.get("sip.trunkPhoneNumber", ""),
            room=self.place.room,
            status=self._status,
            started_at=self._started_at,
            joined_s=self._at.get("joined"),
            ringing_s=self._at.get("ringing"),
            answered_s=self._at.get("answered"),
            ended_s=self._at.get("ended"),
            sip_status=self._sip_status,
            ending=self._ending,
            digits_heard=phone.digits_heard,
            digits_pressed=phone.digits_pressed,
            heard_ms=phone.ears.heard_ms,
            loud_ms=phone.ears.loud_ms,
            longest_silence_ms=phone.ears.longest_silence_ms,
            subscribed_s=self._since_start(self._leg.subscribed_at),
            first_sound_s=self._since_start(phone.first(Kind.AGENT_BEGAN)),
            response_ms=phone.response_ms,
            barge_in_ms=phone.barge_in_ms,
            script_done=phone.script_done,
            lines=tuple(
                Utterance(who=who, text=text, at_s=round(at - self._started, 3))
                for who, text, at in sorted(phone.lines, key=lambda line: line[2])
            ),
        )

    def hang_up(self, ending: Ending = Ending.PHONE_HUNG_UP) -> None:
        """The phone hangs up, or gives up ringing."""
        if not self._wants_over.done():
            self._wants_over.set_result(ending)

    async def say(self, text: str) -> None:
        """The phone says ``text`` beside its script; returns at its end."""
        await self.phone.say(self._leg, text)

    async def press(self, digits: str) -> None:
        """The phone presses these keys."""
        await self.phone.press(self._leg, digits)

    async def ring_in(self) -> None:
        """An inbound call: rings until somebody in the room publishes audio, for as long as the trunk lets it."""
        await self._until_over(self._ring_in())

    async def ring_out(self, callee: Callee, *, digits: str, allowed: bool) -> None:
        """An outbound call to ``callee``; ``allowed`` False is a trunk over its calls per second."""
        await self._until_over(self._ring_out(callee, digits, allowed=allowed))

    async def _until_over(self, course: Coroutine[Any, Any, Ending]) -> None:
        error: twirp.TwirpError | None = None
        try:
            self._ending = await self._unless_gone(course)
        except _Over as over:
            self._ending, error = over.ending, over.error
        except RoomUnreachable:
            self._ending = Ending.ROOM_UNREACHABLE
            error = twirp.TwirpError("unavailable", "the room could not be joined")
        except asyncio.CancelledError:
            self._ending = Ending.CARRIER_STOPPED
            raise
        finally:
            await self._end(error or twirp.canceled())

    async def _end(self, error: twirp.TwirpError) -> None:
        ending = self._ending or Ending.LINE_LOST
        if not self._leg.gone.done() and ending not in _REASON_OF:
            await self._leg.show(Status.HANGUP)
        self._status = Status.HANGUP
        self._stamp("ended")
        self._sip_status = self._sip_status or (_TERMINATED if ending is not Ending.ROOM_UNREACHABLE else 0)
        await self._leg.leave(_REASON_OF.get(ending, rtc.DisconnectReason.CLIENT_INITIATED))
        if not self.joined.done():
            self.joined.set_exception(error)
        if not self.answered.done():
            self.answered.set_exception(error)
        await self.phone.finish()
        self.ended.set_result(self.log)

    async def _ring_in(self) -> Ending:
        await self._join()
        self._stamp("ringing")
        await self.phone.prepare()
        try:
            async with asyncio.timeout(self.place.ringing_s):
                await self._leg.agent_audible.wait()
        except TimeoutError:
            self._sip_status = _REJECTED
            raise _Over(Ending.UNANSWERED) from None
        return await self._converse(Event.ANSWERED)

    async def _ring_out(self, callee: Callee, digits: str, *, allowed: bool) -> Ending:
        await self._join()
        await self.phone.prepare()
        if not allowed:
            self._refuse(503, "CPS limit exceeded")
        try:
            async with asyncio.timeout(self.place.ringing_s):
                await self._await_answer(callee)
        except TimeoutError:
            self._sip_status = callee.status if callee.way is Way.NO_RESPONSE else _TERMINATED
            raise _Over(Ending.UNANSWERED, twirp.timed_out()) from None
        if digits:
            await self._send_digits(digits)
        return await self._converse(Event.DIGITS_SENT if digits else Event.ANSWERED)

    async def _await_answer(self, callee: Callee) -> None:
        if callee.way is Way.NO_RESPONSE:
            await asyncio.Event().wait()
        await asyncio.sleep(callee.trying_ms / 1000)
        if callee.way is Way.WANTS_CREDENTIALS:
            self._sip_status = callee.status
            raise _Over(Ending.REFUSED, twirp.TwirpError("failed_precondition", _NO_CREDENTIALS))
        if callee.way is Way.REFUSES and not callee.ring_ms:
            self._refuse(callee.status, callee.phrase)
        await self._move(Event.RINGS)
        self._stamp("ringing")
        if callee.way is Way.RINGS_OUT:
            await asyncio.Event().wait()
        await asyncio.sleep(callee.ring_ms / 1000)
        if callee.way is Way.REFUSES:
            self._refuse(callee.status, callee.phrase)

    def _refuse(self, status: int, phrase: str) -> None:
        self._sip_status = status
        raise _Over(Ending.REFUSED, twirp.refused("INVITE", status, phrase))

    async def _send_digits(self, digits: str) -> None:
        await self._move(Event.ANSWERED_WITH_DIGITS)
        for digit in digits:
            if digit == "w":
                await asyncio.sleep(_DIGIT_PAUSE_S)
            else:
                self.phone.hear_digit(digit)
                await asyncio.sleep(_DIGIT_S)

    async def _converse(self, event: Event) -> Ending:
        self._sip_status = _OK
        self._stamp("answered")
        await self._move(event)
        if not self.answered.done():
            self.answered.set_result(None)
        return await self.phone.talk(self._leg)

    async def _join(self) -> None:
        extra = {"sip.callIDFull": uuid.uuid4().hex, "sip.callTag": uuid.uuid4().hex[:12]}
        sid = await self._leg.join(self._status, extra)
        self._stamp("joined")
        self.joined.set_result(sid)

    async def _move(self, event: Event) -> None:
        self._status = after(self._status, event)
        await self._leg.show(self._status)

    async def _unless_gone(self, course: Coroutine[Any, Any, Ending]) -> Ending:
        """The end of ``course``, unless the room, the phone or the clock ends the call first."""
        task = asyncio.create_task(course)
        try:
            waited = (task, self._leg.gone, self._wants_over)
            await asyncio.wait(waited, timeout=self.place.max_call_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self._leg.gone.done():
                raise _Over(_ENDING_OF.get(self._leg.gone.result(), Ending.LINE_LOST))
            if self._wants_over.done():
                return self._wants_over.result()
            raise _Over(
                Ending.MAX_DURATION,
                twirp.TwirpError("failed_precondition", "twirp error unknown: context deadline exceeded"),
            )
        finally:
            task.cancel()
            await asyncio.wait((task,))
            _looked_at(task)

    def _stamp(self, what: str) -> None:
        self._at.setdefault(what, round(time.monotonic() - self._started, 4))

    def _since_start(self, at: float | None) -> float | None:
        return None if at is None else round(at - self._started, 4)


def _looked_at(future: asyncio.Future[Any]) -> None:
    # Not everybody waits for the answer, and a failure that nobody looks at would be logged as forgotten.
    if not future.cancelled():
        future.exception()
