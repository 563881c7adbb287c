"""The endpoint is as strict as the service: one test per rule, on the wire or with the real client."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from typing import Any

import pytest
import websockets
from aiohttp import ClientSession
from google.genai import errors, types
from websockets.asyncio.client import ClientConnection, connect

from cluster.local.live import LiveEndpoint
from tests.local.live_line import MODEL, client, config, dial, scenario

DEVELOPER = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"
SETUP = '{"setup":{"model":"models/gemini-3.8-live"}}'
KEY = {"x-goog-api-key": "k"}
END_CALL = {"functionDeclarations": [{"name": "end_call"}]}


def _open(endpoint: LiveEndpoint, path: str = DEVELOPER, headers: dict[str, str] | None = None) -> connect:
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    url = endpoint.url.replace("https", "wss") + path
    return connect(url, ssl=context, additional_headers=KEY if headers is None else headers, proxy=None)


async def _close_of(socket: ClientConnection, *frames: str | bytes) -> tuple[int, str]:
    """The code and reason with which the endpoint answers these frames."""
    for frame in frames:
        await socket.send(frame)
    await asyncio.wait_for(socket.wait_closed(), 10)
    return socket.close_code or 0, socket.close_reason or ""


async def test_upgrade_without_credentials_is_401() -> None:
    """No key and no token, no websocket."""
    async with LiveEndpoint(scenario()) as endpoint:
        for path, headers in ((DEVELOPER, {}), (VERTEX, {}), (DEVELOPER, {"Authorization": "Bearer t"})):
            with pytest.raises(websockets.InvalidStatus, match="401"):
                await _open(endpoint, path, headers)


async def test_an_unknown_path_is_404() -> None:
    """Only the two services are there."""
    async with LiveEndpoint(scenario()) as endpoint:
        with pytest.raises(websockets.InvalidStatus, match="404"):
            await _open(endpoint, "/ws/google.ai.generativelanguage.v1beta.GenerativeService.Other")


@pytest.mark.parametrize("path", [f"/{DEVELOPER}", f"/proxy{DEVELOPER}", f"{DEVELOPER}?key=q"])
async def test_paths_that_clients_really_use(path: str) -> None:
    """A double slash, a prefix and a key in the query all lead to the service."""
    headers = {} if "key=" in path else KEY
    async with LiveEndpoint(scenario()) as endpoint, _open(endpoint, path, headers) as socket:
        await socket.send(SETUP)
        assert await socket.recv() == b'{"setupComplete":{}}'


async def test_frames_are_binary_uncompressed_and_without_pings() -> None:
    """JSON in binary frames, no permessage-deflate; Vertex AI names the session."""
    setup = {"setup": {"model": "projects/p/locations/l/publishers/google/models/gemini-3.8-live"}}
    async with LiveEndpoint(scenario()) as endpoint, _open(endpoint, VERTEX, {"Authorization": "Bearer t"}) as socket:
        await socket.send(json.dumps(setup).encode())
        message = await socket.recv()
        assert isinstance(message, bytes)
        assert json.loads(message)["setupComplete"]["sessionId"]
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


async def test_a_wrong_key_is_1007() -> None:
    """As the service does it: the upgrade succeeds, the session does not."""
    async with LiveEndpoint(scenario(), api_key="right") as endpoint:
        with pytest.raises(errors.APIError, match="API key not valid") as refused:
            async with client(endpoint, api_key="wrong").aio.live.connect(model=MODEL, config=config()):
                pass
        assert refused.value.code == 1007
        async with client(endpoint, api_key="right").aio.live.connect(model=MODEL, config=config()) as session:
            assert session.setup_complete is not None


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (['{"realtimeInput":{"text":"hi"}}'], "first message must be setup"),
        ([SETUP, SETUP], "setup was sent before"),
        ([SETUP, "rubbish"], "Invalid JSON"),
        ([SETUP, '{"realtimeInput":{"mediaChunks":[{"data":"AAAA","mimeType":"audio/pcm"}]}}'], "deprecated"),
        ([SETUP, '{"realtimeInput":{"text":"a"},"clientContent":{}}'], "exactly one"),
        ([SETUP, '{"realtimeInput":{"activityStart":{}}}'], "automatic detection"),
        ([SETUP, '{"toolResponse":{"functionResponses":[{"id":"x-1","response":{}}]}}'], "no function of that id"),
    ],
    ids=["first", "second-setup", "json", "media-chunks", "two-keys", "activity", "tool"],
)
async def test_what_is_wrong_on_the_wire_is_1007(frames: list[str], reason: str) -> None:
    """One close per rule."""
    async with LiveEndpoint(scenario()) as endpoint, _open(endpoint) as socket:
        code, text = await _close_of(socket, *frames)
        assert code == 1007
        assert reason in text
        assert endpoint.sessions[0].close_code == 1007


async def test_the_client_that_sends_media_is_told_so() -> None:
    """The SDK's ``media=`` still makes mediaChunks; the endpoint refuses them."""
    async with LiveEndpoint(scenario()) as endpoint, dial(endpoint, streams=False) as line:
        await line.session.send_realtime_input(media=types.Blob(data=bytes(640), mime_type="audio/pcm;rate=16000"))
        failure = await line.failure()
        assert (failure.code, "media_chunks is deprecated" in str(failure)) == (1007, True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"enable_affective_dialog": True}, 1007),
        ({"proactivity": {"proactive_audio": False}}, 1007),
        ({"thinking_config": {"thinking_level": "LOW"}}, 1007),
        ({"response_modalities": ["TEXT"]}, 1007),
        ({"model": "gemini-2.0-flash-live-001"}, 1008),
    ],
    ids=["affective", "proactive", "thinking", "text", "model"],
)
async def test_setups_that_the_model_refuses(changes: dict[str, Any], code: int) -> None:
    """The real client sees the close during setup as an APIError."""
    async with LiveEndpoint(scenario()) as endpoint:
        with pytest.raises(errors.APIError) as refused:
            async with dial(endpoint, streams=False, **changes):
                pass
        assert refused.value.code == code


