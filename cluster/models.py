"""What each Gemini Live model is and allows, from `models.yaml`: data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cluster.errors import ModelError
from cluster.marked_yaml import MarkedFile

MODELS_FILE = Path(__file__).with_name("models.yaml")
Backend = Literal["developer", "vertex"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    backends: tuple[Backend, ...]
    trigger: Literal["client_content", "realtime_text"]
    """How a text reaches the model in the middle of a session."""
    tools: Literal["blocking", "optional", "non_blocking_only"]
    """Whether the model waits for the result of a tool: always, as each tool's declaration says, or never."""
    input_during_tool: Literal["accepted", "refused"]
    """While it waits: whether the caller's new words cancel the call, or anything but the result ends the session."""
    thinking: bool
    proactive_audio: Literal["always", "optional", "never"]
    affective_dialog: bool
    context_tokens: int
    retired: date | None = None


class Model(_Row):
    """One model. Its prices stand in `budget/prices.yaml` under the same name."""

    name: str
    voices: tuple[str, ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    voices: tuple[str, ...]
    models: Mapping[str, _Row]


@cache
def load_models(path: Path = MODELS_FILE) -> Mapping[str, Model]:
    """Every model by name. Raises `ModelError` with file and line."""
    table = MarkedFile(path, _Table, ModelError).content
    return {name: Model(name=name, voices=table.voices, **row.model_dump()) for name, row in table.models.items()}
