"""The table of models: complete, priced, and refused with its line where it is wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from cluster.budget.prices import load_prices
from cluster.errors import ModelError
from cluster.models import load_models

VOICES = 30


def test_every_model_in_service_has_a_price() -> None:
    """A model that a profile may name can be paid for."""
    for model in load_models().values():
        if model.retired is None:
            assert load_prices().rates(model.name, date(2026, 11, 24)).audio_out > 0


def test_the_default_model_is_what_its_documentation_says() -> None:
    """gemini-3.8-live: both backends, listening always on, no thinking level, 30 voices."""
    model = load_models()["gemini-3.8-live"]
    assert set(model.backends) == {"developer", "vertex"}
    assert model.proactive_audio == "always"
    assert not model.thinking
    assert not model.affective_dialog
    assert model.trigger == "client_content"
    assert len(set(model.voices)) == VOICES


def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path) -> None:
    """The error names file, line, field and the value that would do."""
    table = tmp_path / "models.yaml"
    table.write_text("voices: [Kore]\nmodels:\n  a:\n    backends: [moon]\n")
    with pytest.raises(ModelError, match=rf"{tmp_path.name}/models.yaml:4: models.a.backends.0: input should be 'dev"):
        load_models(table)
