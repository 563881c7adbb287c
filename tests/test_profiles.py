"""Profiles: what is shipped loads, and what could fail in a call is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ProfileError
from cluster.models import load_models
from cluster.profiles import Profile, Target, load_profile, load_profiles
from cluster.settings import EXAMPLES

FULL = """\
instructions: You are kind to {name}.
greeting:
  mode: wait
  text: Speak of {when}.
model: gemini-2.5-flash-native-audio-preview-12-2025
voice: Puck
language: de-DE
temperature: 0.5
proactive_audio: false
affective_dialog: true
tools: []
limits: {max_duration_s: 60, silence_s: 5, idle_reminder_s: 2, idle_reminders: 0, max_cost_usd: 0.10}
audio:
  vad_silence_ms: 600
  start_sensitivity: low
  recording: {enabled: true, url: "s3://calls"}
compression: {trigger_tokens: 9000, target_tokens: 4000}
unavailable_sentence: sorry.wav
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for profiles."""
    found = tmp_path / "profiles"
    found.mkdir()
    return found


def load(folder: Path, text: str, name: str = "x") -> Profile:
    """Load a profile of this text."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_profile(path, load_models())


def test_the_shipped_profiles_load() -> None:
    """Two good examples: one answers, one dials and wants to know whom."""
    profiles = load_profiles(EXAMPLES, load_models())
    assert list(profiles) == ["receptionist", "reminder"]
    assert profiles["receptionist"].variables == frozenset()
    assert profiles["reminder"].variables == {"name", "when"}
    assert {profile.model for profile in profiles.values()} == {"gemini-3.8-live"}
    assert all(profile.audio.recording is None or not profile.audio.recording.enabled for profile in profiles.values())


def test_every_field_is_read(folder: Path) -> None:
    """A full profile arrives as it was written, with its sentence found beside it."""
    (folder / "sorry.wav").write_bytes(b"RIFF")
    profile = load(folder, FULL)
    assert profile.name == "x"
    assert profile.greeting.mode == "wait"
    assert profile.limits.max_cost_usd_micros == 100_000
    assert profile.audio.recording is not None
    assert profile.audio.recording.enabled
    assert profile.tools == ()
    assert profile.unavailable_sentence == str(folder / "sorry.wav")
    assert profile.variables == {"name", "when"}


def test_a_profile_needs_only_instructions(folder: Path) -> None:
    """Everything else has a default."""
    profile = load(folder, "instructions: Be kind.\n")
    assert (profile.model, profile.voice, profile.tools) == ("gemini-3.8-live", "Kore", ("end_call",))
    assert profile.limits.max_cost_usd_micros == 2_000_000


def test_all_problems_are_told_at_once(folder: Path) -> None:
    """Two mistakes take one attempt to mend, in the order of the file."""
    with pytest.raises(ProfileError) as refused:
        load(folder, "voice: Kor\ninstructions: '{'\n")
    assert [line.split(":")[1] for line in str(refused.value).splitlines()] == ["1", "2"]


def test_a_file_that_cant_be_read_is_named(folder: Path) -> None:
    """A folder in place of a file, and bytes that are no text."""
    (folder / "dir.yaml").mkdir()
    with pytest.raises(ProfileError, match=r"profiles/dir.yaml:1: can't be read"):
        load_profile(folder / "dir.yaml", load_models())
    (folder / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match=r"it is not UTF-8"):
        load_profile(folder / "x.yaml", load_models())


def test_a_name_has_to_fit_into_labels_and_urls(folder: Path) -> None:
    """The file's name is the profile's, so it is as plain as one."""
    with pytest.raises(ProfileError, match="lower-case letters, digits and hyphens"):
        load(folder, "instructions: x\n", name="My Agent")


def test_a_folder_without_profiles_is_refused(folder: Path) -> None:
    """Nothing to serve is an error of configuration."""
    with pytest.raises(ProfileError, match="RINGMASTER_PROFILES_DIR"):
        load_profiles(folder, load_models())


def test_fallbacks_stand_after_the_main_model(folder: Path) -> None:
    """Another model, another place, or both; a target's text is what breakers and metrics call it."""
    profile = load(
        folder,
        "instructions: x\nfallback:\n- {model: gemini-live-2.5-flash}\n- {location: europe-west4}\n"
        "- {model: gemini-live-2.5-flash, location: global}\n",
    )
    assert list(map(str, profile.targets())) == [
        "gemini-3.8-live",
        "gemini-live-2.5-flash",
        "gemini-3.8-live@europe-west4",
        "gemini-live-2.5-flash@global",
    ]
    assert load(folder, "instructions: x\n").targets() == (Target("gemini-3.8-live"),)


@pytest.mark.parametrize(
    ("fallback", "problem"),
    [
        ("[{model: gemini-3.9-live}]", "fallback.0.model: there is no model 'gemini-3.9-live'; did you mean"),
        ("[{model: gemini-2.0-flash-live-001}]", "fallback.0.model: gemini-2.0-flash-live-001 is not served any more"),
        ("[{}]", "fallback.0: is the main model or an earlier fallback once more"),
        ("[{model: gemini-3.8-live}]", "fallback.0: is the main model"),
        ("[{location: a}, {location: a}]", "fallback.1: is the main model or an earlier"),
        (
            "[{model: gemini-3.1-flash-live-preview, location: a}]",
            "fallback.0.location: gemini-3.1-flash-live-preview is not on Vertex AI",
        ),
        ("[{location: ''}]", "fallback.0.location"),
        ("[{location: a}, {location: b}, {location: c}, {location: d}]", "at most 3 items"),
        ("[{place: a}]", "fallback.0.place: there is no such field"),
    ],
)
def test_a_fallback_that_could_not_serve_is_refused(folder: Path, fallback: str, problem: str) -> None:
    """At the start, not when it is needed."""
    with pytest.raises(ProfileError) as refused:
        load(folder, f"instructions: x\nfallback: {fallback}\n")
    assert problem in str(refused.value)


def test_a_fallback_has_to_allow_what_the_main_model_does(folder: Path) -> None:
    """It gets the same setup. What the main model itself is refused for is not told twice."""
    with pytest.raises(ProfileError, match=r"x.yaml:4: fallback.0.model: affective_dialog: gemini-3.8-live does not"):
        load(
            folder,
            "instructions: x\nmodel: gemini-live-2.5-flash-native-audio\naffective_dialog: true\n"
            "fallback: [{model: gemini-3.8-live}]\n",
        )
    with pytest.raises(ProfileError) as refused:
        load(folder, "instructions: x\nmodel: nonesuch\nfallback: [{location: a}]\n")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("thinking: low", "thinking: gemini-3.8-live takes no thinking level; leave it out"),
        ("affective_dialog: true", "affective_dialog: gemini-3.8-live does not have it; leave it out"),
        ("proactive_audio: false", "proactive_audio: it is always on with gemini-3.8-live; leave it out"),
        ("compression: {trigger_tokens: 200000}", "compression.trigger_tokens: gemini-3.8-live holds 131072 tokens"),
        ("compression: {target_tokens: 25000}", "compression.target_tokens: must be below trigger_tokens"),
        ("unavailable_sentence: none.wav", "unavailable_sentence: there is no file none.wav beside the profile"),
    ],
)
def test_what_the_model_would_not_take_is_refused(folder: Path, field: str, problem: str) -> None:
    """With the line of the field."""
    with pytest.raises(ProfileError) as refused:
        load(folder, f"instructions: x\n{field}\n")
    assert str(refused.value) == f"profiles/x.yaml:2: {problem}"
