"""A campaign as its user runs it: a process of its own, real calls, and a report that agrees with the carrier's log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from cluster.campaign.store import CampaignStore
from cluster.storage import open_engine
from tests.e2e.conftest import SETTINGS, System, until

FILE = """\
name: e2e
profile: reminder
contacts: {file: contacts.csv, number: phone, context: {name: first, when: when}}
hours: Mo-Su 00:00-24:00
pacing: {calls_per_second: 2, concurrency: 3}
retries: {most_calls: 2, after: {busy: [1s]}}
"""
PHONES = {
    "+14155560101": ["success/agent-ended"],
    "+14155560202": ["success/caller-hung-up"],
    "+14155570202": ["success/caller-hung-up"],
    "+14155560486": ["caller/busy", "caller/busy"],
    "+14155560408": ["caller/no-answer"],
    "+14155560603": ["caller/declined"],
}
"""What comes of calling them."""


def start(system: System, folder: Path) -> subprocess.Popen[str]:
    """The campaign's process, in the system's cluster."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RINGMASTER_")} | SETTINGS
    environ |= system.ready["environ"] | {"RINGMASTER_RAY_ADDRESS": system.ready["ray"]}
    environ["RINGMASTER_STATE_DIR"] = system.ready["state_dir"]
    return subprocess.Popen(
        [sys.executable, "-m", "actors.campaign", str(folder / "campaign.yaml")],
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
    )


def progress(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Everything that it said from now on until its end."""
    assert process.stdout is not None
    said = [json.loads(line) for line in process.stdout if line.startswith("{")]
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    return said


def test_a_campaign_is_killed_paused_and_goes_on_to_its_end(system: System, tmp_path: Path) -> None:
    """Mixed outcomes; nobody is called twice; what is reported is what the carrier saw."""
    system.until_warm()
    rows = [f"Sam,{number},tomorrow at nine" for number in [*PHONES, next(iter(PHONES))]]
    (tmp_path / "contacts.csv").write_text("\n".join(["first,phone,when", *rows, "Sam,1,never"]))
    (tmp_path / "campaign.yaml").write_text(FILE)

    def dialled() -> list[dict[str, Any]]:
        return [call for call in system.carrier.get("/_calls").json()["calls"] if call["number"] in PHONES]

    killed = start(system, tmp_path)
    until(dialled)
    killed.kill()
    killed.communicate()
    paused = start(system, tmp_path)
    assert paused.stdout is not None
    next(line for line in paused.stdout if line.startswith("{"))
    paused.send_signal(signal.SIGTERM)
    assert progress(paused)[-1]["state"] == "paused"
    last = progress(start(system, tmp_path))[-1]

    assert (last["state"], last["done"], last["waiting"], last["unknown"]) == ("done", len(PHONES), 0, 0)
    expected = Counter(outcome for outcomes in PHONES.values() for outcome in outcomes)
    assert last["outcomes"] == expected
    assert Counter(call["number"] for call in dialled()) == {number: len(o) for number, o in PHONES.items()}
    engine = open_engine(f"sqlite:///{system.ready['state_dir']}/ringmaster.db")
    report = list(CampaignStore(engine).report("e2e"))
    engine.dispose()
    assert {row["number"]: row["outcomes"] for row in report} == PHONES
    assert last["spent_usd"] * 1_000_000 == sum(row["cost_usd_micros"] for row in report) > 0
    answered = next(row for row in report if row["outcomes"] == ["success/agent-ended"])
    assert answered["talk_s"] > 5
