"""Server messages, as the SDK's own types give them, and what they mean to a call."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import _live_converters, types

from cluster.call import events as ev
from cluster.call.live_messages import Audio, BargeIn, parse, rate_hz, seconds, usage_report
from cluster.call.usage import UsageReport

PCM = b"\1\0\2\0"
CASES: list[tuple[str, dict[str, Any], list[Any]]] = [
    (
        "audio before its transcript, the turn's end last",
        {
            "server_content": {
                "turn_complete": True,
                "output_transcription": {"text": "hello"},
                "model_turn": {
                    "parts": [{"inline_data": {"mime_type": "audio/pcm;rate=24000", "data": PCM}}, {"text": "x"}]
                },
            }
        },
        [Audio(PCM, 24_000), ev.AgentText("hello"), ev.TurnDone()],
    ),
    (
        "barge-in first",
        {"server_content": {"interrupted": True, "input_transcription": {"text": "no"}}},
        [BargeIn(), ev.CallerText("no")],
    ),
    ("empty transcripts say nothing", {"server_content": {"input_transcription": {"text": ""}, "model_turn": {}}}, []),
    (
        "a tool call",
        {"tool_call": {"function_calls": [{"id": "7", "name": "end_call", "args": {"a": 1}}, {}]}},
        [ev.ToolCalled("7", "end_call", {"a": 1}), ev.ToolCalled("", "", {})],
    ),
    ("no tool call", {"tool_call": {}}, []),
    ("calls taken back", {"tool_call_cancellation": {"ids": ["7", "8"]}}, [ev.ToolCancelled(("7", "8"))]),
    ("nothing taken back", {"tool_call_cancellation": {}}, [ev.ToolCancelled(())]),
    (
        "usage",
        {
            "usage_metadata": {
                "prompt_token_count": 12,
                "response_token_count": 5,
                "thoughts_token_count": 2,
                "prompt_tokens_details": [
                    {"modality": "AUDIO", "token_count": 10},
                    {"modality": "AUDIO", "token_count": 1},
                ],
                "response_tokens_details": [{"modality": "AUDIO", "token_count": 5}],
            }
        },
        [UsageReport(12, {"AUDIO": 11}, 5, {"AUDIO": 5}, thoughts=2)],
    ),
    ("the whole answer was sent", {"server_content": {"generation_complete": True}}, [ev.GenerationDone()]),
    ("a handle", {"session_resumption_update": {"resumable": True, "new_handle": "h"}}, [ev.Resumable("h")]),
    ("no handle while generating", {"session_resumption_update": {"resumable": False, "new_handle": ""}}, []),
    ("goAway", {"go_away": {"time_left": "50s"}}, [ev.GoingAway(50.0)]),
    ("setup", {"setup_complete": {}}, []),
]


@pytest.mark.parametrize(("message", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_parse(message: dict[str, Any], expected: list[Any]) -> None:
    """Each part of a message becomes what a call has to know, in the order in which it has to know it."""
    assert list(parse(types.LiveServerMessage.model_validate(message))) == expected


WIRE = {
    "promptTokenCount": 30,
    "{}TokenCount": 5,
    "totalTokenCount": 35,
    "thoughtsTokenCount": 2,
    "toolUsePromptTokenCount": 3,
    "cachedContentTokenCount": 4,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 2}],
    "{}TokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
}
MEANING = UsageReport(
    30,
    {"TEXT": 10, "AUDIO": 2},
    5,
    {"AUDIO": 5},
    thoughts=2,
    tool_use=3,
    tool_use_by_modality={"TEXT": 3},
    cached=4,
    total=35,
)


def wire(word: str) -> dict[str, Any]:
    """A usage record as a backend sends it."""
    return {name.format(word): value for name, value in WIRE.items()}


@pytest.mark.parametrize("word", ["response", "candidates"])
def test_both_backends_records_mean_the_same(word: str) -> None:
    """As they stand on the wire, and through the SDK, which renames what Vertex sends."""
    assert usage_report(wire(word)) == MEANING
    message: Any = {"usageMetadata": wire(word)}
    if word == "candidates":
        message = _live_converters._LiveServerMessage_from_vertex(message)
    given = types.LiveServerMessage.model_validate(message).usage_metadata
    assert given is not None
    assert usage_report(given) == MEANING


def test_names_in_snake_case_are_read_too() -> None:
    """As a dump of the SDK's objects has them."""
    assert usage_report({"candidates_token_count": 5, "response_tokens_details": None}) == UsageReport(0, {}, 5, {})


@pytest.mark.parametrize(("mime", "rate"), [("audio/pcm;rate=16000", 16_000), ("audio/pcm", 24_000), (None, 24_000)])
def test_rate(mime: str | None, rate: int) -> None:
    """The MIME type names the rate; 24 kHz otherwise."""
    assert rate_hz(mime) == rate


@pytest.mark.parametrize(("text", "value"), [("9.5s", 9.5), (None, 0.0), ("soon", 0.0)])
def test_seconds(text: str | None, value: float) -> None:
    """Durations are protobuf JSON; what is not one counts as none."""
    assert seconds(text) == value


def test_handles_words_and_audio_stay_out_of_reprs() -> None:
    """A handle restores a conversation, and words are the caller's."""
    shown = repr(
        [ev.Resumable("secret"), ev.CallerText("secret"), Audio(b"secret", 1), ev.ToolCalled("1", "t", {"k": "secret"})]
    )
    assert "secret" not in shown
