"""The setup message, checked against what the model and the backend allow.

Rule 1: no I/O but reading ``models.yaml`` once. Rule 2: a field that the service does not know is refused, as the
service does, so that a misspelt option is found here and not in production.
Source: the protocol reference, sections 1.3, 3 and 4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.local.live.vad import Sensitivity, VadSettings
from cluster.local.live.wire import INVALID_ARGUMENT, POLICY, Refusal, invalid, text_of

_FIELDS: Final = frozenset(
    {
        "model",
        "generationConfig",
        "systemInstruction",
        "tools",
        "sessionResumption",
        "inputAudioTranscription",
        "outputAudioTranscription",
        "realtimeInputConfig",
        "contextWindowCompression",
        "proactivity",
        "explicitVadSignal",
        "historyConfig",
        "avatarConfig",
        "safetySettings",
        "translationConfig",
        "labels",
    }
)
_VERTEX_ONLY: Final = "explicitVadSignal"
_TURN_COVERAGE: Final = frozenset(
    {"TURN_INCLUDES_ONLY_ACTIVITY", "TURN_INCLUDES_ALL_INPUT", "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO"}
)
_VERTEX_TRIGGER_TOKENS: Final = range(5_000, 128_001)
_DEFAULT_TRIGGER_SHARE: Final = 0.8


class Backend(StrEnum):
    """The two services that speak this protocol."""

    DEVELOPER = "developer"
    VERTEX = "vertex"


_MODEL_NAME: Final = {
    Backend.DEVELOPER: r"models/([\w.-]+)",
    Backend.VERTEX: r"projects/[^/]+/locations/[^/]+/publishers/google/models/([\w.-]+)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """One entry of ``models.yaml``; the words are explained there."""

    name: str
    backends: list[str]
    thinking_level: bool
    affective_dialog: bool
    proactive: str
    tools: str
    client_content: str
    input_during_tool: str
    transcripts: list[str]
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSetup:
    """What a session was opened with, once everything in it is allowed."""

    backend: Backend
    rules: ModelRules
    instructions: str
    setup_characters: int
    """Length of the system instruction and tool declarations: they are in the context from the start."""
    tools: dict[str, bool]
    """Declared function -> whether the model waits for its result."""
    vad: VadSettings | None
    """None: the client marks activity itself."""
    interruptible: bool
    transcribes_input: bool
    transcribes_output: bool
    compression: tuple[int, int] | None
    """(trigger tokens, target tokens); None is off."""
    resumable: bool
    handle: str
    transparent: bool
    history_first: bool
    """The first client content is history and is not answered."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``models.yaml``: the models that this endpoint serves, and their voices."""

    models: dict[str, ModelRules]
    voices: frozenset[str]


@cache
def catalogue() -> Catalogue:
    """The models served here."""
    content = yaml.safe_load((Path(__file__).parent / "models.yaml").read_text(encoding="utf-8"))
    models = {name: ModelRules(name=name, **entry) for name, entry in content["models"].items()}
    return Catalogue(models, frozenset(content["voices"]))


def check_setup(content: dict[str, Any], backend: Backend, version: str) -> SessionSetup:
    """``content`` in camelCase. Raises Refusal: 1008 for a model that is not there, 1007 for what it does not allow."""
    for name in content.keys() - _FIELDS:
        reason = f"Invalid JSON payload received. Unknown name \"{name[:40]}\" at 'setup': Cannot find field."
        raise Refusal(INVALID_ARGUMENT, reason)
    rules = _model(str(content.get("model", "")), backend, version)
    _check_generation(_section(content, "generationConfig"), rules)
    _check_features(content, backend, rules)
    realtime = _section(content, "realtimeInputConfig")
    activity = _enum(realtime, "activityHandling", {"START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"})
    resumption = _section(content, "sessionResumption")
    return SessionSetup(
        backend=backend,
        rules=rules,
        instructions=text_of(content.get("systemInstruction")),
        setup_characters=len(text_of(content.get("systemInstruction"))) + len(str(content.get("tools") or "")),
        tools=_tools(content.get("tools") or [], rules),
        vad=_vad(realtime, backend),
        interruptible=activity != "NO_INTERRUPTION",
        transcribes_input="inputAudioTranscription" in content or "input" in rules.transcripts,
        transcribes_output="outputAudioTranscription" in content or "output" in rules.transcripts,
        compression=_compression(content, backend, rules),
        resumable="sessionResumption" in content,
        handle=str(resumption.get("handle", "")),
        transparent=bool(resumption.get("transparent")),
        history_first=bool(_section(content, "historyConfig").get("initialHistoryInClientContent")),
    )


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise invalid(f"{name} is not an object.")
    return value


def _model(name: str, backend: Backend, version: str) -> ModelRules:
    found = re.fullmatch(_MODEL_NAME[backend], name)
    rules = catalogue().models.get(found[1]) if found else None
    if rules is None or backend not in rules.backends:
        reason = f"{name[:60]} is not found for API version {version}, or is not supported for bidiGenerateContent"
        raise Refusal(POLICY, reason)
    return rules


