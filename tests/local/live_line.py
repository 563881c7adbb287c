"""A caller's line to the local Live endpoint through the real google-genai client, built as production builds it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession
from google.oauth2 import service_account

from cluster.local.live import LiveEndpoint
from cluster.local.scenario import Scenario
from tests.local.headless import Caller

MODEL = "gemini-3.8-live"
SCENARIO: dict[str, Any] = {
    "agents": [
        {
            "name": "baker",
            "greeting": "Hello.",
            "otherwise": "Pardon?",
            "answer_after_ms": 20,
            "exchanges": [
                {"when": "What time do you open?", "say": "We open at eight."},
                {
                    "when": "Tell me a long story.",
                    "say": "Once upon a time there was a baker who baked bread every day.",
                },
                {"when": "Goodbye.", "say": "Bye.", "call": {"tool": "end_call"}},
                {
                    "when": "Book a table.",
                    "call": {"tool": "book", "args": {"party_of": 2}},
                    "after_tool": "It is booked.",
                },
            ],
            "prompts": [{"contains": "silent", "say": "Hello?"}],
            "caller": [{"say": "What time do you open?"}, {"say": "Goodbye."}],
        }
    ]
}


def scenario(**changes: Any) -> Scenario:
    """The test scenario with these top-level fields changed; nothing is decoded unless it says so."""
    return Scenario.model_validate({"transcribe": "off"} | SCENARIO | changes)


def scripted(*lines: str, **changes: Any) -> Scenario:
    """The test scenario in which the caller says these lines."""
    agent = SCENARIO["agents"][0] | {"caller": [{"say": line} for line in lines]}
    return scenario(agents=[agent], **changes)


def client(endpoint: LiveEndpoint, *, account: Path | None = None, api_key: str = "k") -> genai.Client:
    """A client for the Developer API, or for Vertex AI with this service account file."""
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    options = {
        "ssl": context,
        "verify": context,
        "ping_interval": None,
        "compression": None,
        "close_timeout": 1,
        "open_timeout": 10,
        "max_size": None,
        "proxy": None,
    }
    http = types.HttpOptions(base_url=endpoint.url, async_client_args=options, client_args={"verify": context})
    if account is None:
        http.api_version = "v1beta"
        return genai.Client(api_key=api_key, http_options=http)
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = service_account.Credentials.from_service_account_file(account, scopes=scopes)
    return genai.Client(vertexai=True, project="p", location="l", credentials=credentials, http_options=http)


def config(**changes: Any) -> types.LiveConnectConfig:
    """What Ringmaster asks for, with a short silence so that tests are quick."""
    detection = {"silence_duration_ms": 200, "prefix_padding_ms": 20}
    fields: dict[str, Any] = {
        "response_modalities": ["AUDIO"],
        "system_instruction": "You are a baker.",
        "input_audio_transcription": {},
        "output_audio_transcription": {},
        "realtime_input_config": {"automatic_activity_detection": detection},
        "tools": [{"function_declarations": [{"name": "end_call"}, {"name": "book"}]}],
    }
    return types.LiveConnectConfig.model_validate(fields | changes)


class Line:
    """Sends the caller's audio, ``speed`` times as fast as it is spoken, and keeps everything that comes back."""

    def __init__(self, session: AsyncSession, speed: float = 1.0) -> None:
        self.session = session
        self.caller = Caller(self._send, speed=speed)
        self.messages: list[types.LiveServerMessage] = []
        self.arrived_at: list[float] = []
        self.error: Exception | None = None
        self._news = asyncio.Event()

    async def say(self, pcm16: bytes) -> float:
        """Puts speech on the line; returns when its last piece was sent, with that time."""
        return await self.caller.say(pcm16)

    async def prompt(self, text: str) -> None:
        """Written input that wants an answer."""
        turn = types.Content(role="user", parts=[types.Part(text=text)])
        await self.session.send_client_content(turns=turn, turn_complete=True)

    async def answer_tool(self, call: types.FunctionCall, **fields: Any) -> None:
        """A function's result."""
        response = types.FunctionResponse(id=call.id, name=call.name, response={"my_key": "done"}, **fields)
        await self.session.send_tool_response(function_responses=[response])

    async def until(self, wanted: Callable[[types.LiveServerMessage], Any], count: int = 1) -> types.LiveServerMessage:
        """Waits for the ``count``-th message that is wanted, counted from the start."""
        async with asyncio.timeout(20):
            while True:
                fitting = [message for message in self.messages if wanted(message)]
                if len(fitting) >= count:
                    return fitting[count - 1]
                if self.error is not None:
                    raise self.error
                self._news.clear()
                await self._news.wait()

    async def turns(self, count: int) -> None:
        """Waits until so many turns are complete."""
        await self.until(turn_complete, count)

    async def failure(self) -> errors.APIError:
        """Waits until the connection has failed."""
        with contextlib.suppress(errors.APIError):
            await self.until(lambda _: False)
        assert isinstance(self.error, errors.APIError)
        return self.error

    def audio_16khz(self) -> bytes:
        """Everything that the agent said, for a recogniser."""
        pcm16 = b"".join(message.data or b"" for message in self.messages)
        return bytes(soxr.resample(np.frombuffer(pcm16, "<i2"), 24_000, 16_000).tobytes())

    def said(self) -> str:
        """The output transcript so far."""
        return "".join(
            content.output_transcription.text or "" for content in self.contents() if content.output_transcription
        )

    def heard(self) -> list[str]:
        """The input transcripts so far."""
        return [content.input_transcription.text or "" for content in self.contents() if content.input_transcription]

    def contents(self) -> list[types.LiveServerContent]:
        """The server content of all messages."""
        return [message.server_content for message in self.messages if message.server_content]

    def usages(self) -> list[types.UsageMetadata]:
        """All usage records."""
        return [message.usage_metadata for message in self.messages if message.usage_metadata]

    async def read(self) -> None:
        """Receives until the connection ends."""
        try:
            while True:
                async for message in self.session.receive():
                    self.messages.append(message)
                    self.arrived_at.append(time.monotonic())
                    self._news.set()
        except errors.APIError as error:
            self.error = error
            self._news.set()

    async def stream(self) -> None:
        """Sends one piece after the other: speech if there is any, else silence."""
        await self.caller.run()

    async def _send(self, pcm16: bytes) -> None:
        await self.session.send_realtime_input(audio=types.Blob(data=pcm16, mime_type="audio/pcm;rate=16000"))


