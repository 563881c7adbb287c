"""What a conversation remembers, what a handle restores and loses, and what was reported of its cost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from google.genai import errors, types

from cluster.local.live import LiveEndpoint
from tests.local.headless import CHUNK_BYTES, Caller, speech
from tests.local.live_line import Line, calls, dial, new_handle, scenario, scripted, turn_complete

FACT = "My name is Sam."
QUESTION = "What is my name?"
STORY = "Tell me a long story."
SAM: dict[str, Any] = {
    "name": "a",
    "greeting": "Hello.",
    "otherwise": "Pardon?",
    "answer_after_ms": 0,
    "exchanges": [
        {"when": FACT, "say": "Hi."},
        {"when": QUESTION, "say": "Your name is Sam.", "needs": "name is Sam"},
        {"when": "Who greeted me?", "say": "I did.", "needs": "hello"},
        {"when": "Is it booked?", "say": "Yes.", "needs": "done"},
        {"when": "Book a table.", "call": {"tool": "book"}},
    ],
    "caller": [{"say": FACT}, {"say": QUESTION}],
}
BLOCKING: dict[str, Any] = {"tools": [{"function_declarations": [{"name": "book", "behavior": "BLOCKING"}]}]}
RESUMABLE: dict[str, Any] = {"session_resumption": {}}


def _sam(**changes: Any) -> LiveEndpoint:
    return LiveEndpoint(scenario(agents=[SAM], **changes))


def _resuming(handle: str) -> dict[str, Any]:
    return {"session_resumption": {"handle": handle}}


async def _ask(line: Line, text: str) -> str:
    """What the agent says to this written prompt."""
    before, turns = line.said(), len([message for message in line.messages if turn_complete(message)])
    await line.prompt(text)
    await line.turns(turns + 1)
    return line.said().removeprefix(before)


# Memory


async def test_what_was_told_is_remembered() -> None:
    """Written words, the agent's own words and a function's result; what was not said is not known."""
    async with _sam() as endpoint, dial(endpoint, streams=False) as line:
        assert await _ask(line, "The call has begun.") == "Hello."
        assert await _ask(line, QUESTION) == "Pardon?"
        assert await _ask(line, "Who greeted me?") == "I did."
        assert await _ask(line, FACT) == "Hi."
        assert await _ask(line, QUESTION) == "Your name is Sam."
        assert await _ask(line, "Is it booked?") == "Pardon?"
        assert await _ask(line, "Book a table.") == ""
        await line.answer_tool(calls(await line.until(calls))[0])
        assert await _ask(line, "Is it booked?") == "Yes."


async def test_what_was_spoken_is_remembered() -> None:
    """The caller's words count as they were heard, with the session's own transcript or without."""
    async with _sam() as endpoint, dial(endpoint, input_audio_transcription=None) as line:
        await line.say(speech(FACT))
        await line.turns(1)
        await line.say(speech(QUESTION))
        await line.turns(2)
        assert line.said() == "Hi.Your name is Sam."


async def test_a_handle_carries_the_memory_and_a_fresh_session_does_not() -> None:
    """The planted fact tells the two apart."""
    async with _sam() as endpoint:
        async with dial(endpoint, streams=False, **RESUMABLE) as line:
            await _ask(line, "The call has begun.")
            await _ask(line, FACT)
            handle = await new_handle(line, 2)
        async with dial(endpoint, streams=False, **_resuming(handle)) as line:
            assert await _ask(line, QUESTION) == "Your name is Sam."
        async with dial(endpoint, streams=False) as line:
            await _ask(line, "The call has begun.")
            assert await _ask(line, QUESTION) == "Pardon?"


@pytest.mark.parametrize("how", ["history", "content", "text", "instructions"])
async def test_a_replayed_summary_carries_the_memory(how: str) -> None:
    """A fresh session knows what it is told by any of the written ways."""
    changes: dict[str, Any] = {}
    if how == "history":
        changes["history_config"] = {"initial_history_in_client_content": True}
    elif how == "instructions":
        changes["system_instruction"] = f"So far the caller said: {FACT}"
    turn = types.Content(role="user", parts=[types.Part(text=FACT)])
    async with _sam() as endpoint, dial(endpoint, streams=False, **changes) as line:
        if how == "text":
            await line.session.send_realtime_input(text=FACT)
            await line.turns(1)
        elif how != "instructions":
            await line.session.send_client_content(turns=turn, turn_complete=how == "history")
        if how != "text":
            await _ask(line, "The call has begun.")
        assert await _ask(line, QUESTION) == "Your name is Sam."


# Handles


async def test_what_came_after_the_handle_is_lost() -> None:
    """A session resumed from an older handle has not heard the newest turns, and is not billed for them."""
    async with _sam() as endpoint:
        async with dial(endpoint, streams=False, **RESUMABLE) as line:
            await _ask(line, "The call has begun.")
            handle = await new_handle(line)
            await _ask(line, FACT)
            assert await _ask(line, QUESTION) == "Your name is Sam."
        async with dial(endpoint, streams=False, **_resuming(handle)) as line:
            assert await _ask(line, QUESTION) == "Pardon?"
        greeting = endpoint.sessions[0].generations[0]
        assert endpoint.sessions[1].generations[0].prompt_audio == greeting.response_audio


def _resumability(line: Line) -> list[bool]:
    updates = (message.session_resumption_update for message in line.messages)
    return [bool(update.resumable) for update in updates if update]


@pytest.mark.parametrize("setup", [{}, BLOCKING], ids=["non-blocking", "blocking"])
async def test_no_handle_in_a_function_call(setup: dict[str, Any]) -> None:
    """From the start of the turn until the result is in, the session can't be resumed."""
    async with _sam() as endpoint, dial(endpoint, streams=False, **RESUMABLE, **setup) as line:
        await _ask(line, "The call has begun.")
        await new_handle(line)
        await line.prompt("Book a table.")
        (call,) = calls(await line.until(calls))
        if not setup:
            await line.turns(2)
        assert _resumability(line) == [False, True, False]
        await line.answer_tool(call)
        await new_handle(line, 2)
        assert _resumability(line) == [False, True, False, True]


