"""What must not be in logs, metrics and error pages is planted, and looked for after real calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.e2e.conftest import System, joined, until

NUMBER = "+14155557731"
CARD = "4242 4242 4242 4242"
SPOKEN = "What time do you open on Sunday"
JWT = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}")


@pytest.fixture
def log_folder(system: System) -> Iterator[Path]:
    """Where Ray keeps what every process of the system writes."""
    with joined(system):
        node: Any = ray._private.worker._global_node
        yield Path(node.get_logs_dir_path())


def error_pages(system: System) -> list[str]:
    """Answers to requests that are wrong, each with something in it that should not come back."""
    wrong = [
        system.api.post("/v1/calls", json={"to": NUMBER[:-1] + "x", "profile": "reminder", "context": {"card": CARD}}),
        system.api.post("/v1/calls", json={"to": NUMBER, "profile": "nobody"}),
        system.api.get("/v1/calls", headers={"Authorization": f"Bearer rm_{CARD}"}),
        system.api.get("/v1/calls", params={"state": NUMBER}),
        system.api.post("/livekit/webhook", content=NUMBER, headers={"Authorization": "nonsense"}),
    ]
    assert all(answer.status_code >= 400 for answer in wrong)
    return [answer.text for answer in wrong]


def test_nothing_that_was_planted_comes_to_light(system: System, log_folder: Path) -> None:
    """Keys, tokens, numbers, a card number and what was said: 0 times."""
    system.until_warm()
    phone_call = system.ring(**{"from": NUMBER})
    context = {"name": CARD, "when": "tomorrow morning at nine"}
    dialled = system.dial("+14155550102", context=context).json()["call_id"]
    system.phone(phone_call)
    assert system.ended(dialled)["outcome"]["result"] == "success"
    until(lambda: system.api.get("/v1/calls", params={"state": "live"}).json()["calls"] == [])
    environ = system.ready["environ"]
    planted = {
        "the Gemini key": environ["GEMINI_API_KEY"],
        "LiveKit's secret": environ["LIVEKIT_API_SECRET"],
        "the API key": system.ready["key"],
        "a caller's number": NUMBER[1:],
        "a card number": CARD,
        "what was said": SPOKEN,
    }
    texts = {"the metrics": system.api.get("/metrics").text, "an error page": "\n".join(error_pages(system))}
    texts |= {str(file): file.read_text(errors="replace") for file in log_folder.rglob("*") if file.is_file()}
    assert len(texts) > 10
    found = [f"{what} in {where}" for where, text in texts.items() for what, it in planted.items() if it in text]
    found += [f"a token in {where}" for where, text in texts.items() if JWT.search(text)]
    assert found == []