def turn_complete(message: types.LiveServerMessage) -> bool:
    """Whether it ends a turn."""
    return bool(message.server_content and message.server_content.turn_complete)


def interrupted(message: types.LiveServerMessage) -> bool:
    """Whether it says that the caller spoke over the agent."""
    return bool(message.server_content and message.server_content.interrupted)


def generated(message: types.LiveServerMessage) -> bool:
    """Whether it says that the answer is complete, though it is still being played."""
    return bool(message.server_content and message.server_content.generation_complete)


def resumable(message: types.LiveServerMessage) -> bool:
    """Whether it brings a handle."""
    return bool(message.session_resumption_update and message.session_resumption_update.resumable)


async def new_handle(line: Line, count: int = 1) -> str:
    """The ``count``-th handle of this connection."""
    message = await line.until(resumable, count)
    assert message.session_resumption_update
    return message.session_resumption_update.new_handle or ""


def calls(message: types.LiveServerMessage) -> list[types.FunctionCall]:
    """The function calls in it."""
    return list(message.tool_call.function_calls or []) if message.tool_call else []


@contextlib.asynccontextmanager
async def dial(
    endpoint: LiveEndpoint,
    *,
    account: Path | None = None,
    model: str = MODEL,
    streams: bool = True,
    speed: float = 4.0,
    **changes: Any,
) -> AsyncIterator[Line]:
    """A set-up session; leaving the block closes it. ``streams`` False sends no audio by itself."""
    async with client(endpoint, account=account).aio.live.connect(model=model, config=config(**changes)) as session:
        assert session.setup_complete is not None
        line = Line(session, speed)
        tasks = [asyncio.create_task(line.read())]
        if streams:
            tasks.append(asyncio.create_task(line.stream()))
        try:
            yield line
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