@pytest.mark.parametrize("rule", ["refused", "allowed"])
async def test_a_resumption_while_the_conversation_is_still_connected(rule: str) -> None:
    """Refused with 1011 or taken; also if the open connection was itself resumed from that handle."""
    async with _sam(resume_while_open=rule) as endpoint:
        async with dial(endpoint, streams=False, **RESUMABLE) as line:
            await _ask(line, "The call has begun.")
            await _ask(line, FACT)
            handle = await new_handle(line, 2)
        async with dial(endpoint, streams=False, **_resuming(handle)):
            if rule == "refused":
                with pytest.raises(errors.APIError) as refused:
                    async with dial(endpoint, streams=False, **_resuming(handle)):
                        pass
                assert refused.value.code == 1011
            else:
                async with dial(endpoint, streams=False, **_resuming(handle)) as line:
                    assert await _ask(line, QUESTION) == "Your name is Sam."


async def test_an_utterance_that_is_sent_again_is_the_same_line() -> None:
    """Nothing is decoded here: the line's number is restored by the handle."""
    fault = {"at": "answer", "turn": 3, "do": "abort", "sessions": [1]}
    lines = ("What time do you open?", STORY, "Goodbye.")
    async with LiveEndpoint(scripted(*lines, faults=[fault])) as endpoint:
        async with dial(endpoint, **RESUMABLE) as line:
            await line.prompt("The call has begun.")
            await line.turns(1)
            await line.say(speech(lines[0]))
            handle = await new_handle(line, 2)
            line.caller.begin(speech(STORY))
            await line.failure()
        async with dial(endpoint, **_resuming(handle)) as line:
            await line.say(speech(STORY))
            await line.turns(1)
            await line.say(speech(lines[2]))
            await line.turns(2)
            assert line.heard() == list(lines[1:])
            assert line.said() == "Once upon a time there was a baker who baked bread every day.Bye."