def _check_generation(generation: dict[str, Any], rules: ModelRules) -> None:
    if generation.get("responseModalities", ["AUDIO"]) != ["AUDIO"]:
        raise invalid("responseModalities must be [AUDIO].")
    if generation.get("enableAffectiveDialog") and not rules.affective_dialog:
        raise invalid(f"{rules.name} has no affective dialog.")
    if _section(generation, "thinkingConfig").get("thinkingLevel") and not rules.thinking_level:
        raise invalid(f"{rules.name} has no thinking level.")
    temperature = generation.get("temperature", 1.0)
    if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:  # noqa: PLR2004  # the documented range
        raise invalid("temperature must be between 0 and 2.")
    prebuilt = _section(_section(_section(generation, "speechConfig"), "voiceConfig"), "prebuiltVoiceConfig")
    if prebuilt.get("voiceName", "Kore") not in catalogue().voices:
        raise invalid("voiceName is not one of the voices.")


def _check_features(content: dict[str, Any], backend: Backend, rules: ModelRules) -> None:
    if rules.proactive == "fixed" and _section(content, "proactivity").get("proactiveAudio") is False:
        raise invalid(f"proactiveAudio can't be switched off on {rules.name}.")
    resumption = _section(content, "sessionResumption")
    if "handle" in resumption and not isinstance(resumption["handle"], str):
        raise invalid("sessionResumption.handle must be a string.")
    if backend is Backend.DEVELOPER and (_VERTEX_ONLY in content or "transparent" in resumption):
        raise invalid("explicitVadSignal and sessionResumption.transparent are for Vertex AI only.")


def _tools(tools: Any, rules: ModelRules) -> dict[str, bool]:
    declared: dict[str, bool] = {}
    for tool in tools:
        for function in tool.get("functionDeclarations") or []:
            name, behavior = function.get("name", ""), function.get("behavior", "UNSPECIFIED")
            if not re.fullmatch(r"[A-Za-z_][\w.:-]{0,127}", name) or name in declared:
                raise invalid("tools: a function needs a name of its own.")
            if behavior not in {"UNSPECIFIED", "BLOCKING", "NON_BLOCKING"}:
                raise invalid(f"tools: {name}: behavior.")
            if behavior == "BLOCKING" and rules.tools == "non_blocking_only":
                raise invalid(f"tools: {name}: {rules.name} has NON_BLOCKING functions only.")
            declared[name] = behavior == "BLOCKING" or (behavior == "UNSPECIFIED" and rules.tools == "blocking")
    return declared


def _vad(realtime: dict[str, Any], backend: Backend) -> VadSettings | None:
    _enum(realtime, "turnCoverage", _TURN_COVERAGE)
    detection = _section(realtime, "automaticActivityDetection")
    if detection.get("disabled"):
        return None
    default = Sensitivity.HIGH if backend is Backend.DEVELOPER else Sensitivity.LOW
    start = _enum(detection, "startOfSpeechSensitivity", {"START_SENSITIVITY_HIGH", "START_SENSITIVITY_LOW"})
    end = _enum(detection, "endOfSpeechSensitivity", {"END_SENSITIVITY_HIGH", "END_SENSITIVITY_LOW"})
    return VadSettings(
        start=Sensitivity(start.rpartition("_")[2]) if start else default,
        end=Sensitivity(end.rpartition("_")[2]) if end else default,
        prefix_ms=_count(detection, "prefixPaddingMs"),
        silence_ms=_count(detection, "silenceDurationMs"),
    )


def _enum(section: dict[str, Any], name: str, allowed: set[str] | frozenset[str]) -> str:
    value = section.get(name, "")
    if value and value not in allowed and not str(value).endswith("_UNSPECIFIED"):
        raise invalid(f"{name} is not one of {', '.join(sorted(allowed))}.")
    return value if value in allowed else ""


def _count(section: dict[str, Any], name: str) -> int | None:
    value = section.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value)):
        raise invalid(f"{name} must be a whole number of at least 0.")
    return int(value)


def _compression(content: dict[str, Any], backend: Backend, rules: ModelRules) -> tuple[int, int] | None:
    if "contextWindowCompression" not in content:
        return None
    compression = _section(content, "contextWindowCompression")
    trigger = _count(compression, "triggerTokens") or int(rules.context_tokens * _DEFAULT_TRIGGER_SHARE)
    target = _count(_section(compression, "slidingWindow"), "targetTokens") or trigger // 2
    if target >= trigger or (backend is Backend.VERTEX and trigger not in _VERTEX_TRIGGER_TOKENS):
        raise invalid("contextWindowCompression: triggerTokens must be above targetTokens (Vertex AI: 5000 to 128000).")
    return trigger, target
