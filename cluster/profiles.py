"""Profiles: what an agent is, one YAML file each. A profile is also what a parked Live session is set up with.

Everything that could fail in the middle of a call is refused here, with the file and the line: unknown fields, models,
voices and tools, values that the model would not take, and `{variables}` that could never be filled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cluster.errors import ProfileError
from cluster.marked_yaml import MarkedFile, Part, Where
from cluster.models import Model
from cluster.tools import BUILT_IN, TRANSFER_CALL, Destination, HttpTool, Label, ToolEntry

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Sensitivity = Literal["low", "high"]
PositiveSeconds = Annotated[float, Field(gt=0)]


class Greeting(Part):
    """Who speaks first, and what the agent is told when the call is connected."""

    mode: Literal["speak-first", "wait"] = "speak-first"
    text: str = "Greet the caller."
    """An instruction to the model, not the words themselves."""


class Limits(Part):
    """What ends a call that does not end by itself."""

    max_duration_s: Annotated[float, Field(gt=0, le=14_400)] = 600
    """The agent says goodbye shortly before."""
    silence_s: PositiveSeconds = 30
    """Nobody spoke for so long: the call ends."""
    idle_reminder_s: PositiveSeconds = 10
    """Nobody spoke for so long: the agent asks whether the caller is still there …"""
    idle_reminders: Annotated[int, Field(ge=0, le=10)] = 2
    """… at most so many times in a row."""
    answer_within_s: Annotated[float, Field(ge=1, le=30)] = 2.5
    """The caller has spoken and no answer came for so long: the model is nudged, then its session is replaced."""
    max_cost_usd: Annotated[Decimal, Field(gt=0, le=100, decimal_places=6)] = Decimal(2)
    """Twenty minutes with the default compression cost about 2.50."""

    @property
    def max_cost_usd_micros(self) -> int:
        """The same in micro-dollars."""
        return int(self.max_cost_usd * 1_000_000)


class KeypadOptions(Part):
    """What the caller enters on the telephone's keypad is told to the model when it is complete."""

    timeout_s: Annotated[float, Field(ge=0.5, le=30)] = 2.0
    """So long after the last key …"""
    end_key: Literal["", "#", "*"] = "#"
    """… or with this key, which is no part of what was entered; empty: only by the pause."""


class RecordingOptions(Part):
    """Stereo FLAC, the caller left and the agent right."""

    enabled: bool = False
    """Off unless it is asked for: many places require that the caller is told."""
    url: Annotated[str, Field(min_length=1)]
    """A folder: a local path or any fsspec URL, such as s3://bucket/calls."""


class AudioOptions(Part):
    """How the Live session hears and speaks."""

    vad_silence_ms: Annotated[int, Field(ge=100, le=5_000)] = 500
    """Silence that ends the caller's turn; below 500 the model cuts people off, above 800 it feels slow."""
    vad_prefix_ms: Annotated[int, Field(ge=0, le=1_000)] = 20
    """Speech that begins a turn."""
    start_sensitivity: Sensitivity = "high"
    end_sensitivity: Sensitivity = "high"
    """`low` keeps a turn open for up to 30 s on a noisy telephone line."""
    interruptible: bool = True
    """Whether the caller can speak over the agent."""
    backchannels: bool = False
    """Short words over the agent ("mhm", "yes") do not stop it; it stops once the caller goes on speaking."""
    echo_guard: bool = False
    """For lines that send the agent's own voice back: while it speaks, what is much weaker is not passed on."""
    recording: RecordingOptions | None = None


class Compression(Part):
    """The whole context is billed again with every turn, so the oldest turns are dropped above a size."""

    trigger_tokens: Annotated[int, Field(ge=5_000)] = 25_000
    """About 16 minutes of talk; Google's own example."""
    target_tokens: Annotated[int, Field(ge=1_000)] = 8_000


