"""Faults at every step of a session, as the real client sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets
from google.genai import errors, types

from cluster.local.live import LiveEndpoint
from cluster.local.live.trouble import Faults, Fuse
from cluster.local.live.usage import audio_tokens
from cluster.local.scenario import Fault
from tests.local.headless import speech
from tests.local.live_line import (
    MODEL,
    Line,
    calls,
    client,
    config,
    dial,
    generated,
    interrupted,
    new_handle,
    resumable,
    scenario,
    scripted,
    turn_complete,
)

STORY = "Tell me a long story."
TOLD = "Once upon a time there was a baker who baked bread every day."
BOOK = "Book a table."
ENDS = pytest.mark.parametrize(("do", "code"), [("close", 1008), ("abort", 1006)])
BLOCKING: dict[str, Any] = {"tools": [{"function_declarations": [{"name": "book", "behavior": "BLOCKING"}]}]}
DEADLINE = "Deadline expired before operation could complete."


def _endpoint(*faults: dict[str, Any], **changes: Any) -> LiveEndpoint:
    speed = changes.pop("clock_speed", 1.0)
    return LiveEndpoint(scenario(faults=list(faults), **changes), clock_speed=speed)


async def _greeted(line: Line) -> None:
    await line.prompt("The call has begun.")
    await line.turns(1)


async def _refused(endpoint: LiveEndpoint, handle: str | None = None) -> errors.APIError:
    with pytest.raises(errors.APIError) as refused:
        async with dial(endpoint, streams=False, session_resumption={"handle": handle} if handle else {}):
            pass
    return refused.value


async def _handle_of_a_call(endpoint: LiveEndpoint) -> str:
    async with dial(endpoint, streams=False, session_resumption={}) as line:
        await line.prompt("The call has begun.")
        return await new_handle(line)


def _go_away(message: types.LiveServerMessage) -> bool:
    return message.go_away is not None


# Which faults strike


def _fault(**fields: Any) -> Fault:
    return Fault.model_validate({"at": "setup", "do": "close"} | fields)


@pytest.mark.parametrize(
    ("fields", "struck"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"times": 2}, [1, 2]),
        ({"every": 3}, [3, 6]),
        ({"every": 2, "times": 2}, [2, 4]),
        ({"sessions": [2, 5]}, [2, 5]),
        ({"sessions": [2, 5], "every": 2}, [5]),
    ],
    ids=str,
)
def test_occasions_are_counted(fields: dict[str, Any], struck: list[int]) -> None:
    """``times`` strikes the first, ``every`` the n-th; both count only what ``sessions`` allows."""
    faults = Faults([_fault(**fields)])
    assert [session for session in range(1, 7) if faults.first("setup", session)] == struck


def test_faults_of_a_step_follow_each_other() -> None:
    """The first that is due strikes, and the next one has no occasion by that; equal ones count for themselves."""
    two = _fault(code=1011, times=2)
    faults = Faults([two, _fault(code=1008, times=1), two.model_copy()])
    struck = (faults.first("setup", session) for session in range(1, 7))
    assert [fault.code if fault else 0 for fault in struck] == [1011, 1011, 1008, 1011, 1011, 0]


def test_a_fuse_burns_once_and_in_order() -> None:
    """Several faults in one answer, in any order in the file."""
    late, early = _fault(after_ms=500), _fault(after_ms=100)
    fuse = Fuse([late, early])
    assert [fuse.burnt(audio_ms) for audio_ms in (60, 300, 600, 900)] == [[], [early], [late], []]


# Before a session is there


async def test_503_twice_and_then_fine() -> None:
    """Only so many upgrades are refused, with the service's own words."""
    async with _endpoint({"at": "upgrade", "do": "http_status", "times": 2}) as endpoint:
        for _ in range(2):
            with pytest.raises(websockets.InvalidStatus, match="503"):
                async with dial(endpoint, streams=False):
                    pass
        async with dial(endpoint, streams=False):
            assert [len(record.faults) for record in endpoint.sessions] == [1, 1, 0]


@pytest.mark.parametrize("at", ["upgrade", "setup"])
async def test_a_late_upgrade_and_a_late_setup(at: str) -> None:
    """Both come after their delay, and the session is a good one."""
    async with (
        _endpoint({"at": at, "do": "delay", "after_ms": 300}) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        record = endpoint.sessions[0]
        assert record.ready_at - record.faults[0].struck_at >= 0.3


async def test_a_client_that_does_not_wait_for_a_late_upgrade() -> None:
    """It gives up by its own limit; the endpoint serves the next one."""
    async with _endpoint({"at": "upgrade", "do": "delay", "after_ms": 1_000, "times": 1}) as endpoint:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), client(endpoint).aio.live.connect(model=MODEL, config=config()):
                pass
        async with dial(endpoint, streams=False) as line:
            await _greeted(line)


