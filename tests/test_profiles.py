"""Profiles: what is shipped loads, and what could fail in a call is refused with file and line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.errors import ProfileError
from cluster.models import load_models
from cluster.profiles import Profile, load_profile, load_profiles
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


def test_the_digest_follows_the_content(folder: Path) -> None:
    """The same content has the same digest, in another process too; a change of any field another one."""
    profile = load(folder, "instructions: Be kind.\n")
    there = pickle.loads(pickle.dumps(profile))  # noqa: S301 - our own bytes
    assert there == profile
    assert there.digest == profile.digest == load(folder, "instructions: 'Be kind.'\nvoice: Kore\n").digest
    assert load(folder, "instructions: Be kind.\naudio: {vad_silence_ms: 501}\n").digest != profile.digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("voice: Kore\n", "1: instructions: is missing"),
        ("instructions: x\nvoicee: Kore\n", "2: voicee: there is no such field; did you mean voice?"),
        (
            "instructions: x\nlimits:\n  silence_s: 3\n  max_duratio: 5\n",
            "4: limits.max_duratio: there is no such field; did you mean max_duration_s?",
        ),
        ("instructions: x\nlimits:\n  silence_s: -1\n", "3: limits.silence_s: input should be greater than 0"),
        ("instructions: x\nlimits: {silence_s: .nan}\n", "2: limits.silence_s: input should be a finite number"),
        ("instructions: x\ntemperature: 3\n", "2: temperature: input should be less than or equal to 2"),
        ("instructions: x\nvoice: Kor\n", "2: voice: there is no voice 'Kor'; did you mean Kore?"),
        (
            "instructions: x\nmodel: gemini-3.8\n",
            "2: model: there is no model 'gemini-3.8'; did you mean gemini-3.8-live?",
        ),
        ("instructions: x\ntools: [end_call, hang_up]\n", "2: tools.1: there is no tool 'hang_up'"),
        ("instructions: x\ngreeting: {mode: shout}\n", "2: greeting.mode: input should be 'speak-first' or 'wait'"),
        ("instructions: x\nlanguage: english\n", "2: language: string should match"),
        ("instructions: x {na me}\n", "1: instructions: braces only stand around a variable's name"),
        ("instructions: x\ngreeting:\n  text: hi {name\n", "3: greeting.text: braces only stand around"),
        ("instructions: x\ninstructions: y\n", "2: instructions: stands here for the second time"),
        ("instructions: [\n", "2: not YAML: expected the node content"),
        ("instructions: \x07\n", "1: not YAML: unacceptable character"),
        ("- x\n", "1: expected `field: value` lines"),
        ("", "1: expected `field: value` lines"),
        ("instructions: x\nunavailable_sentence: no.wav\n", "2: unavailable_sentence: there is no file no.wav beside"),
        (
            "instructions: x\nmodel: gemini-2.0-flash-live-001\n",
            "2: model: gemini-2.0-flash-live-001 is not served any",
        ),
        ("instructions: x\nthinking: low\n", "2: thinking: gemini-3.8-live takes no thinking level"),
        ("instructions: x\nproactive_audio: false\n", "2: proactive_audio: it is always on with gemini-3.8-live"),
        ("instructions: x\naffective_dialog: true\n", "2: affective_dialog: gemini-3.8-live does not have it"),
        (
            "instructions: x\ncompression:\n  trigger_tokens: 200000\n",
            "3: compression.trigger_tokens: gemini-3.8-live holds 131072 tokens",
        ),
        (
            "instructions: x\ncompression:\n  trigger_tokens: 6000\n  target_tokens: 6000\n",
            "4: compression.target_tokens: must be below trigger_tokens",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(folder: Path, text: str, problem: str) -> None:
    """The error starts with file and line, names the field and, where it can, the remedy."""
    with pytest.raises(ProfileError) as refused:
        load(folder, text)
    assert f"profiles/x.yaml:{problem}" in str(refused.value)


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
