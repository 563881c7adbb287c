"""Profiles: what is shipped loads, and what could fail in a call is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ProfileError
from cluster.models import load_models
from cluster.profiles import Profile, Target, load_profile, load_profiles
from cluster.settings import EXAMPLES
from cluster.tools import HttpTool

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


HTTP_TOOL = """\
instructions: Be kind.
tools:
  - end_call
  - name: look_up
    description: Find an order.
    url: https://shop.example.com/orders
    method: GET
    headers: {Authorization: "Bearer ${SHOP_TOKEN}"}
    timeout_s: 4
    blocking: true
    filler: One moment.
    parameters:
      type: object
      properties:
        order: {type: integer}
      required: [order]
"""


def test_an_http_tool_stands_among_the_names_of_the_others(folder: Path) -> None:
    """It arrives as it was written; a header's value is not shown."""
    profile = load(folder, HTTP_TOOL)
    name, tool = profile.tools
    assert name == "end_call"
    assert isinstance(tool, HttpTool)
    assert (tool.method, tool.timeout_s, tool.blocking, tool.allow_private) == ("GET", 4, True, False)
    assert tool.resolved_headers({"SHOP_TOKEN": "s3"}) == {"Authorization": "Bearer s3"}
    assert "SHOP_TOKEN" not in repr(profile)
    with pytest.raises(KeyError, match="SHOP_TOKEN"):
        tool.resolved_headers({})


def test_a_transfer_has_labels(folder: Path) -> None:
    """The numbers are not shown."""
    destinations = "{sales: 'tel:+15551230002', desk 2: 'sip:d@pbx.example:5061'}"
    profile = load(folder, f"instructions: x\ntools: [transfer_call]\ntransfer: {destinations}\n")
    assert set(profile.transfer) == {"sales", "desk 2"}
    assert "1555" not in repr(profile)


TOOL = "instructions: x\ntools:\n  - name: look_up\n    description: d\n"
URL = "    url: https://a.example\n"
REFUSED_TOOLS = [
    ("tools: [send_dtfm]", 2, "tools.0: there is no tool 'send_dtfm'; did you mean send_dtmf?"),
    ("tools: [end_call, end_call]", 2, "tools.1: there are two tools 'end_call'"),
    ("tools: [transfer_call]", 2, "tools: transfer_call needs `transfer:`"),
    ("transfer: {sales: 'tel:+15551230002'}", 2, "transfer: needs transfer_call"),
    ("tools: [transfer_call]\ntransfer: {sales: '+15551230002'}", 3, "transfer.sales: string should match"),
    ("tools: [transfer_call]\ntransfer: {sales: 'sip:a@b?X=1'}", 3, "transfer.sales: string should match"),
    ("tools: [7]", 2, "tools.0: input should be a valid string"),
    ("tools:\n  - name: a\n    url: https://a.example", 3, "tools.0.description: is missing"),
    ("tools:\n  - name: a\n    urll: x", 4, "tools.0.urll: there is no such field; did you mean url?"),
    (
        "tools:\n  - name: opt_out\n    description: d\n    url: https://a.example",
        3,
        "tools.0.name: opt_out is a built-in",
    ),
    ("tools:\n  - name: a b\n    description: d\n    url: https://a.example", 3, "tools.0.name: string should match"),
]
REFUSED_FIELDS = [
    ("url: ftp://a.example", "must be a fixed http:// or https:// URL"),
    ("url: https:///x", "must be a fixed http:// or https:// URL"),
    ("url: https://a.example:99999/", "must be a fixed http:// or https:// URL"),
    ("url: https://a.example/{order}", "must be a fixed http:// or https:// URL"),
    ("url: https://user:key@a.example", "takes neither a user nor a #fragment"),
    ("url: http://127.0.0.1:8000/", "is not on the public internet"),
    ("url: http://localhost/", "is not on the public internet"),
    ("url: 'http://[::1]/'", "is not on the public internet"),
    ("headers: {Host: a}", "'Host' is no header that can be set"),
    ("headers: {'A B': a}", "'A B' is no header that can be set"),
    ("headers: {A: '${B'}", "A: one line of text"),
    ('headers: {A: "a\\nb"}', "A: one line of text"),
    ("timeout_s: 0", "input should be greater than 0"),
    ("parameters: {type: string}", "must be a JSON schema of `type: object`"),
    ("parameters: {type: object, properties: {a: {type: numbr}}}", "is no JSON schema: properties.a.type"),
    ("parameters: {type: object, properties: 7}", "is no JSON schema: properties"),
    ("parameters: {type: object, required: a}", "is no JSON schema: required"),
    ("parameters: {type: object, properties: {a: {anyOf: [{$ref: 'http://b'}]}}}", "write the schema out"),
    ("parameters: {type: object, properties: {a: {const: 2026-01-01}}}", "holds something that JSON does not have"),
    ("parameters: {type: object, properties: {a: {const: .nan}}}", "holds something that JSON does not have"),
    ("parameters: {type: object, properties: {yes: {}}}", "holds something that JSON does not have"),
]


@pytest.mark.parametrize(("text", "line", "why"), REFUSED_TOOLS)
def test_tools_that_cant_be_are_refused(folder: Path, text: str, line: int, why: str) -> None:
    """With the line and the field."""
    with pytest.raises(ProfileError) as refused:
        load(folder, f"instructions: x\n{text}\n")
    assert f"profiles/x.yaml:{line}: {why}" in str(refused.value)


@pytest.mark.parametrize(("text", "why"), REFUSED_FIELDS)
def test_an_http_tool_that_cant_be_is_refused(folder: Path, text: str, why: str) -> None:
    """What could fail or leak in a call is found before one."""
    rest = "" if text.startswith("url") else URL
    with pytest.raises(ProfileError) as refused:
        load(folder, f"{TOOL}    {text}\n{rest}")
    assert str(refused.value).startswith(f"profiles/x.yaml:5: tools.0.{text.partition(':')[0]}: {why}")


def test_private_hosts_are_reached_on_purpose(folder: Path) -> None:
    """A service in the same cluster."""
    tool = load(folder, f"{TOOL}    url: http://127.0.0.1:8000/\n    allow_private: true\n").tools[0]
    assert isinstance(tool, HttpTool)
    assert tool.is_private


def test_a_model_that_never_waits_has_no_blocking_tools(folder: Path) -> None:
    """It would refuse the setup."""
    text = f"{TOOL}{URL}    blocking: true\nmodel: gemini-3.8-live-extended-thinking\n"
    with pytest.raises(ProfileError, match=r"x.yaml:6: tools.0.blocking: gemini-3.8-live-ext\S+ waits for no tool"):
        load(folder, text)
