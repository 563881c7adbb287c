"""`ringmaster campaign`."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from actors import jobs
from actors.campaign_cli import campaigns
from cluster.campaign.contacts import Contact
from cluster.campaign.show import REJECTED_SHOWN, ZONES_SHOWN
from cluster.campaign.states import Step, attempt_id, contact_id
from cluster.campaign.store import CampaignStore, Move
from cluster.errors import InputError
from cluster.settings import EXAMPLES
from cluster.storage import open_engine, upgrade
from tests.fixtures.campaign import TEXT, Folder

EXAMPLE_NAME = "december-reminders"
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


@dataclass
class JobOfRay:
    """As `ray.job_submission.JobDetails`."""

    submission_id: str | None
    metadata: dict[str, str] | None
    status: str = "RUNNING"
    start_time: int = 0


@dataclass
class RayJobs:
    """As `ray.job_submission.JobSubmissionClient`; a job is over after it was looked at twice."""

    jobs: list[JobOfRay] = field(default_factory=lambda: [JobOfRay(None, None), JobOfRay("other", {})])
    submitted: list[dict[str, Any]] = field(default_factory=list)
    logs: str = ""
    ends_as: str = "SUCCEEDED"
    looks: int = 0

    def submit_job(self, **job: Any) -> str:
        """Start one."""
        self.submitted.append(job)
        self.jobs.append(JobOfRay(job["submission_id"], job["metadata"], start_time=len(self.jobs)))
        return str(job["submission_id"])

    def list_jobs(self) -> list[JobOfRay]:
        """All of them."""
        self.looks += 1
        if self.looks > 3:
            self.jobs[-1].status = self.ends_as
        return self.jobs

    def get_job_logs(self, _job_id: str) -> str:
        """What it said."""
        return self.logs

    def stop_job(self, _job_id: str) -> bool:
        """SIGTERM."""
        self.ends_as = "STOPPED"
        return True


@pytest.fixture
def ray_jobs(monkeypatch: pytest.MonkeyPatch) -> RayJobs:
    """The Jobs API of a cluster."""
    found = RayJobs()
    monkeypatch.setattr(jobs, "connect", lambda _address: jobs.Jobs(found))
    monkeypatch.setattr("actors.campaign_cli.LOOK_EVERY_S", 0)
    said = {
        "campaign": EXAMPLE_NAME,
        "state": "running",
        "why": "",
        "waiting": 3,
        "calling": 1,
        "done": 1,
        "unknown": 0,
    }
    said |= {"calls": 2, "spent_usd": 0.5, "outcomes": {"caller/busy": 1}}
    found.logs = f"a warning\n{json.dumps(said)}\n{json.dumps(said | {'state': 'stopped', 'why': 'money'})}\nbye\n"
    return found


def ringmaster(*arguments: str, **environ: str) -> Result:
    """Run `ringmaster campaign`."""
    return CliRunner().invoke(campaigns, list(arguments), env={"COLUMNS": "160"} | environ)


def test_a_campaign_is_started_as_a_job(ray_jobs: RayJobs) -> None:
    """With its folder, its name and time to end well; shown until its end."""
    result = ringmaster("start", EXAMPLE)
    assert result.exit_code == 0, result.output
    (job,) = ray_jobs.submitted
    assert job["entrypoint"] == "python -m actors.campaign campaign.yaml"
    assert job["submission_id"] == f"campaign-{EXAMPLE_NAME}-1"
    assert job["runtime_env"]["working_dir"] == str(EXAMPLES / "campaign")
    for text in (EXAMPLE_NAME, "stopped (money)", "$0.5000", "1 caller/busy"):
        assert text in result.output
    again = ringmaster("resume", EXAMPLE, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.output.splitlines()[-1])["outcomes"] == {"caller/busy": 1}
    assert ray_jobs.submitted[1]["submission_id"] == f"campaign-{EXAMPLE_NAME}-2"


@pytest.mark.usefixtures("ray_jobs")
def test_a_campaign_runs_once() -> None:
    """A second job would only take it over."""
    assert ringmaster("start", EXAMPLE, "--no-watch").exit_code == 0
    result = ringmaster("start", EXAMPLE)
    assert isinstance(result.exception, InputError)
    assert "runs already" in str(result.exception)


def test_a_job_that_fails_says_why(ray_jobs: RayJobs) -> None:
    """Its last line is the error."""
    ray_jobs.ends_as = "FAILED"
    result = ringmaster("start", EXAMPLE)
    assert result.exit_code == 1
    assert result.stderr == "bye\n"


def test_how_far_campaigns_are(ray_jobs: RayJobs) -> None:
    """One, all, or one until its end."""
    ringmaster("start", EXAMPLE, "--no-watch")
    (row,) = json.loads(ringmaster("status", "--json").output)
    assert (row["campaign"], row["status"], row["state"]) == (EXAMPLE_NAME, "RUNNING", "stopped")
    assert EXAMPLE_NAME in ringmaster("status", EXAMPLE_NAME).output
    assert "stopped (money)" in ringmaster("status", EXAMPLE_NAME, "--watch").output
    unknown = ringmaster("status", "nothing")
    assert "there are: december-reminders" in str(unknown.exception)
    ray_jobs.logs = ""
    assert json.loads(ringmaster("status", "--json").output)[0].keys() == {"campaign", "job", "status"}


def test_a_campaign_is_paused(ray_jobs: RayJobs) -> None:
    """Its job is told to end, and looked at until it has."""
    ringmaster("start", EXAMPLE, "--no-watch")
    assert ringmaster("pause", EXAMPLE_NAME).exit_code == 0
    assert ray_jobs.ends_as == "STOPPED"
    again = ringmaster("pause", EXAMPLE_NAME)
    assert "its last job is STOPPED" in str(again.exception)


def test_cancel_and_report_read_the_database(ray_jobs: RayJobs, tmp_path: Path) -> None:
    """The report has whole numbers, since it is for whom they belong to."""
    url = f"sqlite:///{tmp_path}/a.db"
    engine = open_engine(url)
    upgrade(engine)
    store = CampaignStore(engine)
    store.open(EXAMPLE_NAME, "default", "d", 1.0)
    number = "+14155550101"
    store.add(EXAMPLE_NAME, "d", [(Contact(line=2, number=number, zones=("Europe/Berlin",), context={}), 1.0)])
    sam = contact_id(EXAMPLE_NAME, number)
    move = Move(
        campaign=EXAMPLE_NAME, contact=sam, step=Step.BEGIN, attempt=attempt_id(EXAMPLE_NAME, sam, 1), at=1_796_000_000
    )
    store.begin("d", move)
    report = ringmaster("report", EXAMPLE_NAME, DATABASE_URL=url)
    (row,) = csv.DictReader(report.output.splitlines())
    assert (row["number"], row["state"], row["calls"], row["last_call_at"]) == (
        number,
        "dialling",
        "1",
        "2026-11-30 00:53Z",
    )
    assert ringmaster("report", EXAMPLE_NAME, "-o", str(tmp_path / "r.csv"), DATABASE_URL=url).output == ""
    assert number in (tmp_path / "r.csv").read_text()
    nowhere = ringmaster("report", EXAMPLE_NAME, "-o", str(tmp_path / "no" / "r.csv"), DATABASE_URL=url).exception
    assert isinstance(nowhere, InputError)
    assert str(nowhere) == f"{tmp_path}/no/r.csv: can't be written: No such file or directory"
    ringmaster("start", EXAMPLE, "--no-watch")
    assert ringmaster("cancel", EXAMPLE_NAME, DATABASE_URL=url).output == f"{EXAMPLE_NAME} is cancelled\n"
    assert ray_jobs.ends_as == "STOPPED"
    assert store.state(EXAMPLE_NAME) == ("cancelled", "")
    engine.dispose()
    for command in ("cancel", "report"):
        assert "there is no campaign 'x'" in str(ringmaster(command, "x", DATABASE_URL=url).exception)


def test_a_cluster_that_is_not_there() -> None:
    """One line says where nobody answered."""
    result = ringmaster("status", "--address", "http://127.0.0.1:1")
    assert isinstance(result.exception, jobs.JobsUnavailable)
    assert "http://127.0.0.1:1" in str(result.exception)


def test_a_cluster_that_takes_no_jobs(ray_jobs: RayJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray says, in one line."""

    def refuse(**_job: Any) -> str:
        message = "Request failed with status code 500: No available agent to submit job.\nmore"
        raise RuntimeError(message)

    monkeypatch.setattr(ray_jobs, "submit_job", refuse)
    result = ringmaster("start", EXAMPLE)
    assert isinstance(result.exception, jobs.JobsUnavailable)
    assert str(result.exception).startswith("Ray's Jobs API: 500: No available agent to submit job.; --address")
