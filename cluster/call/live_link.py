"""The Live connections of one call as they run.

It carries out what `LiveDesk` plans, and passes on what the connection that serves says.

Rule of this file: it decides nothing. A connection that is not there is never waited for: what can't be sent now is on
the caller's tape, or is said anew to the next connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from cluster.call import events as ev
from cluster.call.live import INPUT_HZ, LiveUnavailable
from cluster.call.live_messages import Audio, BargeIn, Broken, LiveMessage
from cluster.call.playout import CallerTape, UplinkQueue, duration_ms
from cluster.call.usage import UsageReport

if TYPE_CHECKING:
    from cluster.call.account import Account
    from cluster.call.live import LiveSession
    from cluster.profiles import Target

TAPE_MAX_MS = 10_000
"""The longest thing that a caller says in one go; a longer one loses its beginning should the connection break."""


Opener = Callable[[int, str], Awaitable["LiveSession"]]
"""Sets up a session of one of the profile's targets, from a handle if there is one. Raises `LiveUnavailable`."""


class LiveLink:
    """The connections of one call, by number."""

    def __init__(
        self,
        opener: Opener,
        tasks: asyncio.TaskGroup,
        *,
        account: Account,
        targets: Sequence[Target],
        feed: Callable[[ev.Event], None],
        on_message: Callable[[Audio | BargeIn | ev.Event], None],
        triggers: Sequence[str],
    ) -> None:
        """`account` sees what every connection says, `on_message` what the one that serves does.

        `triggers` says how a text reaches the model of each target, see `cluster.models`.
        """
        self._opener = opener
        self._tasks = tasks
        self._feed = feed
        self._on_message = on_message
        self._account = account
        self._targets = targets
        self._triggers = triggers
        self._trigger = triggers[0]
        self._sessions: dict[int, LiveSession] = {}
        self._early: dict[int, list[Audio | BargeIn | ev.Event]] = {}
        self._serving = 0
        self._tape = CallerTape(INPUT_HZ, TAPE_MAX_MS)
        self._held = UplinkQueue(frame_ms=20, max_ms=TAPE_MAX_MS)
        self._closing: set[asyncio.Task[None]] = set()
        self._holding = False
        self._postponed: list[ev.Prompt] = []

    def carry_out(self, effect: ev.LiveEffect) -> None:
        """Do what was planned. What is meant for the model is dropped while no connection serves."""
        match effect:
            case ev.OpenLive(connection):
                self._early[connection] = []
                self._tasks.create_task(self._open(effect))
            case ev.SwitchLive(connection):
                self._serving, self._trigger = connection, self._triggers[effect.target]
                for message in self._early.pop(connection, []):
                    self._on_message(message)
            case ev.DropLive(connection):
                self._drop(connection)
            case ev.KeepTape(anew):
                self._tape.keep(anew=anew)
            case ev.Settled():
                self._tape.settle()
            case ev.HoldInput(hold):
                self._hold(hold=hold)
            case _:
                self._send(effect)

    def _send(self, effect: ev.Replay | ev.Prompt | ev.AnswerTool) -> None:
        if (session := self._session) is None:
            return
        match effect:
            case ev.Prompt() if self._holding:
                self._postponed.append(effect)
            case ev.Replay():
                self._send_audio(session, self._tape.recorded())
            case ev.Prompt(text, respond):
                session.send_text(text, respond=respond, as_realtime=self._trigger == "realtime_text")
            case ev.AnswerTool(call_id, name, response, scheduling):
                session.send_tool_response(call_id, name, dict(response), scheduling)

    def _hold(self, *, hold: bool) -> None:
        """Keep the caller's audio back while the model takes nothing but a tool's result, then send it."""
        self._holding = hold
        if hold:
            if (session := self._session) is not None and (unsent := session.take_back_audio()):
                self._held.put(unsent)
            return
        held, postponed, self._postponed = self._held.take_all(), self._postponed, []
        for prompt in postponed:
            self._send(prompt)
        if held and (session := self._session) is not None:
            self._send_audio(session, held)

    def _drop(self, connection: int) -> None:
        """Close a connection; one that is still being opened will be closed as soon as it is."""
        self._early.pop(connection, None)
        if self._serving == connection:
            self._serving = 0
        if (session := self._sessions.pop(connection, None)) is not None:
            closing = self._tasks.create_task(self._close(connection, session))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, connection: int, session: LiveSession) -> None:
        await session.aclose()
        self._account.live_closed(connection)

    def send_audio(self, pcm: bytes) -> None:
        """Caller audio, 16-bit mono PCM at 16 kHz: to the tape, and to the connection that serves."""
        self._tape.put(pcm)
        if self._holding:
            self._held.put(pcm)
        elif (session := self._session) is not None:
            self._send_audio(session, pcm)

    async def aclose(self) -> None:
        """The call is over: read what is still on its way. A session that heard nobody is left open."""
        self._early.clear()
        for connection, session in self._sessions.items():
            if session.touched:
                await self._close(connection, session)
            else:
                session.detach()

    @property
    def _session(self) -> LiveSession | None:
        return self._sessions.get(self._serving)

    def _send_audio(self, session: LiveSession, pcm: bytes) -> None:
        session.send_audio(pcm)
        self._account.sent(self._serving, duration_ms(len(pcm), INPUT_HZ) / 1000)

    async def _open(self, wish: ev.OpenLive) -> None:
        target = self._targets[wish.target]
        if wish.handle and self._closing:
            # The service refuses to resume a conversation while its old connection is open.
            await asyncio.wait(self._closing)
        try:
            session = await self._opener(wish.target, wish.handle)
        except LiveUnavailable as error:
            self._account.live_failed(target, error.fault)
            self._feed(ev.LiveFailed(wish.connection, error.fault))
            return
        if wish.connection not in self._early:
            await session.aclose()
            return
        self._sessions[wish.connection] = session
        self._account.live_opened(wish.connection, target, session.opened_at)
        session.attach(lambda message: self._hear(wish, message))
        self._feed(ev.LiveOpened(wish.connection, time.monotonic() - session.opened_at))

    def _hear(self, wish: ev.OpenLive, message: LiveMessage) -> None:
        self._account.see(wish.connection, message)
        if isinstance(message, Broken):
            self._account.live_failed(self._targets[wish.target], message.fault)
            self._feed(ev.LiveBroke(wish.connection, message.fault))
        elif isinstance(message, UsageReport):
            pass
        elif wish.connection == self._serving:
            self._on_message(message)
        elif wish.connection in self._early:
            self._early[wish.connection].append(message)
