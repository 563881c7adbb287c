"""The real client talks with the local endpoint, in real speech, on both backends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.genai import types

from cluster.local.live import LiveEndpoint
from cluster.local.recognizer import Recognizer
from cluster.local.speech import Speaker
from tests.local.live_line import calls, dial, interrupted, resumable, scenario, scripted, turn_complete

SPEAKER = Speaker()


def _speech(text: str) -> bytes:
    return SPEAKER.say(text, "caller", 16_000)


@pytest.mark.parametrize("vertex", [False, True], ids=["developer", "vertex"])
async def test_a_spoken_conversation(tmp_path: Path, *, vertex: bool) -> None:
    """Greeting, a spoken question, its right transcript, the right spoken answer, and exact usage."""
    async with LiveEndpoint(scenario(transcribe="grammar")) as endpoint:
        account = endpoint.write_service_account(tmp_path / "account.json") if vertex else None
        async with dial(endpoint, account=account, speed=1.0) as line:
            session_id = line.session.setup_complete.session_id if line.session.setup_complete else None
            assert bool(session_id) == vertex
            await line.prompt("The call has begun.")
            await line.turns(1)
            await line.say(_speech("What time do you open?"))
            await line.turns(2)
        record = endpoint.sessions[0]
        assert line.heard() == ["What time do you open?"]
        assert line.said() == "Hello.We open at eight."
        ears = Recognizer([line for agent in endpoint.scenario.agents for line in agent.agent_lines()])
        assert ears.transcribe(line.audio_16khz()) == "Hello. We open at eight."
        usages = line.usages()
        assert sum(usage.prompt_token_count or 0 for usage in usages) == endpoint.meter[1].prompt
        assert sum(usage.response_token_count or 0 for usage in usages) == endpoint.meter[1].response
        assert [usage.total_token_count for usage in usages] == [
            part.prompt + part.response for part in record.generations
        ]
        assert (usages[1].prompt_token_count or 0) > (usages[0].prompt_token_count or 0)
        assert all(usage.response_tokens_details for usage in usages)
        turn = record.turns[1]
        assert turn.trigger == "speech"
        assert turn.last_speech_at < turn.end_detected_at < turn.first_audio_at < turn.ended_at
        assert turn.end_detected_at - turn.last_speech_at < 0.4
        assert turn.first_audio_at - turn.end_detected_at < 2.0


async def test_the_order_of_one_turn() -> None:
    """Audio first and faster than it is played, then generationComplete, then turnComplete with usage once played."""
    async with LiveEndpoint(scenario()) as endpoint, dial(endpoint, session_resumption={}) as line:
        await line.prompt("The call has begun.")
        await line.until(
            lambda message: message.session_resumption_update and message.session_resumption_update.resumable
        )
        kinds = [_kind(message) for message in line.messages]
        assert kinds[0] == "not resumable"
        assert [kind for kind in kinds if kind not in {"audio", "transcript"}] == [
            "not resumable",
            "generation complete",
            "turn complete",
            "resumable",
        ]
        assert kinds.index("generation complete") > kinds.index("audio")
        audio_s = sum(len(message.data or b"") for message in line.messages) / 48_000
        turn = endpoint.sessions[0].turns[0]
        assert turn.ended_at - turn.first_audio_at > audio_s - 0.1
        assert kinds.index("generation complete") == kinds.index("turn complete") - 1
        assert line.contents()[-1].interaction_status == "IDLE"


def _kind(message: types.LiveServerMessage) -> str:
    if message.session_resumption_update:
        return "resumable" if resumable(message) else "not resumable"
    content = message.server_content
    assert content is not None
    if content.turn_complete:
        return "turn complete" if message.usage_metadata else "turn complete without usage"
    if content.generation_complete:
        return "generation complete"
    return "audio" if content.model_turn else "transcript"


async def test_the_caller_interrupts() -> None:
    """``interrupted`` comes as soon as speech is heard, then turnComplete, then the new answer."""
    async with (
        LiveEndpoint(scripted("Tell me a long story.", "What time do you open?")) as endpoint,
        dial(endpoint, speed=1.0) as line,
    ):
        await line.say(_speech("Tell me a long story."))
        await line.until(lambda message: message.data)
        speech = _speech("What time do you open?")
        began = time.monotonic()
        await line.say(speech)
        await line.until(interrupted)
        at = next(index for index, message in enumerate(line.messages) if interrupted(message))
        assert line.arrived_at[at] - began < 0.25
        assert turn_complete(line.messages[at + 1])
        await line.turns(2)
        assert line.said().endswith("We open at eight.")
        story, answer = endpoint.sessions[0].turns
        assert story.interrupted_at > 0
        assert story.interrupted_at - began < 2.0
        assert answer.heard == "What time do you open?"
        kept = endpoint.sessions[0].generations[1].prompt_audio
        assert kept < endpoint.sessions[0].generations[0].response_audio + 150


async def test_without_interruption_the_caller_waits() -> None:
    """NO_INTERRUPTION: the answer is played out, and what was said over it is answered afterwards."""
    realtime = {
        "activity_handling": "NO_INTERRUPTION",
        "automatic_activity_detection": {"silence_duration_ms": 200, "prefix_padding_ms": 20},
    }
    async with (
        LiveEndpoint(scripted("What time do you open?", "Goodbye.")) as endpoint,
        dial(endpoint, realtime_input_config=realtime) as line,
    ):
        await line.say(_speech("What time do you open?"))
        await line.until(lambda message: message.data)
        await line.say(_speech("Goodbye."))
        await line.turns(2)
        assert not any(interrupted(message) for message in line.messages)
        assert line.said() == "We open at eight.Bye."


async def test_a_tool_is_called_and_its_result_spoken() -> None:
    """The call comes with its arguments untouched; after the result the agent goes on."""
    async with LiveEndpoint(scripted("Book a table.")) as endpoint, dial(endpoint) as line:
        await line.say(_speech("Book a table."))
        (call,) = calls(await line.until(calls))
        assert (call.name, call.args) == ("book", {"party_of": 2})
        await line.answer_tool(call)
        await line.turns(2)
        assert line.said() == "It is booked."
        assert endpoint.sessions[0].tool_results == ["book"]


async def test_a_silent_result_is_not_spoken() -> None:
    """SILENT results only enter the context; the next turn is about something else."""
    async with LiveEndpoint(scripted("Book a table.", "Goodbye.")) as endpoint, dial(endpoint) as line:
        await line.say(_speech("Book a table."))
        (call,) = calls(await line.until(calls))
        await line.turns(1)
        await line.answer_tool(call, scheduling="SILENT")
        await line.say(_speech("Goodbye."))
        await line.turns(2)
        assert line.said() == "Bye."


async def test_a_blocking_tool_holds_the_turn() -> None:
    """The turn is complete only after the result; the first generation's usage rides beside the call."""
    tools = [{"function_declarations": [{"name": "book", "behavior": "BLOCKING"}]}]
    async with LiveEndpoint(scripted("Book a table.")) as endpoint, dial(endpoint, tools=tools) as line:
        await line.say(_speech("Book a table."))
        message = await line.until(calls)
        assert message.usage_metadata
        assert not any(turn_complete(message) for message in line.messages)
        await line.answer_tool(calls(message)[0])
        await line.turns(1)
        assert line.said() == "It is booked."
        assert sum(usage.total_token_count or 0 for usage in line.usages()) == sum(
            (endpoint.meter[1].prompt, endpoint.meter[1].response)
        )


