"""Client messages are read as the service reads them, and refused as it refuses them."""

from __future__ import annotations

import base64
import json

import pytest

from cluster.local.live import wire

PCM = bytes(range(256)) * 4


def _audio(data: str, mime: str = "audio/pcm;rate=16000") -> str:
    return json.dumps({"realtime_input": {"audio": {"data": data, "mime_type": mime}}})


@pytest.mark.parametrize(
    "data",
    [
        base64.b64encode(PCM).decode(),
        base64.urlsafe_b64encode(PCM).decode(),
        base64.urlsafe_b64encode(PCM).decode().rstrip("="),
    ],
    ids=["plain", "url-safe", "unpadded"],
)
def test_audio_in_every_base64(data: str) -> None:
    """No spelling of base64 corrupts the audio."""
    assert wire.parse(_audio(data)) == [wire.Audio(PCM)]


def test_both_spellings_of_names() -> None:
    """Camel and snake case mean the same."""
    snake = '{"client_content":{"turns":[{"role":"user","parts":[{"text":"hi"}]}],"turn_complete":true}}'
    mixed = '{"clientContent":{"turns":[{"role":"user","parts":[{"text":"hi"}]}],"turnComplete":true}}'
    assert wire.parse(snake) == wire.parse(mixed) == [wire.ClientContent(turns=(("user", "hi"),), turn_complete=True)]


def test_free_json_is_not_touched() -> None:
    """Keys inside a function's result stay as they were."""
    frame = '{"tool_response":{"function_responses":[{"id":"f1","name":"a_b","response":{"my_key":{"its_key":1}}}]}}'
    (message,) = wire.parse(frame)
    assert isinstance(message, wire.ToolResponse)
    assert message.response == {"my_key": {"its_key": 1}}
    setup = wire.parse('{"setup":{"tools":[{"function_declarations":[{"parameters_json_schema":{"a_b":1}}]}]}}')
    assert setup == [wire.Setup({"tools": [{"functionDeclarations": [{"parametersJsonSchema": {"a_b": 1}}]}]})]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"realtimeInput":{"audioStreamEnd":true}}', wire.AudioStreamEnd()),
        ('{"realtime_input":{"activity_start":{}}}', wire.ActivityStart()),
        ('{"realtime_input":{"activityEnd":{}}}', wire.ActivityEnd()),
        ('{"realtime_input":{"text":"hi"}}', wire.RealtimeText("hi")),
        ('{"contextUpdate":{"systemInstruction":{"parts":[{"text":"be brief"}]}}}', wire.ContextUpdate("be brief")),
    ],
    ids=["stream-end", "activity-start", "activity-end", "text", "context-update"],
)
def test_small_messages(frame: str, message: wire.Message) -> None:
    """The other client messages."""
    assert wire.parse(frame) == [message]
    assert wire.parse(frame.encode()) == [message]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[]", "exactly one"),
        ("{}", "exactly one"),
        ('{"setup":{},"clientContent":{}}', "exactly one"),
        ('{"realtime":{}}', 'Unknown name "realtime"'),
        ('{"setup":1}', "not an object"),
        ('{"realtimeInput":{}}', "nothing in it"),
        ('{"realtimeInput":{"sound":1}}', "sound"),
        ('{"realtimeInput":{"mediaChunks":[]}}', "media_chunks is deprecated"),
        (_audio("!!"), "base64"),
        (_audio("AAA="[:3]), ""),
        (_audio("AA=="), "half a sample"),
        (_audio("AAAA", "audio/pcm;rate=8000"), "rate=16000"),
        (_audio("AAAA", "audio/wav"), "rate=16000"),
        ('{"clientContent":{"turns":[{"role":"system"}]}}', "role"),
        ('{"toolResponse":{}}', "empty"),
        ('{"toolResponse":{"functionResponses":[{"id":"a"}]}}', "response must be"),
        ('{"toolResponse":{"functionResponses":[{"id":"a","response":{},"scheduling":"SOON"}]}}', "scheduling"),
    ],
)
def test_what_is_wrong_is_1007(frame: str, reason: str) -> None:
    """One refusal per rule, with a reason that says which."""
    if not reason:
        assert wire.parse(frame) == [wire.Audio(bytes(2))]
        return
    with pytest.raises(wire.Refusal, match=reason) as refused:
        wire.parse(frame)
    assert refused.value.code == 1007
