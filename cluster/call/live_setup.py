"""The setup message of a Live session, from a profile and what its model allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.genai import types

from cluster.models import Model, load_models
from cluster.tools import Tool, toolbox

if TYPE_CHECKING:
    from cluster.profiles import Profile


def live_config(profile: Profile, handle: str = "") -> types.LiveConnectConfig:
    """A new configuration for every session: the SDK changes the one that it is given.

    Without a handle the field is left out, since a null is refused with 1007 (strands #1999).
    """
    audio = profile.audio
    return types.LiveConnectConfig(
        response_modalities=[types.Modality.AUDIO],
        temperature=profile.temperature,
        thinking_config=types.ThinkingConfig(thinking_level=profile.thinking.upper()) if profile.thinking else None,
        enable_affective_dialog=profile.affective_dialog or None,
        proactivity=(
            None
            if profile.proactive_audio is None
            else types.ProactivityConfig(proactive_audio=profile.proactive_audio)
        ),
        system_instruction=types.Content(parts=[types.Part(text=profile.instructions)], role="user"),
        speech_config=types.SpeechConfig(
            voice_config=types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name=profile.voice)),
            language_code=profile.language,
        ),
        tools=_tools(profile),
        input_audio_transcription=types.AudioTranscriptionConfig(),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        session_resumption=types.SessionResumptionConfig(handle=handle) if handle else types.SessionResumptionConfig(),
        realtime_input_config=types.RealtimeInputConfig(
            automatic_activity_detection=types.AutomaticActivityDetection(
                start_of_speech_sensitivity=types.StartSensitivity(
                    f"START_SENSITIVITY_{audio.start_sensitivity.upper()}"
                ),
                end_of_speech_sensitivity=types.EndSensitivity(f"END_SENSITIVITY_{audio.end_sensitivity.upper()}"),
                prefix_padding_ms=audio.vad_prefix_ms,
                silence_duration_ms=audio.vad_silence_ms,
            ),
            activity_handling=(
                types.ActivityHandling.START_OF_ACTIVITY_INTERRUPTS
                if audio.interruptible and not audio.backchannels
                else types.ActivityHandling.NO_INTERRUPTION
            ),
        ),
        context_window_compression=types.ContextWindowCompressionConfig(
            trigger_tokens=profile.compression.trigger_tokens,
            sliding_window=types.SlidingWindow(target_tokens=profile.compression.target_tokens),
        ),
    )


def _tools(profile: Profile) -> list[types.Tool] | None:
    model = load_models()[profile.model]
    tools = toolbox(profile.tools, profile.transfer, model).tools.values()
    return [types.Tool(function_declarations=[_declaration(tool, model) for tool in tools])] if tools else None


def _declaration(tool: Tool, model: Model) -> types.FunctionDeclaration:
    """A model that always waits has no word for it."""
    behavior = types.Behavior.BLOCKING if tool.blocking else types.Behavior.NON_BLOCKING
    return types.FunctionDeclaration(
        name=tool.name,
        description=tool.description,
        parameters_json_schema=dict(tool.parameters) if tool.parameters.get("properties") else None,
        behavior=None if model.tools == "blocking" else behavior,
    )