async def test_an_interrupted_tool_call_is_taken_back() -> None:
    """Speech while a blocking call is out: interrupted, toolCallCancellation with its id, turnComplete."""
    tools = [{"function_declarations": [{"name": "book", "behavior": "BLOCKING"}]}]
    async with LiveEndpoint(scripted("Book a table.", "Goodbye.")) as endpoint, dial(endpoint, tools=tools) as line:
        await line.say(_speech("Book a table."))
        (call,) = calls(await line.until(calls))
        await line.say(_speech("Goodbye."))
        cancelled = await line.until(lambda message: message.tool_call_cancellation)
        assert cancelled.tool_call_cancellation
        assert cancelled.tool_call_cancellation.ids == [call.id]
        await line.turns(2)
        await line.answer_tool(call)
        await line.prompt("The caller is silent.")
        await line.turns(3)
        assert line.said() == "Bye.Hello?"


async def test_the_goodbye_is_called_before_it_is_played_out() -> None:
    """end_call comes while the goodbye is still playing, as from a model that generates faster than it speaks."""
    async with LiveEndpoint(scripted("Goodbye.")) as endpoint, dial(endpoint) as line:
        await line.say(_speech("Goodbye."))
        called = await line.until(calls)
        (call,) = calls(called)
        assert call.name == "end_call"
        over = await line.until(turn_complete)
        assert line.messages.index(called) < line.messages.index(over)


async def test_activity_marked_by_the_client() -> None:
    """With detection off, activityStart and activityEnd make the turn."""
    realtime = {"automatic_activity_detection": {"disabled": True}}
    async with (
        LiveEndpoint(scenario()) as endpoint,
        dial(endpoint, streams=False, realtime_input_config=realtime) as line,
    ):
        await line.session.send_realtime_input(activity_start={})
        blob = types.Blob(data=_speech("What time do you open?"), mime_type="audio/pcm;rate=16000")
        await line.session.send_realtime_input(audio=blob)
        await line.session.send_realtime_input(activity_end={})
        await line.turns(1)
        assert line.said() == "We open at eight."


async def test_the_end_of_the_stream_ends_the_turn() -> None:
    """An audioStreamEnd need not wait for silence."""
    async with LiveEndpoint(scenario()) as endpoint, dial(endpoint, streams=False) as line:
        blob = types.Blob(data=_speech("What time do you open?"), mime_type="audio/pcm;rate=16000")
        await line.session.send_realtime_input(audio=blob)
        await line.session.send_realtime_input(audio_stream_end=True)
        await line.turns(1)
        assert line.said() == "We open at eight."


async def test_written_input_in_mid_call() -> None:
    """Realtime text and client content are answered; content without turn_complete and initial history are not."""
    async with (
        LiveEndpoint(scenario()) as endpoint,
        dial(endpoint, streams=False, history_config={"initial_history_in_client_content": True}) as line,
    ):
        await line.prompt("This was said before.")
        await line.session.send_realtime_input(text="The call has begun.")
        await line.turns(1)
        await line.session.send_client_content(turns={"parts": [{"text": "By the way."}]}, turn_complete=False)
        await line.prompt("The caller is silent.")
        await line.turns(2)
        assert line.said() == "Hello.Hello?"
        assert len(endpoint.sessions[0].generations) == 2


async def test_speech_that_fits_nothing_gets_the_default_answer() -> None:
    """Words that nobody expects are not transcribed as the nearest phrase."""
    async with LiveEndpoint(scenario(transcribe="grammar")) as endpoint, dial(endpoint) as line:
        await line.say(_speech("Is there parking nearby?"))
        await line.turns(1)
        assert line.heard() == []
        assert line.said() == endpoint.scenario.agents[0].otherwise
