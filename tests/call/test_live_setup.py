"""The setup message, as the SDK's own types hold it and as a strict endpoint takes it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cluster.call.live_setup import live_config
from cluster.profiles import AudioOptions, Profile
from cluster.tools import HttpTool


def profile(**fields: Any) -> Profile:
    """A profile of the test."""
    return Profile(**{"name": "baker", "instructions": "You are a baker."} | fields)


def test_what_a_profile_says_is_in_the_setup() -> None:
    """Voice, language, temperature, tools, turn taking and compression."""
    setup = live_config(profile(voice="Puck", language="de-DE", temperature=0.3)).model_dump(exclude_none=True)
    speech = setup["speech_config"]
    assert speech["voice_config"]["prebuilt_voice_config"]["voice_name"] == "Puck"
    assert (speech["language_code"], setup["temperature"]) == ("de-DE", 0.3)
    assert [d["name"] for d in setup["tools"][0]["function_declarations"]] == ["end_call"]
    assert setup["context_window_compression"]["trigger_tokens"] == 25_000
    assert setup["session_resumption"] == {}
    assert not {"thinking_config", "enable_affective_dialog", "proactivity"} & setup.keys()


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        ({"thinking": "low"}, "thinking_config", {"thinking_level": "LOW"}),
        ({"affective_dialog": True}, "enable_affective_dialog", True),
        ({"proactive_audio": False}, "proactivity", {"proactive_audio": False}),
        ({"tools": ()}, "tools", None),
    ],
)
def test_options_that_only_some_models_take(fields: dict[str, Any], key: str, value: Any) -> None:
    """They are sent where the profile has them, and left out otherwise."""
    assert live_config(profile(**fields)).model_dump(exclude_none=True, mode="json").get(key) == value


TOOL = HttpTool(
    name="look_up",
    description="Find an order.",
    parameters={"type": "object", "properties": {"order": {"type": "integer"}}},
    url="https://shop.example.com",
    blocking=True,
)


@pytest.mark.parametrize(
    ("model", "behaviors"),
    [
        ("gemini-3.8-live", ["NON_BLOCKING", "BLOCKING"]),
        ("gemini-3.1-flash-live-preview", [None, None]),
        ("gemini-3.8-live-extended-thinking", ["NON_BLOCKING", "NON_BLOCKING"]),
    ],
)
def test_tools_are_declared_as_the_model_takes_them(model: str, behaviors: list[str | None]) -> None:
    """Whether it waits is said only where there is a choice to make; a number to dial is never said."""
    wish = profile(model=model, tools=("transfer_call", TOOL), transfer={"sales": "tel:+15551230002"})
    setup = live_config(wish).model_dump(exclude_none=True, mode="json")
    transfer, look_up = setup["tools"][0]["function_declarations"]
    assert [transfer.get("behavior"), look_up.get("behavior")] == behaviors
    assert transfer["parameters_json_schema"]["properties"]["to"]["enum"] == ["sales"]
    assert look_up["parameters_json_schema"] == TOOL.parameters
    assert "+1555" not in str(setup)


def test_a_profile_that_is_not_to_be_interrupted() -> None:
    """The server then ignores the caller while the agent talks."""
    setup = live_config(profile(audio=AudioOptions(interruptible=False))).model_dump(exclude_none=True, mode="json")
    assert setup["realtime_input_config"]["activity_handling"] == "NO_INTERRUPTION"


def test_every_session_gets_a_configuration_of_its_own() -> None:
    """The SDK changes the one that it is given."""
    assert live_config(profile()) is not live_config(profile())


def test_the_sdk_is_ready_for_sound_before_there_is_any() -> None:
    """It builds its models at their first use, which must not be a caller's first answer."""
    message = "types.LiveServerMessage.__pydantic_complete__"
    code = f"from cluster.call.live import rehearse, types; print({message}); rehearse(); print({message})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