class Fallback(Part):
    """Another model, or the same at another place, for when the main one does not serve."""

    model: str | None = None
    """None: the main one."""
    location: Annotated[str, Field(min_length=1)] | None = None
    """A region of Vertex AI; none: the installation's."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked for a Live session."""

    model: str
    location: str | None = None
    """A region of Vertex AI; none: the installation's."""

    def __str__(self) -> str:
        return f"{self.model}@{self.location}" if self.location else self.model


class _File(Part):
    """What stands in a profile's file."""

    instructions: Annotated[str, Field(min_length=1)]
    """Who the agent is and how it speaks; `{variables}` are filled by the `context` of each call."""
    greeting: Greeting = Greeting()
    model: str = "gemini-3.8-live"
    voice: str = "Kore"
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Z]{2}|-[0-9]{3})?$")] = "en-US"
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    thinking: Literal["minimal", "low", "medium", "high"] | None = None
    """How long the model thinks before it speaks, for models that do; none: its own default."""
    proactive_audio: bool | None = None
    """Whether the model may stay silent where nobody spoke to it; none: its own default."""
    affective_dialog: bool = False
    """Whether the model answers in the caller's mood."""
    tools: tuple[ToolEntry, ...] = ("end_call",)
    """What the agent can do besides talking: names of built-in tools, and HTTP tools with all that they need."""
    transfer: Mapping[Label, Destination] = Field(default={}, repr=False)  # pii
    """Where `transfer_call` may go, such as `sales: tel:+15551230002`: the model only ever sees the labels."""
    limits: Limits = Limits()
    audio: AudioOptions = AudioOptions()
    keypad: KeypadOptions = KeypadOptions()
    compression: Compression = Compression()
    fallback: Annotated[tuple[Fallback, ...], Field(max_length=3)] = ()
    """Who is asked, in this order, where the main model does not serve. Each try costs a caller time: three at most."""
    unavailable_sentence: str | None = None
    """A WAV file, beside the profile, for callers whom no model can serve; none: the English one that is shipped."""


class Profile(_File):
    """One agent."""

    name: str
    """The file's name without `.yaml`."""

    @cached_property
    def variables(self) -> frozenset[str]:
        """What the `context` of a call has to give."""
        return frozenset(_VARIABLE.findall(f"{self.instructions} {self.greeting.text}"))

    def targets(self) -> tuple[Target, ...]:
        """The main model first, then its fallbacks."""
        return _targets(self)

    def on(self, model: str) -> Profile:
        """The same agent on another model, which has to allow all that the profile asks for."""
        return self if model == self.model else self.model_copy(update={"model": model})


