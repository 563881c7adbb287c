"""What goes wrong on purpose, and resumption, as the real client sees them."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
import websockets
from google.genai import errors, types

from cluster.local.live import LiveEndpoint
from tests.local.live_line import Line, client, config, dial, new_handle, scenario, turn_complete


async def _setup_error(endpoint: LiveEndpoint) -> errors.APIError:
    with pytest.raises(errors.APIError) as refused:
        async with dial(endpoint, streams=False):
            pass
    return refused.value


async def test_http_status_at_the_upgrade_for_some_sessions() -> None:
    """The first connection is refused with 429, the second is not."""
    faults = [{"at": "upgrade", "do": "http_status", "code": 429, "reason": "Quota", "sessions": [1]}]
    async with LiveEndpoint(scenario(faults=faults)) as endpoint:
        with pytest.raises(websockets.InvalidStatus, match="429"):
            async with dial(endpoint, streams=False):
                pass
        async with dial(endpoint, streams=False):
            assert len(endpoint.sessions) == 2


async def test_close_and_abort_in_setup() -> None:
    """A close shows its code and reason, a cut connection shows 1006."""
    close = {
        "at": "setup",
        "do": "close",
        "code": 1011,
        "reason": "The service is currently unavailable.",
        "sessions": [1],
    }
    async with LiveEndpoint(scenario(faults=[close, {"at": "setup", "do": "abort"}])) as endpoint:
        first, second = await _setup_error(endpoint), await _setup_error(endpoint)
        assert (first.code, second.code) == (1011, 1006)
        assert "currently unavailable" in str(first)


async def test_a_setup_that_hangs() -> None:
    """Nothing comes until the client gives up."""
    async with LiveEndpoint(scenario(faults=[{"at": "setup", "do": "hang"}])) as endpoint:
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(0.5),
                client(endpoint).aio.live.connect(model="gemini-3.8-live", config=config()),
            ):
                pass


@pytest.mark.parametrize(("do", "code"), [("close", 1011), ("abort", 1006)])
async def test_the_connection_ends_in_a_turn(do: str, code: int) -> None:
    """The second turn ends with the connection."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "turn", "turn": 2, "do": do}])) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await line.prompt("The call has begun.")
        await line.turns(1)
        await line.prompt("The caller is silent.")
        assert (await line.failure()).code == code
        assert line.said() == "Hello."


async def test_a_silent_turn_can_be_woken() -> None:
    """Nothing comes of the first prompt; the second one is answered."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "turn", "do": "silent"}])) as endpoint,
        dial(endpoint, streams=False, session_resumption={}) as line,
    ):
        await line.prompt("The call has begun.")
        await line.until(lambda message: message.session_resumption_update)
        await line.prompt("The call has begun.")
        await line.turns(1)
        assert line.said() == "Hello."


async def test_audio_near_zero() -> None:
    """The full length of audio, at no level."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "turn", "do": "near_zero"}])) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await line.prompt("The call has begun.")
        await line.turns(1)
        samples = np.frombuffer(b"".join(message.data or b"" for message in line.messages), "<i2")
        assert samples.size > 24_000 * 0.3
        assert np.abs(samples).max() < 10


async def test_a_rejected_response() -> None:
    """The turn is complete, with its reason, usage, and no audio."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "turn", "do": "rejected"}])) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await line.prompt("The call has begun.")
        await line.until(turn_complete)
        assert line.contents()[-1].turn_complete_reason == types.TurnCompleteReason.RESPONSE_REJECTED
        assert line.said() == ""


async def test_an_unknown_message_breaks_the_client_as_the_real_one_does() -> None:
    """The SDK raises TypeError on it; reading on gives the answer."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "turn", "do": "unknown_message"}])) as endpoint,
        client(endpoint).aio.live.connect(model="gemini-3.8-live", config=config()) as session,
    ):
        line = Line(session)
        await line.prompt("The call has begun.")
        with pytest.raises(TypeError):
            await line.read()
        async for message in session.receive():
            line.messages.append(message)
        assert line.said() == "Hello."


async def test_a_conversation_is_resumed() -> None:
    """With its handle the next connection knows that the greeting was said, and is billed for the context."""
    async with LiveEndpoint(scenario()) as endpoint:
        async with dial(endpoint, streams=False, session_resumption={}) as line:
            await line.prompt("The call has begun.")
            handle = await new_handle(line)
            with contextlib.suppress(errors.APIError):
                async with dial(endpoint, streams=False, session_resumption={"handle": handle}):
                    pytest.fail("resumed while the old connection was open")
            assert endpoint.sessions[1].close_code == 1011
        async with dial(endpoint, streams=False, session_resumption={"handle": handle}) as line:
            await line.prompt("The caller is silent.")
            await line.turns(1)
            assert line.said() == "Hello?"
        assert endpoint.sessions[2].resumed
        assert endpoint.meter[3].prompt_audio == endpoint.meter[1].response_audio


async def test_an_unknown_handle_is_1008() -> None:
    """Handles are not guessed."""
    async with LiveEndpoint(scenario()) as endpoint:
        with pytest.raises(errors.APIError, match="Requested entity was not found") as refused:
            async with dial(endpoint, streams=False, session_resumption={"handle": "x"}):
                pass
        assert refused.value.code == 1008


async def test_leaving_the_block_closes_open_sessions() -> None:
    """A client that is still there is told that the server goes away, and no task is left."""
    async with contextlib.AsyncExitStack() as stack:
        async with LiveEndpoint(scenario()) as endpoint:
            line = await stack.enter_async_context(dial(endpoint))
        assert (await line.failure()).code == 1001
    assert endpoint.sessions[0].closed_at > 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
