"""LiveKit's rooms and SIP dispatch rules, through its server API.

Rules of this file:
1. No LiveKit error gets out: their texts carry tokens, and room names carry numbers.
2. What cannot be reached is tried a few times where it matters (hanging up) and is None where it is a hint.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import aiohttp
from livekit import api
from livekit.api.agent_dispatch_service import AgentDispatchService
from livekit.api.room_service import RoomService
from livekit.api.sip_service import SipService
from livekit.protocol.models import ParticipantInfo
from livekit.protocol.room import DeleteRoomRequest, ListParticipantsRequest, ListRoomsRequest
from livekit.protocol.sip import ListSIPDispatchRuleRequest

from cluster.dispatch.ports import Present, Rule
from cluster.dispatch.reconcile import Room

if TYPE_CHECKING:
    from cluster.settings import LivekitSettings

log = logging.getLogger(__name__)

DELETE_TRIES: Final = 4
FIRST_PAUSE_S: Final = 0.2
TIMEOUT_S: Final = 5.0
RULES_KEPT_S: Final = 60.0
RULES_ASKED_AGAIN_S: Final = 2.0
"""A rule that is not in the list is looked for again, but no more often than this."""


class LivekitRooms:
    """The rooms of one LiveKit server."""

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        *,
        sip_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sip_url` is set where another host than `url` serves the SIP API."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        self._rooms = RoomService(self._session, url, api_key, api_secret)
        self._dispatches = AgentDispatchService(self._session, url, api_key, api_secret)
        self._sip = SipService(self._session, sip_url or url, api_key, api_secret)
        self._clock = clock
        self._rules: dict[str, Rule] = {}
        self._rules_at = float("-inf")
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def delete(self, room: str) -> bool:
        """Hang up: everybody is put out, a phone gets its final answer. False where LiveKit could not be reached."""
        for attempt in range(DELETE_TRIES):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)
            try:
                await self._rooms.delete_room(DeleteRoomRequest(room=room))
            except api.TwirpError as error:
                if error.code == api.TwirpErrorCode.NOT_FOUND:
                    return True
            except (aiohttp.ClientError, TimeoutError):
                continue
            else:
                return True
        log.error("a room could not be deleted: LiveKit did not answer", extra={"tries": DELETE_TRIES})
        return False

    async def present(self, room: str) -> Sequence[Present] | None:
        """Who is in the room, nobody if there is no such room; None if LiveKit did not answer."""
        try:
            answer = await self._rooms.list_participants(ListParticipantsRequest(room=room))
        except (api.TwirpError, aiohttp.ClientError, TimeoutError):
            return None
        return [Present(ParticipantInfo.Kind.Name(p.kind), dict(p.attributes)) for p in answer.participants]

    async def all(self) -> Sequence[Room] | None:
        """Every room; None if LiveKit did not answer."""
        try:
            answer = await self._rooms.list_rooms(ListRoomsRequest())
        except (api.TwirpError, aiohttp.ClientError, TimeoutError):
            return None
        return [Room(room.name, room.sid, room.creation_time_ms / 1000 or room.creation_time) for room in answer.rooms]

    async def asks_for(self, room: str, agent_name: str) -> str | None:
        """The metadata with which the room asks for that agent; None if it does not, or LiveKit did not answer."""
        try:
            dispatches = await self._dispatches.list_dispatch(room)
        except (api.TwirpError, aiohttp.ClientError, TimeoutError):
            return None
        return next((one.metadata for one in dispatches if one.agent_name == agent_name), None)

    async def rule(self, rule_id: str) -> Rule | None:
        """The SIP dispatch rule; None if there is none or no answer. The list is asked for about once a minute."""
        async with self._asking:
            age_s = self._clock() - self._rules_at
            if age_s > RULES_KEPT_S or (rule_id not in self._rules and age_s > RULES_ASKED_AGAIN_S):
                await self._ask_for_rules()
            return self._rules.get(rule_id)

    async def _ask_for_rules(self) -> None:
        self._rules_at = self._clock()
        try:
            answer = await self._sip.list_dispatch_rule(ListSIPDispatchRuleRequest())
        except (api.TwirpError, aiohttp.ClientError, TimeoutError) as error:
            what = {"error": type(error).__name__}
            log.warning("the SIP dispatch rules cannot be read: there are no early hints", extra=what)
            return
        self._rules = {
            item.sip_dispatch_rule_id: Rule(
                item.sip_dispatch_rule_id, {agent.agent_name: agent.metadata for agent in item.room_config.agents}
            )
            for item in answer.items
        }


def open_rooms(livekit: LivekitSettings) -> LivekitRooms:
    """The rooms of the LiveKit server that the settings name."""
    secret = livekit.api_secret.get_secret_value()
    return LivekitRooms(livekit.url, livekit.api_key, secret, sip_url=livekit.sip_url)