def load_profiles(folder: Path, models: Mapping[str, Model]) -> dict[str, Profile]:
    """Every profile of a folder, by name. Raises `ProfileError`: each line is `file:line: field: what is wrong`."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ProfileError(f"{folder}: there is no profile (*.yaml) in this folder; set RINGMASTER_PROFILES_DIR")
    return {path.stem: load_profile(path, models) for path in paths}


def load_profile(path: Path, models: Mapping[str, Model]) -> Profile:
    """One profile. Raises `ProfileError`."""
    file = MarkedFile(path, _File, ProfileError)
    found = file.content
    file.refuse(_refusals(path, found, models))
    sentence = found.unavailable_sentence
    return Profile(
        **found.model_dump(exclude={"unavailable_sentence"}),
        name=path.stem,
        unavailable_sentence=str(path.parent / sentence) if sentence else None,
    )


def _refusals(path: Path, profile: _File, models: Mapping[str, Model]) -> Iterator[tuple[Where, str]]:
    if not _NAME.fullmatch(path.stem):
        yield (), "a profile's file is named in lower-case letters, digits and hyphens"
    yield from _braces(("instructions",), profile.instructions)
    yield from _braces(("greeting", "text"), profile.greeting.text)
    yield from _refused_tools(profile)
    compression = profile.compression
    if compression.target_tokens >= compression.trigger_tokens:
        yield ("compression", "target_tokens"), "must be below trigger_tokens"
    if profile.unavailable_sentence and not (path.parent / profile.unavailable_sentence).is_file():
        yield ("unavailable_sentence",), f"there is no file {profile.unavailable_sentence} beside the profile"
    yield from _unless_known(("model",), "model", profile.model, models)
    if profile.model in models:
        yield from _refused_by_model(profile, models[profile.model])

    yield from _refused_fallbacks(profile, models)


def _targets(profile: _File) -> tuple[Target, ...]:
    others = (Target(other.model or profile.model, other.location) for other in profile.fallback)
    return Target(profile.model), *others


def _refused_fallbacks(profile: _File, models: Mapping[str, Model]) -> Iterator[tuple[Where, str]]:
    """A fallback gets the same setup as the main model, so it has to allow the same."""
    main, *others = targets = _targets(profile)
    for i, target in enumerate(others):
        here: Where = ("fallback", i)
        if target in targets[: i + 1]:
            yield here, "is the main model or an earlier fallback once more; name another model or location"
        if target.model != main.model:
            yield from _unless_known((*here, "model"), "model", target.model, models)
        if (model := models.get(target.model)) is None:
            continue
        if target.location and "vertex" not in model.backends:
            yield (*here, "location"), f"{model.name} is not on Vertex AI, which alone has locations; leave it out"
        if target.model != main.model:
            for (field, *_), what in _refused_by_model(profile, model):
                yield (*here, "model"), what if field == "model" else f"{field}: {what}"


def _refused_tools(profile: _File) -> Iterator[tuple[Where, str]]:
    names: set[str] = set()
    for i, tool in enumerate(profile.tools):
        name = tool if isinstance(tool, str) else tool.name
        if isinstance(tool, str):
            yield from _unless_known(("tools", i), "tool", name, BUILT_IN)
        elif name in BUILT_IN:
            yield ("tools", i, "name"), f"{name} is a built-in tool; choose another name"
        elif tool.is_private and not tool.allow_private:
            yield ("tools", i, "url"), "is not on the public internet; set `allow_private: true` if that is meant"
        if name in names:
            yield ("tools", i), f"there are two tools {name!r}"
        names.add(name)
    if TRANSFER_CALL in names and not profile.transfer:
        yield ("tools",), "transfer_call needs `transfer:`, the destinations by label"
    if profile.transfer and TRANSFER_CALL not in names:
        yield ("transfer",), "needs transfer_call among the tools"


def _refused_by_model(profile: _File, model: Model) -> Iterator[tuple[Where, str]]:
    if model.retired:
        yield ("model",), f"{model.name} is not served any more since {model.retired}"
    yield from _unless_known(("voice",), "voice", profile.voice, model.voices)
    if profile.thinking and not model.thinking:
        yield ("thinking",), f"{model.name} takes no thinking level; leave it out"
    if profile.affective_dialog and not model.affective_dialog:
        yield ("affective_dialog",), f"{model.name} does not have it; leave it out"
    if profile.proactive_audio is not None and model.proactive_audio != "optional":
        yield ("proactive_audio",), f"it is {model.proactive_audio} on with {model.name}; leave it out"
    for i, tool in enumerate(profile.tools):
        if isinstance(tool, HttpTool) and tool.blocking and model.tools == "non_blocking_only":
            yield ("tools", i, "blocking"), f"{model.name} waits for no tool; leave it out"
    if profile.compression.trigger_tokens >= model.context_tokens:
        yield ("compression", "trigger_tokens"), f"{model.name} holds {model.context_tokens} tokens"


def _unless_known(where: Where, what: str, name: str, known: Iterable[str]) -> Iterator[tuple[Where, str]]:
    if name not in set(known):
        nearest = get_close_matches(name, known, n=1, cutoff=0.4)
        yield where, f"there is no {what} {name!r}" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _braces(where: Where, text: str) -> Iterator[tuple[Where, str]]:
    if re.search(r"[{}]", _VARIABLE.sub("", text)):
        yield where, "braces only stand around a variable's name, as in {customer_name}"
