"""Campaigns as Ray jobs: submitted, found, read and stopped over the Jobs API alone."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.errors import InputError, RingmasterError

STOP_WITHIN_S: Final = 60
"""Between SIGTERM and SIGKILL a paused campaign follows the calls in progress; Ray's own 3 s see few to their end."""
OVER: Final = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
NAME: Final = "campaign"
"""The key of a job's metadata that holds its campaign."""


class JobsUnavailable(RingmasterError):
    """Ray's Jobs API can't be reached."""


@dataclass(frozen=True, slots=True)
class Job:
    """A campaign's job."""

    job_id: str
    campaign: str
    status: str
    """Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    started_ms: int

    @property
    def is_over(self) -> bool:
        """Its process has ended."""
        return self.status in OVER


def connect(address: str) -> Jobs:
    """The jobs of the cluster whose dashboard is at that URL. Raises `JobsUnavailable`."""
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # of each package that it uploads
    with _answering():
        return Jobs(JobSubmissionClient(address))


@contextmanager
def _answering() -> Iterator[None]:
    """Ray's client raises whatever went wrong as one of these, with the answer's text."""
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0].removeprefix("Request failed with status code ")
        raise JobsUnavailable(f"Ray's Jobs API: {why}; --address is the URL of Ray's dashboard") from None


class Jobs:
    """The campaigns' jobs of one cluster."""

    def __init__(self, api: Any) -> None:
        """`api` is Ray's `JobSubmissionClient`."""
        self._api = api

    def submit(self, campaign: str, file: Path) -> Job:
        """Start a campaign's job, with the folder of its file. Raises `InputError` if it runs already."""
        known = self.of(campaign)
        if known and not known[-1].is_over:
            raise InputError(f"the campaign {campaign} runs already, as job {known[-1].job_id}")
        with _answering():
            job_id: str = self._api.submit_job(
                entrypoint=f"python -m actors.campaign {shlex.quote(file.name)}",
                submission_id=f"campaign-{campaign}-{len(known) + 1}",
                metadata={NAME: campaign},
                runtime_env={
                    "working_dir": str(file.parent.resolve()),
                    "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WITHIN_S)},
                },
            )
        return Job(job_id, campaign, "PENDING", 0)

    def all(self) -> list[Job]:
        """Every campaign's jobs, the oldest first."""
        with _answering():
            listed = self._api.list_jobs()
        jobs = [
            Job(
                found.submission_id,
                found.metadata[NAME],
                str(getattr(found.status, "value", found.status)),
                found.start_time or 0,
            )
            for found in listed
            if found.submission_id and NAME in (found.metadata or {})
        ]
        return sorted(jobs, key=lambda job: job.started_ms)

    def of(self, campaign: str) -> list[Job]:
        """One campaign's jobs, the oldest first."""
        return [job for job in self.all() if job.campaign == campaign]

    def newest(self, campaign: str) -> Job:
        """Its last job. Raises `InputError` if there is none."""
        known = self.of(campaign)
        if not known:
            names = ", ".join(sorted({job.campaign for job in self.all()})) or "none"
            raise InputError(f"there is no job of a campaign {campaign!r}; there are: {names}")
        return known[-1]

    def progress(self, job: Job) -> Mapping[str, Any] | None:
        """How far it said that it is, last; None if it has not said anything."""
        for line in reversed(self._logs(job)):
            if line.startswith('{"campaign"'):
                found: dict[str, Any] = json.loads(line)
                return found
        return None

    def last_words(self, job: Job) -> str:
        """The last line that it printed."""
        lines = self._logs(job)
        return lines[-1] if lines else ""

    def _logs(self, job: Job) -> list[str]:
        with _answering():
            text: str = self._api.get_job_logs(job.job_id)
        return text.strip().splitlines()

    def stop(self, job: Job) -> None:
        """Begin no more calls; the job ends when those in progress have, or after `STOP_WITHIN_S`."""
        with _answering():
            self._api.stop_job(job.job_id)