async def test_an_upgrade_that_is_cut() -> None:
    """No answer to the upgrade at all."""
    async with _endpoint({"at": "upgrade", "do": "abort"}) as endpoint:
        with pytest.raises((OSError, EOFError, websockets.InvalidMessage, websockets.ConnectionClosed)):
            async with dial(endpoint, streams=False):
                pass


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ({"do": "refuse"}, 1008, "Requested entity was not found."),
        ({"do": "close"}, 1011, "Internal error encountered."),
        ({"do": "close", "code": 1013, "reason": "Try again"}, 1013, "Try again"),
        ({"do": "abort"}, 1006, ""),
    ],
    ids=["refuse", "close", "code", "abort"],
)
async def test_a_resumption_fails_once(fault: dict[str, Any], code: int, reason: str) -> None:
    """A setup without a handle is not struck, the first one with a handle is, the second one is not."""
    async with _endpoint({"at": "resume", "times": 1} | fault) as endpoint:
        handle = await _handle_of_a_call(endpoint)
        error = await _refused(endpoint, handle)
        assert (error.code, reason in str(error)) == (code, True)
        async with dial(endpoint, streams=False, session_resumption={"handle": handle}):
            assert endpoint.sessions[2].resumed


async def test_a_resumption_that_hangs() -> None:
    """Nothing comes until the client gives up."""
    async with _endpoint({"at": "resume", "do": "hang"}) as endpoint:
        wanted = config(session_resumption={"handle": await _handle_of_a_call(endpoint)})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), client(endpoint).aio.live.connect(model=MODEL, config=wanted):
                pass


# In the agent's turn


async def test_a_turn_without_audio() -> None:
    """A turnComplete with usage and nothing else; the next turn is a good one."""
    async with _endpoint({"at": "turn", "do": "empty"}) as endpoint, dial(endpoint, streams=False) as line:
        await line.prompt("The call has begun.")
        message = await line.until(turn_complete)
        assert (message.usage_metadata is not None, line.messages) == (True, [message])
        await line.prompt("The caller is silent.")
        await line.turns(2)
        assert line.said() == "Hello?"