# The meter


@pytest.mark.parametrize("vertex", [False, True], ids=["developer", "vertex"])
async def test_what_is_reported_is_what_the_client_was_told(tmp_path: Path, *, vertex: bool) -> None:
    """To the token, for each session and in total, also if generations were cut by a fault."""
    faults = [{"at": "answer", "turn": 2, "after_ms": 300, "do": "close", "sessions": [1]}]
    async with LiveEndpoint(scenario(faults=faults)) as endpoint:
        account = endpoint.write_service_account(tmp_path / "account.json") if vertex else None
        told: list[list[types.UsageMetadata]] = []
        for _ in range(2):
            async with dial(endpoint, account=account, streams=False) as line:
                await _ask(line, "The call has begun.")
                await line.prompt(STORY)
                await line.until(turn_complete, 2) if told else await line.failure()
                told.append(line.usages())
        meter = await _meter(endpoint)
    for number, usages in enumerate(told, 1):
        reported = endpoint.reported[number]
        assert sum(usage.prompt_token_count or 0 for usage in usages) == reported.prompt
        assert sum(usage.response_token_count or 0 for usage in usages) == reported.response
        assert _audio_told(usages) == (reported.prompt_audio, reported.response_audio)
        assert meter[str(number)]["reported"]["messages"] == len(usages)
    assert meter["1"]["response_audio"] > meter["1"]["reported"]["response_audio"]
    assert meter["2"]["response_audio"] == meter["2"]["reported"]["response_audio"]
    for part in (meter, {number: session["reported"] for number, session in meter.items()}):
        assert part["total"]["prompt_audio"] == part["1"]["prompt_audio"] + part["2"]["prompt_audio"]
    assert meter["total"]["reported"]["transcript"] == 0 < meter["total"]["transcript"]


def _audio_told(usages: list[types.UsageMetadata]) -> tuple[int, int]:
    def total(details: list[types.ModalityTokenCount] | None) -> int:
        return sum(item.token_count or 0 for item in details or [] if item.modality == types.MediaModality.AUDIO)

    prompt = sum(total(usage.prompt_tokens_details) for usage in usages)
    return prompt, sum(total(usage.response_tokens_details) for usage in usages)


async def _meter(endpoint: LiveEndpoint) -> dict[str, Any]:
    url = endpoint.token_url.removesuffix("/token") + "/_meter"
    async with ClientSession() as http, http.get(url) as answer:
        content: dict[str, Any] = await answer.json()
        return content


async def test_a_client_that_leaves_in_an_answer_has_to_pay_for_it() -> None:
    """What was sent is billed and could not be reported."""
    async with (
        LiveEndpoint(scenario(faults=[{"at": "answer", "do": "stall"}])) as endpoint,
        dial(endpoint, streams=False) as line,
    ):
        await line.prompt("The call has begun.")
        await line.until(lambda message: message.data)
    record = endpoint.sessions[0]
    assert record.total.response_audio > 0
    assert (record.reported.response_audio, record.usage_messages) == (0, 0)


# The caller without a phone


async def test_a_caller_sends_speech_and_silence_in_order() -> None:
    """Pieces of 40 ms; what is said comes whole, then silence."""
    sent: list[bytes] = []
    enough = asyncio.Event()

    async def take(piece: bytes) -> None:
        sent.append(piece)
        if len(sent) * CHUNK_BYTES > len(speech(FACT)) + 3 * CHUNK_BYTES:
            enough.set()

    caller = Caller(take, speed=50)
    running = asyncio.create_task(caller.run())
    await caller.say(speech(FACT))
    await enough.wait()
    running.cancel()
    audio = b"".join(sent)
    start = audio.index(speech(FACT)[:CHUNK_BYTES])
    assert audio[start:].startswith(speech(FACT))
    assert not any(audio[start + len(speech(FACT)) :])
    assert {len(piece) for piece in sent} == {CHUNK_BYTES}
