"""`ringmaster campaign`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from actors.campaign_cli import campaigns
from cluster.campaign.show import REJECTED_SHOWN, ZONES_SHOWN
from cluster.errors import InputError
from cluster.settings import EXAMPLES
from tests.fixtures.campaign import TEXT, Folder

EXAMPLE = str(EXAMPLES / "campaign" / "campaign.yaml")


def test_a_dry_run_says_what_would_happen() -> None:
    """How many, when, for how much, and who is not called."""
    result = CliRunner().invoke(campaigns, ["start", "--dry-run", EXAMPLE], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    for text in ("december-reminders", "1 duplicate, 1 suppressed", "Europe/Berlin", "at most $1.25"):
        assert text in result.output
    assert "+1" not in result.output


def test_a_dry_run_for_programs() -> None:
    """One JSON document."""
    found = json.loads(CliRunner().invoke(campaigns, ["start", "--dry-run", "--json", EXAMPLE]).output)
    assert (found["contacts"], found["calls"]) == (5, 5)
    assert [rejected["line"] for rejected in found["rejected"]] == [7, 8]


def test_a_long_list_is_shortened(folder: Folder) -> None:
    """What is bad stands first."""
    zones = ["Europe/Berlin", "Europe/Paris", "Europe/Rome", "Europe/Madrid", "Europe/Lisbon", "Europe/Oslo"]
    zones += ["Europe/Warsaw", "Europe/Athens", "Europe/Sofia", "Europe/Vienna", "Europe/Zurich", "Europe/Riga"]
    zones += ["Europe/Tallinn", "Europe/Vilnius"]
    good = [f"A,+1415555{n:04},x,{zone}" for n, zone in enumerate(zones)]
    bad = ["A,+14155550000,x,"] + ["A,1,x,"] * (REJECTED_SHOWN + 5)
    folder.write("contacts.csv", "\n".join(["first,phone,when,zone", *good, *bad]))
    (folder.path / "campaign.yaml").write_text(TEXT.replace("number: phone", "number: phone\n  time_zone: zone"))
    result = CliRunner().invoke(campaigns, ["start", "--dry-run", str(folder.path / "campaign.yaml")])
    assert f"and {len(zones) - ZONES_SHOWN} more" in result.output
    assert "and 6 more; --json has them all" in result.output
    assert "earlier line" not in result.output


def test_a_file_that_is_wrong(folder: Folder) -> None:
    """The command line shows it as one line, see `cluster.cli.run`."""
    (folder.path / "campaign.yaml").write_text(TEXT.replace("name: test", "name: Test"))
    result = CliRunner().invoke(campaigns, ["start", "--dry-run", str(folder.path / "campaign.yaml")])
    assert isinstance(result.exception, InputError)