async def test_a_late_answer() -> None:
    """The model takes its time, then answers."""
    async with (
        _endpoint({"at": "turn", "do": "delay", "after_ms": 300}) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        record = endpoint.sessions[0]
        assert record.turns[0].first_audio_at - record.turns[0].end_detected_at >= 0.3


@ENDS
async def test_the_connection_ends_in_an_answer(do: str, code: int) -> None:
    """Once so much was sent; it is billed, and was not reported."""
    async with (
        _endpoint({"at": "answer", "turn": 2, "after_ms": 1_000, "do": do, "code": 1008}) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        await line.prompt(STORY)
        assert (await line.failure()).code == code
        record = endpoint.sessions[0]
        assert 1_000 <= record.turns[1].sent_ms < 1_300
        assert TOLD.startswith(record.turns[1].said)
        assert len([message for message in line.messages if generated(message)]) == 1
    assert [part.response_audio for part in record.generations][1:] == [audio_tokens(record.turns[1].sent_ms)]
    assert record.usage_messages == len(line.usages()) == 1


async def test_an_answer_that_stalls_can_be_woken() -> None:
    """No more audio and no turnComplete; the next input is answered."""
    async with (
        _endpoint({"at": "answer", "turn": 2, "after_ms": 500, "do": "stall"}) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        await line.prompt(STORY)
        async with asyncio.timeout(20):
            while not endpoint.sessions[0].faults:  # noqa: ASYNC110 - no message tells of it
                await asyncio.sleep(0.01)
        await line.prompt("The caller is silent.")
        await line.turns(3)
        stalled = endpoint.sessions[0].turns[1].said
        assert line.said() == f"Hello.{stalled}Hello?"
        assert len(stalled) < len(TOLD)
        assert [len([m for m in line.messages if wanted(m)]) for wanted in (interrupted, generated)] == [1, 2]


async def test_an_answer_is_cut_in_mid_sentence() -> None:
    """The turnComplete comes too early, and the function call of the answer does not come."""
    agent = {
        "name": "a",
        "greeting": "Hello.",
        "exchanges": [{"when": STORY, "say": TOLD, "call": {"tool": "end_call"}}],
    }
    async with (
        _endpoint({"at": "answer", "turn": 2, "after_ms": 500, "do": "cut"}, agents=[agent]) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        await line.prompt(STORY)
        await line.turns(2)
        said = endpoint.sessions[0].turns[1].said
        assert line.said() == f"Hello.{said}"
        assert 0 < len(said) < len(TOLD)
        assert endpoint.sessions[0].tool_calls == []
        assert endpoint.meter[1].response_audio == sum(
            audio_tokens(turn.sent_ms) for turn in endpoint.sessions[0].turns
        )


async def test_go_away_in_an_answer() -> None:
    """It comes between the pieces, and the answer is given to its end."""
    fault = {"at": "answer", "after_ms": 100, "do": "go_away", "time_left": "9.5s", "then": "nothing"}
    async with _endpoint(fault) as endpoint, dial(endpoint, streams=False) as line:
        await _greeted(line)
        message = await line.until(_go_away)
        assert message.go_away
        assert message.go_away.time_left == "9.5s"
        pieces = [index for index, piece in enumerate(line.messages) if piece.data]
        assert pieces[0] < line.messages.index(message) < pieces[-1]
        assert line.said() == "Hello."


# While the caller talks


@ENDS
async def test_the_connection_ends_while_the_caller_talks(do: str, code: int) -> None:
    """In the middle of an utterance: no turn comes of it."""
    async with (
        _endpoint({"at": "speech", "after_ms": 400, "do": do, "code": 1008}) as endpoint,
        dial(endpoint) as line,
    ):
        line.caller.begin(speech(STORY))
        assert (await line.failure()).code == code
        assert endpoint.sessions[0].turns == []
        assert endpoint.sessions[0].audio_in_ms >= 400


async def test_go_away_while_the_caller_talks() -> None:
    """In the second turn only; the utterance is answered all the same."""
    fault = {"at": "speech", "turn": 2, "after_ms": 200, "do": "go_away", "then": "nothing"}
    async with (
        LiveEndpoint(scripted("What time do you open?", STORY, faults=[fault])) as endpoint,
        dial(endpoint) as line,
    ):
        await line.say(speech("What time do you open?"))
        await line.turns(1)
        assert endpoint.sessions[0].faults == []
        await line.say(speech(STORY))
        await line.until(_go_away)
        await line.turns(2)
        assert line.said() == f"We open at eight.{TOLD}"


# While a function call waits for its result


@ENDS
@pytest.mark.parametrize("setup", [{}, BLOCKING], ids=["non-blocking", "blocking"])
async def test_the_connection_ends_in_a_function_call(do: str, code: int, setup: dict[str, Any]) -> None:
    """The call was made, its result can't be given."""
    async with (
        _endpoint({"at": "tool", "do": do, "code": 1008}) as endpoint,
        dial(endpoint, streams=False, **setup) as line,
    ):
        await _greeted(line)
        await line.prompt(BOOK)
        assert (await line.failure()).code == code
        assert (endpoint.sessions[0].tool_calls, endpoint.sessions[0].tool_results) == (["book"], [])


async def test_a_result_in_time_is_not_struck() -> None:
    """The fault waits for calls that are slow."""
    async with (
        _endpoint({"at": "tool", "do": "close", "after_ms": 600_000}) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await _greeted(line)
        await line.prompt(BOOK)
        await line.answer_tool(calls(await line.until(calls))[0])
        await line.turns(3)
        assert line.said() == "Hello.It is booked."
        assert endpoint.sessions[0].faults == []


async def test_go_away_in_a_function_call() -> None:
    """The result is taken all the same."""
    async with (
        _endpoint({"at": "tool", "do": "go_away", "then": "nothing"}) as endpoint,
        dial(endpoint, streams=False, **BLOCKING) as line,
    ):
        await _greeted(line)
        await line.prompt(BOOK)
        await line.until(_go_away)
        await line.answer_tool(calls(await line.until(calls))[0])
        await line.turns(2)
        assert line.said() == "Hello.It is booked."


@pytest.mark.parametrize("setup", [{}, BLOCKING], ids=["non-blocking", "blocking"])
async def test_a_function_call_is_taken_back(setup: dict[str, Any]) -> None:
    """The cancellation names the call, the turn ends, and a late result is not spoken."""
    async with (
        _endpoint({"at": "tool", "do": "cancel"}) as endpoint,
        dial(endpoint, streams=False, session_resumption={}, **setup) as line,
    ):
        await _greeted(line)
        await line.prompt(BOOK)
        cancelled = await line.until(lambda message: message.tool_call_cancellation)
        assert cancelled.tool_call_cancellation
        (call,) = calls(await line.until(calls))
        assert cancelled.tool_call_cancellation.ids == [call.id]
        await line.turns(2)
        await line.until(resumable, 2)
        await line.answer_tool(call)
        await line.prompt("The caller is silent.")
        await line.turns(3)
        assert line.said() == "Hello.Hello?"


# The lifecycle clock


@pytest.mark.parametrize(("then", "code"), [("close", 1011), ("abort", 1006)])
async def test_what_follows_a_go_away(then: str, code: int) -> None:
    """540 s, goAway, 50 s, and the end; the clock's speed divides both."""
    fault = {"at": "time", "after_ms": 540_000, "do": "go_away", "then": then}
    async with _endpoint(fault, clock_speed=2_000) as endpoint, dial(endpoint, streams=False) as line:
        await line.until(_go_away)
        failure = await line.failure()
        assert (failure.code, DEADLINE in str(failure)) == (code, code == 1011)
    record = endpoint.sessions[0]
    assert record.faults[0].struck_at - record.ready_at >= 0.27
    assert record.closed_at - record.faults[0].struck_at >= 0.025


async def test_silence_after_a_go_away() -> None:
    """The endpoint goes on inside, and nothing of it comes: no audio, no usage, until it closes."""
    faults = (
        {"at": "turn", "turn": 1, "do": "go_away", "then": "silent"},
        {"at": "turn", "turn": 2, "do": "close"},
    )
    async with _endpoint(*faults) as endpoint, dial(endpoint, streams=False) as line:
        await line.prompt("The call has begun.")
        await line.until(_go_away)
        await line.prompt("The caller is silent.")
        assert (await line.failure()).code == 1011
        assert [_go_away(message) for message in line.messages] == [True]
    assert endpoint.sessions[0].usage_messages == 0


async def test_a_server_that_falls_silent() -> None:
    """Without a goAway, at any time: what is asked is not answered."""
    faults = ({"at": "time", "do": "silent"}, {"at": "turn", "do": "close"})
    async with _endpoint(*faults) as endpoint, dial(endpoint, streams=False, session_resumption={}) as line:
        await line.prompt("The call has begun.")
        assert (await line.failure()).code == 1011
        assert line.messages == []
        assert [fault.do for fault in endpoint.sessions[0].faults] == ["silent", "close"]


async def test_the_end_without_a_go_away() -> None:
    """523 s and 1006."""
    async with (
        _endpoint({"at": "time", "after_ms": 523_000, "do": "abort"}, clock_speed=2_000) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        assert (await line.failure()).code == 1006
        assert line.messages == []
        record = endpoint.sessions[0]
        assert record.faults[0].struck_at - record.ready_at >= 0.26


async def test_seven_rotations_in_a_row() -> None:
    """A call of more than an hour: every connection has its own clock, and the last one knows the first one's words."""
    agent = {
        "name": "a",
        "greeting": "Hello.",
        "exchanges": [
            {"when": "My name is Sam.", "say": "Hi."},
            {"when": "What is my name?", "say": "Sam.", "needs": "my name is Sam"},
        ],
    }
    fault = {"at": "time", "after_ms": 540_000, "do": "go_away", "sessions": list(range(2, 9))}
    async with _endpoint(fault, agents=[agent], clock_speed=2_000) as endpoint:
        async with dial(endpoint, streams=False, session_resumption={}) as line:
            await _greeted(line)
            await line.prompt("My name is Sam.")
            handle = await new_handle(line, 2)
        for _ in range(7):
            async with dial(endpoint, streams=False, session_resumption={"handle": handle}) as line:
                await line.until(_go_away)
        async with dial(endpoint, streams=False, session_resumption={"handle": handle}) as line:
            await line.prompt("What is my name?")
            await line.turns(1)
            assert line.said() == "Sam."
    rotated = endpoint.sessions[1:8]
    assert [record.resumed for record in rotated] == [True] * 7
    assert all(record.faults[0].struck_at - record.ready_at >= 0.27 for record in rotated)
    assert [len(record.faults) for record in rotated] == [1] * 7
