"""The carrier: LiveKit's SIP API and a telephone network behind it, for rooms of a real livekit-server.

It is reached as the real service is, by URL and key. Its phones are real participants; their numbers decide what they
do (`cluster.local.carrier.numbers`). A call that it was asked for goes on when the asker goes away.
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Self

from livekit.protocol import sip as pb

from cluster.local.carrier import routing, twirp
from cluster.local.carrier.call import Call
from cluster.local.carrier.leg import Livekit
from cluster.local.carrier.numbers import Callee, CallsPerSecond, Way, callee_of
from cluster.local.carrier.phone import Phone, Step, steps_of
from cluster.local.carrier.record import CallLog, Direction, Ending
from cluster.local.carrier.registry import Registry, check_hostname
from cluster.local.recognizer import RecognizerProcess
from cluster.local.scenario import SHIPPED, Agent, Scenario, load_scenario
from cluster.local.speech import Speaker

_ALPHABET: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 12
_RINGING_S: Final = 30.0
"""What the API gives a call without `ringing_timeout`."""
_WAIT_FOR_ANSWER_S: Final = 80.0
"""livekit-server's own cap on `wait_until_answered`."""
_MAX_KEPT: Final = 2000
_MAX_DISPLAY_NAME: Final = 128


def new_id(prefix: str) -> str:
    """A LiveKit-style id: ``prefix`` and twelve letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


class Carrier:
    """One carrier with its trunks, rules, phones and call log.

    ``scenario`` scripts the phones, each by the caller's part of one of its agents: that of the first agent where an
    inbound call names none, that of ``outbound_script``, else of the last agent, for phones that are dialled.
    ``calls_per_second`` limits each outbound trunk. ``transcribe`` has a process of its own understand what the phones
    hear. Raises KeyError for an ``outbound_script`` that the scenario does not have.
    """

    def __init__(
        self,
        livekit: Livekit,
        *,
        scenario: Scenario | None = None,
        outbound_script: str = "",
        calls_per_second: int | None = None,
        transcribe: bool = False,
    ) -> None:
        self.registry = Registry(new_id)
        self.livekit = livekit
        self._scenario = scenario or load_scenario(SHIPPED / "demo.yaml")
        last = self._scenario.agents[-1]
        self._dialled = self._scenario.agent(outbound_script) if outbound_script else last
        self._calls_per_second = calls_per_second
        self._recognizer = RecognizerProcess() if transcribe else None
        self._speaker = Speaker()
        self._recent = CallsPerSecond()
        self._calls: dict[str, Call] = {}
        self._logs: dict[str, CallLog] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._recognizer is not None:
            await asyncio.to_thread(self._recognizer.close)

    @property
    def calls(self) -> tuple[CallLog, ...]:
        """The call log, oldest first, live calls included; the last ``_MAX_KEPT`` ended ones."""
        return (*self._logs.values(), *(call.log for call in self._calls.values()))

    def live(self, call_id: str) -> Call:
        """The live call of this id. Raises KeyError."""
        return self._calls[call_id]

    def call_in(
        self,
        from_: str,
        to: str,
        *,
        script: str = "",
        steps: Sequence[Step] | None = None,
        scenario: Scenario | None = None,
        media: bool = True,
    ) -> Call:
        """A phone calls ``to``. It plays ``steps``, or else the caller's part of the agent named ``script``.

        Raises NoRoute if no trunk and rule take the call, KeyError for a script that the scenario does not have.
        """
        scenario = scenario or self._scenario
        agent = scenario.agent(script) if script else scenario.agents[0]
        call_id = new_id("SCL_")
        try:
            trunks, rules = self.registry.inbound_trunks, self.registry.rules
            place = routing.inbound(trunks, rules, from_=from_, to=to, call_id=call_id, suffix=new_id(""))
        except routing.NoRoute:
            self._keep(_unrouted(call_id, from_, to))
            raise
        scripted = agent.caller if media else ()
        phone = self._phone(agent, scripted if steps is None else steps, media=media)
        call = self._call(place, phone, Direction.INBOUND, call_id)
        self._start(call, call.ring_in())
        return call

    async def create_participant(self, request: pb.CreateSIPParticipantRequest) -> pb.SIPParticipantInfo:
        """Dial out. Raises TwirpError as the API does. Cancelling it cancels the wait, not the call."""
        _check_dial(request)
        trunk = self._trunk(request.sip_trunk_id)
        call_id = new_id("SCL_")
        place = routing.outbound(request, trunk, call_id, _RINGING_S)
        callee = callee_of(request.sip_call_to)
        if callee.way is Way.OVERLOADED:
            raise twirp.TwirpError("unavailable", "twirp error unknown: cpu exhausted")
        call = self._dial(request, place, callee, call_id)
        try:
            async with asyncio.timeout(_WAIT_FOR_ANSWER_S):
                sid = await asyncio.shield(call.joined)
                if request.wait_until_answered:
                    await asyncio.shield(call.answered)
        except TimeoutError:
            raise twirp.TwirpError("deadline_exceeded", "twirp error unknown: request timed out") from None
        return pb.SIPParticipantInfo(
            participant_id=sid,
            participant_identity=place.identity,
            room_name=place.room,
            sip_call_id=call_id,
        )

    async def transfer(self, request: pb.TransferSIPParticipantRequest) -> pb.TransferSIPParticipantResponse:
        """Hand a live phone over to another number, which decides how that goes. Raises TwirpError as the API does."""
        if not request.transfer_to.strip("<>").startswith(("sip:", "sips:", "tel:")):
            raise twirp.invalid("transfer_to must be a valid SIP(s) or TEL URI (sip:, sips: or tel:)")
        wanted = (request.room_name, request.participant_identity)
        call = next((call for call in self._calls.values() if (call.place.room, call.place.identity) == wanted), None)
        if call is None:
            raise twirp.invalid("no SIP session associated with participant")
        callee = callee_of(request.transfer_to)
        ringing_s = routing.seconds(request, "ringing_timeout") or _RINGING_S
        answer_s = (callee.trying_ms + callee.ring_ms) / 1000
        rings_out = callee.way in {Way.RINGS_OUT, Way.NO_RESPONSE} or answer_s > ringing_s
        await asyncio.sleep(ringing_s if rings_out else answer_s)
        if rings_out:
            raise twirp.TwirpError("deadline_exceeded", "twirp error unknown: request timed out")
        if callee.way is not Way.ANSWERS:
            raise twirp.refused("REFER", callee.status, callee.phrase)
        call.hang_up(Ending.TRANSFERRED)
        return pb.TransferSIPParticipantResponse()

    def _dial(
        self, request: pb.CreateSIPParticipantRequest, place: routing.Place, callee: Callee, call_id: str
    ) -> Call:
        phone = self._phone(self._dialled, steps_of(callee.manner, self._dialled.caller), media=True)
        call = self._call(place, phone, Direction.OUTBOUND, call_id)
        key, limit = (request.sip_call_to, callee.calls_per_second)
        if limit is None:
            key, limit = request.sip_trunk_id, self._calls_per_second
        allowed = self._recent.allows(key, limit, time.monotonic())
        self._start(call, call.ring_out(callee, digits=request.dtmf, allowed=allowed))
        return call

    def _trunk(self, trunk_id: str) -> pb.SIPOutboundTrunkInfo | None:
        if not trunk_id:
            return None
        found = self.registry.get_outbound_trunk(pb.GetSIPOutboundTrunkRequest(sip_trunk_id=trunk_id))
        return found.trunk

    def _phone(self, agent: Agent, steps: Sequence[Step], *, media: bool) -> Phone:
        recognizer, lines = self._recognizer, agent.agent_lines()

        async def understand(pcm16: bytes) -> str:
            return await recognizer.transcribe(lines, pcm16) if recognizer is not None else ""

        listens = media and recognizer is not None
        return Phone(steps, speaker=self._speaker, media=media, understand=understand if listens else None)

    def _call(self, place: routing.Place, phone: Phone, direction: Direction, call_id: str) -> Call:
        call = Call(self.livekit, place, phone, direction, call_id)
        self._calls[call_id] = call
        return call

    def _start(self, call: Call, course: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await course
            finally:
                del self._calls[call.call_id]
                self._keep(call.log)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep(self, log: CallLog) -> None:
        self._logs[log.call_id] = log
        while len(self._logs) > _MAX_KEPT:
            del self._logs[next(iter(self._logs))]


def _check_dial(request: pb.CreateSIPParticipantRequest) -> None:
    _check_way_out(request)
    if not request.sip_call_to:
        raise twirp.invalid("missing sip callee number")
    if "@" in request.sip_call_to:
        raise twirp.invalid("SipCallTo should be a phone number or SIP user, not a full SIP URI")
    if not request.room_name:
        raise twirp.invalid("missing room name")
    if len(request.display_name) > _MAX_DISPLAY_NAME:
        raise twirp.invalid("DisplayName too long (max 128 characters)")


def _check_way_out(request: pb.CreateSIPParticipantRequest) -> None:
    if not request.sip_trunk_id and not request.HasField("trunk"):
        raise twirp.invalid("missing sip trunk id")
    if request.HasField("trunk"):
        if not request.trunk.hostname:
            raise twirp.invalid("no outbound hostname specified")
        check_hostname(request.trunk.hostname, "trunk hostname")
    if not request.sip_number and not request.sip_trunk_id:
        raise twirp.TwirpError("unknown", "no numbers on outbound trunk")


def _unrouted(call_id: str, from_: str, to: str) -> CallLog:
    return CallLog(
        call_id=call_id,
        direction=Direction.INBOUND,
        number=from_,
        trunk_number=to,
        room="",
        status="hangup",
        started_at=time.time(),
        ended_s=0.0,
        ending=Ending.NO_ROUTE,
    )
