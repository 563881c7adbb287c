"""Setup messages are checked against model and backend."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.local.live.setup import Backend, SessionSetup, check_setup
from cluster.local.live.vad import Sensitivity
from cluster.local.live.wire import Refusal

VERTEX_MODEL = "projects/p/locations/l/publishers/google/models/gemini-3.8-live"


def _developer(**content: Any) -> SessionSetup:
    return check_setup({"model": "models/gemini-3.8-live"} | content, Backend.DEVELOPER, "v1beta")


def test_a_plain_setup() -> None:
    """What is not given has the service's default."""
    setup = _developer(systemInstruction={"parts": [{"text": "You are kind."}]})
    assert setup.instructions == "You are kind."
    assert setup.interruptible
    assert setup.transcribes_output, "3.8 sends output transcripts unasked"
    assert not setup.transcribes_input
    assert setup.compression is None
    assert setup.vad is not None
    assert (setup.vad.start, setup.vad.end) == (Sensitivity.HIGH, Sensitivity.HIGH)


def test_vertex_has_its_own_defaults_and_model_names() -> None:
    """Sensitivity is low there, and a model is named by its project."""
    setup = check_setup({"model": VERTEX_MODEL, "sessionResumption": {"transparent": True}}, Backend.VERTEX, "v1beta1")
    assert setup.vad is not None
    assert (setup.vad.start, setup.vad.end) == (Sensitivity.LOW, Sensitivity.LOW)
    assert setup.transparent


def test_all_options() -> None:
    """Everything that Ringmaster sets is understood."""
    setup = _developer(
        generationConfig={
            "responseModalities": ["AUDIO"],
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Puck"}}, "languageCode": "en-US"},
        },
        tools=[
            {"functionDeclarations": [{"name": "end_call"}, {"name": "look_up", "behavior": "BLOCKING"}]},
        ],
        realtimeInputConfig={
            "automaticActivityDetection": {
                "startOfSpeechSensitivity": "START_SENSITIVITY_LOW",
                "endOfSpeechSensitivity": "END_SENSITIVITY_HIGH",
                "prefixPaddingMs": 20,
                "silenceDurationMs": 500,
            },
            "activityHandling": "NO_INTERRUPTION",
        },
        contextWindowCompression={"triggerTokens": "25000", "slidingWindow": {"targetTokens": 8000}},
        inputAudioTranscription={},
    )
    assert setup.tools == {"end_call": False, "look_up": True}
    assert setup.vad is not None
    assert (setup.vad.prefix_ms, setup.vad.silence_ms) == (20, 500)
    assert setup.vad.start is Sensitivity.LOW
    assert not setup.interruptible
    assert setup.compression == (25_000, 8_000)
    assert setup.transcribes_input


def test_detection_can_be_left_to_the_client() -> None:
    """Disabled detection means no detector."""
    assert _developer(realtimeInputConfig={"automaticActivityDetection": {"disabled": True}}).vad is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"generationConfig": {"responseModalities": ["TEXT"]}}, "responseModalities"),
        ({"generationConfig": {"responseModalities": ["AUDIO", "TEXT"]}}, "responseModalities"),
        ({"generationConfig": {"enableAffectiveDialog": True}}, "affective"),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, "thinking level"),
        ({"generationConfig": {"temperature": 3}}, "temperature"),
        (
            {"generationConfig": {"speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Bob"}}}}},
            "voiceName",
        ),
        ({"proactivity": {"proactiveAudio": False}}, "proactiveAudio"),
        ({"sessionResumption": {"handle": None}}, "handle"),
        ({"sessionResumption": {"transparent": False}}, "Vertex AI only"),
        ({"explicitVadSignal": True}, "Vertex AI only"),
        ({"tools": [{"functionDeclarations": [{"name": "not a name"}]}]}, "name of its own"),
        ({"tools": [{"functionDeclarations": [{"name": "a"}, {"name": "a"}]}]}, "name of its own"),
        ({"tools": [{"functionDeclarations": [{"name": "a", "behavior": "LATER"}]}]}, "behavior"),
        ({"realtimeInputConfig": {"activityHandling": "SHOUT"}}, "activityHandling"),
        ({"realtimeInputConfig": {"turnCoverage": "HALF"}}, "turnCoverage"),
        ({"realtimeInputConfig": {"automaticActivityDetection": {"silenceDurationMs": -1}}}, "silenceDurationMs"),
        ({"contextWindowCompression": {"triggerTokens": 10, "slidingWindow": {"targetTokens": 20}}}, "triggerTokens"),
        ({"systemInstructions": {}}, 'Unknown name "systemInstructions"'),
        ({"generationConfig": []}, "not an object"),
    ],
)
def test_what_the_model_does_not_allow_is_1007(content: dict[str, Any], reason: str) -> None:
    """One refusal per rule, with a reason that says which."""
    with pytest.raises(Refusal, match=reason) as refused:
        _developer(**content)
    assert refused.value.code == 1007


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("models/gemini-9", Backend.DEVELOPER),
        ("gemini-3.8-live", Backend.DEVELOPER),
        (VERTEX_MODEL, Backend.DEVELOPER),
        ("models/gemini-3.8-live", Backend.VERTEX),
        ("models/gemini-live-2.5-flash-native-audio", Backend.DEVELOPER),
    ],
)
def test_a_model_that_is_not_there_is_1008(model: str, backend: Backend) -> None:
    """In the service's own words, with the version that was asked for."""
    with pytest.raises(Refusal, match="not found for API version v1beta, or is not supported") as refused:
        check_setup({"model": model}, backend, "v1beta")
    assert refused.value.code == 1008


def test_blocking_functions_need_a_model_that_has_them() -> None:
    """The extended-thinking model has non-blocking functions only; the older models wait by default."""
    tools = [{"functionDeclarations": [{"name": "a", "behavior": "BLOCKING"}]}]
    with pytest.raises(Refusal, match="NON_BLOCKING functions only"):
        _developer(model="models/gemini-3.8-live-extended-thinking", tools=tools)
    older = _developer(model="models/gemini-3.1-flash-live-preview", tools=[{"functionDeclarations": [{"name": "a"}]}])
    assert older.tools == {"a": True}


def test_compression_bounds_of_vertex() -> None:
    """A trigger below 5,000 tokens is refused there."""
    content = {"model": VERTEX_MODEL, "contextWindowCompression": {"triggerTokens": 4_000}}
    with pytest.raises(Refusal, match="5000 to 128000"):
        check_setup(content, Backend.VERTEX, "v1beta1")
