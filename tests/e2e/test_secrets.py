"""Secrets and personal data that were put in everywhere: how often they come out where they have no business."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
from ray._private import worker

from tests.e2e.conftest import System

CARD = "4111111111111111"
PHONE = "+14155550102"
UNKNOWN_KEY = "rm_0badc0de_ThisKeyIsNotOneOfOurs0123456789abcdef"
TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]{10,}")


@pytest.fixture
def logs(system: System) -> Path:
    """Ray's folder with the logs of every process."""
    ray.init(address=system.ready["ray"], log_to_driver=False)
    node: Any = worker._global_node
    folder = Path(node.get_logs_dir_path())
    ray.shutdown()
    return folder


@pytest.fixture
def exported(system: System) -> str:
    """What Ray's exporters show."""
    ray.init(address=system.ready["ray"], log_to_driver=False)
    ports = [node["MetricsExportPort"] for node in ray.nodes()]
    ray.shutdown()
    return "\n".join(httpx2.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for port in ports)


def pages(system: System) -> Iterator[str]:
    """Errors, each provoked with a secret in it, and the application's metrics."""
    with httpx2.Client(base_url=system.ready["url"], trust_env=False) as stranger:
        origin = {"Origin": system.ready["url"]}
        yield stranger.post("/login", content=f"key={UNKNOWN_KEY}", headers=origin).text
        yield stranger.get("/v1/calls", headers={"Authorization": f"Bearer {UNKNOWN_KEY}"}).text
        yield stranger.post("/livekit/webhook", content=CARD, headers={"Authorization": UNKNOWN_KEY}).text
    yield system.api.post("/v1/calls", json={"to": PHONE, "profile": 1, "context": {"card": CARD}, "more": CARD}).text
    yield system.api.post("/v1/calls", content=f'{{"to": "{PHONE}", {CARD}').text
    yield system.api.get("/v1/calls", params={"search": PHONE, "limit": CARD}).text
    yield system.api.get("/metrics").text


def test_planted_secrets_come_out_nowhere(system: System, logs: Path, exported: str) -> None:
    """Keys, tokens, phone and card numbers: 0 times in logs, metrics and error pages, after calls that had them all."""
    system.until_warm()
    inbound = system.ring()
    number = system.phone(inbound, until="none", timeout_s=0)["number"]
    assert system.api.get("/v1/calls", params={"search": number}).status_code == 200
    outbound = system.dial(PHONE, context={"name": "Sam", "when": CARD}).json()["call_id"]
    busy = system.dial("+14155550486").json()["call_id"]
    for call_id in (outbound, busy, system.inbound_call(inbound)["call_id"]):
        system.ended(call_id)
    environ = system.ready["environ"]
    secrets = [system.ready["key"], environ["LIVEKIT_API_SECRET"], environ["GEMINI_API_KEY"]]
    secrets += [UNKNOWN_KEY, CARD, PHONE, PHONE[1:], number, number[1:]]
    files = [path for path in logs.rglob("*") if path.is_file()]
    assert len(files) > 10
    texts = {str(path): path.read_text(errors="replace") for path in files}
    texts |= {f"page {n}": text for n, text in enumerate(pages(system))} | {"Ray's metrics": exported}
    found = [
        (where, secret[:12])
        for where, text in texts.items()
        for secret in [*secrets, *TOKEN.findall(text)]
        if secret in text
    ]
    assert found == []
