"""One Gemini Live session: set up, read by one task for ever, written to without waiting.

A session can be set up long before its call (parked) and is then handed over inside the process. What it says while
nobody listens is kept, so that a parked session's death is seen at once and not at the first word.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import certifi
from google import genai
from google.genai import errors, types
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from cluster.call.faults import NO_CONNECTION, Fault, Stage
from cluster.call.live_messages import Broken, LiveMessage, parse
from cluster.call.live_setup import live_config
from cluster.call.playout import UplinkQueue

if TYPE_CHECKING:
    from pathlib import Path

    from google.genai.live import AsyncSession

    from cluster.call.events import Scheduling
    from cluster.profiles import Profile
    from cluster.settings import LiveSettings

INPUT_HZ = 16_000
INPUT_MIME = f"audio/pcm;rate={INPUT_HZ}"
UPLINK_MAX_MS = 2_000
"""A caller's last two seconds are worth sending late; more would only delay the answer."""
PIECE_BYTES = INPUT_HZ * 2 // 10
"""100 ms: what has gathered goes out in pieces that the service knows."""
CLOSE_TIMEOUT_S = 1
"""The websockets default of 10 s would hold every hang-up for as long as a dead server does not answer."""
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class LiveUnavailable(Exception):
    """The session could not be set up; `fault` says why, without keys or tokens."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def make_client(settings: LiveSettings) -> genai.Client:
    """The process's one client: a second one costs 80 ms of CPU for its TLS contexts (measured).

    Keepalive pings are off, since Gemini's pongs come up to 30 s late and the default of 20 s kills live calls
    (python-genai #2935). `v1beta` is the version that the Developer API documents for Live; 3.x would choose `v1`.
    """
    trust = ssl.create_default_context(cafile=settings.ca_file or certifi.where())
    connect_args: dict[str, Any] = {
        "ssl": trust,
        "verify": trust,
        "ping_interval": None,
        "compression": None,
        "close_timeout": CLOSE_TIMEOUT_S,
        "open_timeout": settings.setup_timeout_s,
        "max_size": None,
    }
    if urlsplit(settings.base_url or "").hostname in LOOPBACK:
        connect_args["proxy"] = None
    http = types.HttpOptions(
        base_url=settings.base_url,
        api_version=None if settings.use_vertex else "v1beta",
        async_client_args=connect_args,
        client_args={"verify": trust},
    )
    if settings.use_vertex:
        return genai.Client(
            vertexai=True,
            project=settings.project,
            location=settings.location,
            credentials=_credentials(settings.credentials_file),
            http_options=http,
        )
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return genai.Client(vertexai=False, api_key=key, http_options=http)


def _credentials(file: Path | None) -> Any:
    """Service account from a file, else whatever the machine has (application default credentials)."""
    if file is None:
        return None
    from google.auth import load_credentials_from_file

    credentials, _project = load_credentials_from_file(
        str(file), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    return credentials


def rehearse() -> None:
    """Have the SDK build its models: the first message with sound in it takes 18 ms of CPU, each later one 0.6."""
    sound = {"inline_data": {"mime_type": "audio/pcm", "data": ""}}
    types.LiveServerMessage.model_validate({"server_content": {"model_turn": {"parts": [sound]}}})


class LiveSession:
    """A set-up session, made by `open_session`. It is read and written until `aclose`."""

    def __init__(self, session: AsyncSession, scope: AsyncExitStack, *, touched: bool = False) -> None:
        self.session = session
        self.opened_at = time.monotonic()
        self.touched = touched
        """It carries something of a caller, so it must never serve another one."""
        self.closed = False
        self._scope = scope
        self._uplink = UplinkQueue(frame_ms=20, max_ms=UPLINK_MAX_MS)
        self._waiting = asyncio.Event()
        self._sink: Callable[[LiveMessage], None] | None = None
        self._backlog: list[LiveMessage] = []
        self._texts: list[Callable[[], Any]] = []
        self._reader = asyncio.create_task(self._read_for_ever())
        self._writer = asyncio.create_task(self._write_for_ever())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; takes at most a second. May be called again.

        What was on its way is still delivered, since it may be a record of tokens.
        """
        self.closed = True
        self._writer.cancel()
        with suppress(Exception):  # what can't be closed in good order is gone all the same
            await self._scope.aclose()
        await asyncio.wait([self._reader, self._writer], timeout=CLOSE_TIMEOUT_S)
        self._reader.cancel()
        await asyncio.wait([self._reader])

    def attach(self, sink: Callable[[LiveMessage], None]) -> None:
        """From now on every message goes to `sink`, those that came before first."""
        self._sink = sink
        backlog, self._backlog = self._backlog, []
        for message in backlog:
            sink(message)

    def detach(self) -> None:
        """Nobody listens any more: the phone was not answered, and the session waits for another call."""
        self._sink = None

    def send_audio(self, pcm: bytes) -> None:
        """Queue caller audio: 16-bit mono PCM at 16 kHz. Never waits; under back-pressure the oldest gives way."""
        self.touched = True
        self._uplink.put(pcm)
        self._waiting.set()

    def take_back_audio(self) -> bytes:
        """The queued audio that was not sent yet."""
        return self._uplink.take_all()

    def send_text(self, text: str, *, respond: bool, as_realtime: bool) -> None:
        """Queue a text for the model; `as_realtime` for models that take no client content after setup."""
        if as_realtime:
            self._queue(lambda: self.session.send_realtime_input(text=text))
        else:
            turn = types.Content(role="user", parts=[types.Part(text=text)])
            self._queue(lambda: self.session.send_client_content(turns=turn, turn_complete=respond))

    def send_tool_response(
        self, call_id: str, name: str, response: dict[str, Any], scheduling: Scheduling | None = None
    ) -> None:
        """Queue the answer to a tool call."""
        when = types.FunctionResponseScheduling(scheduling) if scheduling else None
        answer = types.FunctionResponse(id=call_id, name=name, response=response, scheduling=when)
        self._queue(lambda: self.session.send_tool_response(function_responses=[answer]))

    def _queue(self, send: Callable[[], Any]) -> None:
        self.touched = True
        self._texts.append(send)
        self._waiting.set()

    def _deliver(self, message: LiveMessage) -> None:
        if self._sink is None:
            self._backlog.append(message)
        else:
            self._sink(message)

    def _lost(self, fault: Fault) -> None:
        if not self.closed:
            self.closed = True
            self._deliver(Broken(fault))

    async def _read_for_ever(self) -> None:
        """The one reader. `receive()` ends after every turn, so it is entered again until the socket closes."""
        while True:
            try:
                async for message in self.session.receive():
                    for part in parse(message):
                        self._deliver(part)
            except TypeError:
                # The SDK raises it for a message whose top-level keys it does not know; the session is fine.
                continue
            except Exception as error:  # noqa: BLE001 - whatever the SDK trips over, the call must know that it is deaf
                self._lost(fault_of(error, Stage.SESSION))
                return

    async def _write_for_ever(self) -> None:
        """The one writer: control messages first, then all the audio that has gathered, as fast as it is taken."""
        with suppress(ConnectionClosed):
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                texts, self._texts = self._texts, []
                for send in texts:
                    await send()
                pcm = self._uplink.take_all()
                for start in range(0, len(pcm), PIECE_BYTES):
                    piece = pcm[start : start + PIECE_BYTES]
                    await self.session.send_realtime_input(audio=types.Blob(data=piece, mime_type=INPUT_MIME))


async def open_session(client: genai.Client, profile: Profile, within_s: float, *, handle: str = "") -> LiveSession:
    """Connect, set up and check one session of the profile's model; `handle` resumes a conversation.

    Raises `LiveUnavailable` where the endpoint is unreachable, refuses, or does not finish the setup within
    `within_s` (the SDK itself would wait for ever).
    """
    async with AsyncExitStack() as scope:
        try:
            async with asyncio.timeout(within_s):
                session = await scope.enter_async_context(
                    client.aio.live.connect(model=profile.model, config=live_config(profile, handle))
                )
        except TimeoutError:
            reason = f"no setup from the Live endpoint within {within_s:g} s"
            raise LiveUnavailable(Fault(Stage.SETUP, NO_CONNECTION, reason, bool(handle))) from None
        except Exception as error:  # noqa: BLE001 - a connection can fail in ways that no list of exceptions has
            raise LiveUnavailable(fault_of(error, Stage.SETUP, with_handle=bool(handle))) from None
        if session.setup_complete is None:
            reason = "the Live endpoint answered the setup with something else than setupComplete"
            raise LiveUnavailable(Fault(Stage.SETUP, NO_CONNECTION, reason, bool(handle)))
        return LiveSession(session, scope.pop_all(), touched=bool(handle))


def fault_of(error: Exception, stage: Stage, *, with_handle: bool = False) -> Fault:
    """What an exception of the SDK says: code and the server's own reason, nothing of ours."""
    if type(error).__module__.startswith("google.auth"):
        return Fault(Stage.UPGRADE, HTTPStatus.UNAUTHORIZED, f"Google credentials: {type(error).__name__}")
    if isinstance(error, errors.APIError):
        return Fault(stage, error.code, str(error.details or error.message or ""), with_handle)
    if isinstance(error, InvalidStatus):
        return Fault(Stage.UPGRADE, error.response.status_code, with_handle=with_handle)
    if isinstance(error, ConnectionClosed):
        return Fault(
            stage,
            error.rcvd.code if error.rcvd else CloseCode.ABNORMAL_CLOSURE,
            error.rcvd.reason if error.rcvd else "",
        )
    reason = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
    return Fault(stage, NO_CONNECTION, reason, with_handle)