async def test_input_during_a_blocking_call_of_an_older_model_is_1008() -> None:
    """Models that can't listen during a call close the connection."""
    agent = {"name": "a", "greeting": "x", "prompts": [], "exchanges": [{"when": "end", "call": {"tool": "end_call"}}]}
    setup = {"setup": {"model": "models/gemini-2.5-flash-native-audio-preview-12-2025", "tools": [END_CALL]}}
    end = '{"realtimeInput":{"text":"end"}}'
    async with LiveEndpoint(scenario(agents=[agent])) as endpoint, _open(endpoint) as socket:
        await socket.send(json.dumps(setup))
        for awaited in (b"turnComplete", b"toolCall"):
            await socket.send(end)
            while awaited not in await asyncio.wait_for(socket.recv(decode=False), 10):
                continue
        code, reason = await _close_of(socket, end)
        assert (code, reason) == (1008, "Operation is not implemented, or supported, or enabled.")


async def test_client_content_on_a_history_only_model_is_1007() -> None:
    """After the first turn the 3.1 model takes no client content."""
    content = '{"clientContent":{"turns":[{"parts":[{"text":"x"}]}],"turnComplete":true}}'
    setup = '{"setup":{"model":"models/gemini-3.1-flash-live-preview"}}'
    async with LiveEndpoint(scenario()) as endpoint, _open(endpoint) as socket:
        for frame in (setup, content):
            await socket.send(frame)
        while b"modelTurn" not in await asyncio.wait_for(socket.recv(decode=False), 10):
            continue
        assert (await _close_of(socket, content))[0] == 1007


async def test_a_full_context_ends_the_connection() -> None:
    """Without compression a conversation that outgrows the window is closed with 1000."""
    async with LiveEndpoint(scenario()) as endpoint, dial(endpoint, streams=False) as line:
        await line.prompt("word " * 110_000)
        assert (await line.failure()).code == 1000


async def test_tokens_over_http() -> None:
    """The token endpoint speaks plain HTTP and says what is wrong with an assertion."""
    async with (
        LiveEndpoint(scenario()) as endpoint,
        ClientSession() as http,
        http.post(endpoint.token_url, data={"grant_type": "x"}) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["error"] == "invalid_grant"


async def test_the_meter_and_the_sessions_over_http() -> None:
    """What the endpoint counted and saw can be read from another process."""
    async with LiveEndpoint(scenario()) as endpoint, dial(endpoint, streams=False) as line, ClientSession() as http:
        await line.prompt("The call has begun.")
        await line.turns(1)
        base = endpoint.token_url.removesuffix("/token")
        async with http.get(f"{base}/_meter") as answer:
            meter = await answer.json()
        async with http.get(f"{base}/_sessions") as answer:
            (session,) = await answer.json()
        assert meter["1"]["response_audio"] == endpoint.meter[1].response_audio > 0
        assert session["turns"][0]["said"] == "Hello."
        assert session["turns"][0]["first_audio_at"] > session["turns"][0]["end_detected_at"] > session["ready_at"]


async def test_as_a_process_of_its_own() -> None:
    """One JSON line says where it is; SIGTERM ends it cleanly."""
    command = (sys.executable, "-m", "cluster.local.live", "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        assert ready["url"].startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=ready["ca_file"])
        url = ready["url"].replace("https", "wss") + DEVELOPER
        async with connect(url, ssl=context, additional_headers=KEY, proxy=None) as socket:
            await socket.send(SETUP)
            assert await socket.recv() == b'{"setupComplete":{}}'
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_process_with_a_bad_scenario_says_so() -> None:
    """One line on stderr, exit status 1."""
    command = (sys.executable, "-m", "cluster.local.live", "--scenario", "nowhere.yaml")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert stderr.decode().splitlines() == [
        "the local Live endpoint can't start: nowhere.yaml: can't be read: No such file or directory"
    ]
