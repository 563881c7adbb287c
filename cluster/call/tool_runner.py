"""The tools as they run: one task each, whose result comes back to the call as an event.

Rules of this file:
1. It decides nothing: how long a tool may take and who hears of it is the desk's business (`cluster.call.tools`).
2. A tool's failure is its result. Whatever a tool does, the call goes on.
3. Nothing of arguments, headers and results is logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from cluster import outcome as o
from cluster.call import events as ev
from cluster.call.http_tool import Response, fetch
from cluster.call.phone import TransferFailed, transfer
from cluster.tools import SEND_DTMF, TRANSFER_CALL, Toolbox

if TYPE_CHECKING:
    import aiohttp

    from cluster.call.room import RoomLink
    from cluster.settings import Settings

log = logging.getLogger(__name__)

TONE_GAP_S: Final = 0.3
"""From one key to the next, as LiveKit's own agents press them: slower menus miss nothing."""
PAUSES_S: Final = {"w": 0.5, "W": 1.0}
FAILED: Final = {"error": "the tool failed; tell the caller that it does not work now"}

TOO_DEAR: Final = {"error": "there is no budget left for this tool; tell the caller that it does not work now"}


class Telephone(Protocol):
    """What tools do to the phone call itself."""

    async def transfer(self, destination: str) -> None:
        """Hand the phone over. Raises `TransferFailed`: the phone is still here."""

    async def press(self, key: str) -> None:
        """Send one DTMF tone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTelephone:
    """The phone in the call's room."""

    link: RoomLink
    http: aiohttp.ClientSession
    settings: Settings
    room: str

    async def transfer(self, destination: str) -> None:
        """Hand the phone over. Raises `TransferFailed`."""
        if self.link.caller is None:
            raise TransferFailed("nobody is on the line")
        await transfer(
            self.http,
            self.settings.livekit,
            room=self.room,
            identity=self.link.caller.identity,
            destination=destination,
            ringing_s=self.settings.dispatch.ringing_timeout_s,
        )

    async def press(self, key: str) -> None:
        """Send one DTMF tone."""
        await self.link.press(key)


class ToolRunner:
    """Runs the tools of one call."""

    def __init__(
        self,
        toolbox: Toolbox,
        telephone: Telephone,
        tasks: asyncio.TaskGroup,
        feed: Callable[[ev.Event], None],
        *,
        pays: Callable[[str], Awaitable[bool]],
        call_id: str,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`pays` says of a tool, by its name, whether there is money for it."""
        self._box = toolbox
        self._pays = pays
        self._telephone = telephone
        self._tasks = tasks
        self._feed = feed
        self._call_id = call_id
        self._environment = environment
        self._running: dict[str, asyncio.Task[None]] = {}

    def carry_out(self, effect: ev.RunTool | ev.CancelTool) -> None:
        """Start a tool, or stop it."""
        match effect:
            case ev.RunTool(run_id):
                task = self._tasks.create_task(self._run(effect))
                self._running[run_id] = task
                task.add_done_callback(lambda _: self._running.pop(run_id, None))
            case ev.CancelTool(run_id) if run_id in self._running:
                self._running[run_id].cancel()

    async def _run(self, wish: ev.RunTool) -> None:
        try:
            finished = await self._finished(wish)
        except Exception as error:  # noqa: BLE001 - a tool must not end the call
            what = {"tool": wish.name, "error": type(error).__name__}
            log.error("a tool failed", extra=what)  # noqa: TRY400 - a traceback could hold arguments
            finished = ev.ToolFinished(wish.id, FAILED)
        self._feed(finished)

    async def _finished(self, wish: ev.RunTool) -> ev.ToolFinished:
        if not await self._pays(wish.name):
            return ev.ToolFinished(wish.id, TOO_DEAR)
        if wish.name == TRANSFER_CALL:
            return await self._transfer(wish)
        if wish.name == SEND_DTMF:
            return ev.ToolFinished(wish.id, await self._press(wish.args["digits"]))
        return ev.ToolFinished(wish.id, await self._ask(wish))

    async def _transfer(self, wish: ev.RunTool) -> ev.ToolFinished:
        try:
            await self._telephone.transfer(self._box.destinations[wish.args["to"]])
        except TransferFailed as error:
            return ev.ToolFinished(wish.id, {"error": f"the transfer failed: {error}; the caller is still on the line"})
        return ev.ToolFinished(wish.id, {"result": "transferred"}, o.TRANSFERRED)

    async def _press(self, digits: str) -> Response:
        for key in digits:
            if key not in PAUSES_S:
                await self._telephone.press(key)
            await asyncio.sleep(PAUSES_S.get(key, TONE_GAP_S))
        return {"result": "pressed"}

    async def _ask(self, wish: ev.RunTool) -> Response:
        tool = self._box.tools[wish.name].http
        if tool is None:
            return FAILED
        key = quote(f"{self._call_id}-{wish.id}", safe="")
        return await fetch(tool, wish.args, idempotency_key=key, environment=self._environment)
