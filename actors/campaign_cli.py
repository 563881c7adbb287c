"""`ringmaster campaign`: campaigns from the command line, as Ray jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live

from actors import jobs
from actors.jobs import Job, Jobs
from cluster.budget.prices import load_prices
from cluster.campaign.file import Campaign, load_campaign
from cluster.campaign.forecast import forecast
from cluster.campaign.show import forecast_json, forecast_view, progress_view, report_csv
from cluster.campaign.store import CampaignStore
from cluster.cli import AsJson, database
from cluster.errors import InputError
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import prices_file, profiles_dir
from cluster.show import show

LOOK_EVERY_S: Final = 1.0

campaigns = typer.Typer(help="Calls to many contacts, each in its own hours.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The campaign's YAML file.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The campaign's `name`.", show_default=False)]
Address = Annotated[
    str, typer.Option(help="URL of Ray's dashboard, which serves the Jobs API.", envvar="RAY_API_SERVER_ADDRESS")
]
DASHBOARD: Final = "http://127.0.0.1:8265"
Watch = Annotated[bool, typer.Option(help="Show how far it is, until it ends; Ctrl-C ends the showing only.")]


@campaigns.command()
def start(
    file: File,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say whom it would call, when and for how much.")
    ] = False,
    watch: Watch = True,
    address: Address = DASHBOARD,
    as_json: AsJson = False,
) -> None:
    """Run a campaign as a Ray job; the same name goes on where it was."""
    campaign = _load(file)
    if dry_run:
        now = time.time()
        found = forecast(campaign, campaign.contacts(now), load_prices(prices_file()), now)
        show(forecast_json(campaign, found), forecast_view(campaign, found, now), as_json=as_json)
        return
    running = jobs.connect(address)
    job = running.submit(campaign.file.name, file)
    show({"job": job.job_id, "campaign": job.campaign}, f"{job.campaign} runs as job {job.job_id}", as_json=as_json)
    if watch:
        _watch(running, job, as_json=as_json)


@campaigns.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Show this one only, until it ends.", show_default=False)] = None,
    *,
    watch: Watch = False,
    address: Address = DASHBOARD,
    as_json: AsJson = False,
) -> None:
    """Show how far campaigns are."""
    running = jobs.connect(address)
    if name is not None and watch:
        _watch(running, running.newest(name), as_json=as_json)
        return
    newest = {job.campaign: job for job in running.all()} if name is None else {name: running.newest(name)}
    rows = [_row(job, running.progress(job)) for job in newest.values()]
    show(rows, progress_view(rows), as_json=as_json)


@campaigns.command()
def pause(name: Name, *, address: Address = DASHBOARD, as_json: AsJson = False) -> None:
    """Begin no more calls. Those in progress go on; `resume` goes on with the others."""
    running = jobs.connect(address)
    job = running.newest(name)
    if job.is_over:
        raise InputError(f"the campaign {name} does not run; its last job is {job.status}")
    running.stop(job)
    _watch(running, job, as_json=as_json)


@campaigns.command()
def resume(file: File, *, watch: Watch = True, address: Address = DASHBOARD, as_json: AsJson = False) -> None:
    """Go on with a campaign that was paused, was stopped or failed."""
    start(file, dry_run=False, watch=watch, address=address, as_json=as_json)


@campaigns.command()
def cancel(name: Name, *, address: Address = DASHBOARD) -> None:
    """Begin no more calls, ever. Those in progress go on. Needs DATABASE_URL."""
    if not CampaignStore(database()).cancel(name):
        raise InputError(f"there is no campaign {name!r} in this database")
    running = jobs.connect(address)
    for job in running.of(name):
        if not job.is_over:
            running.stop(job)
    show({"campaign": name, "state": "cancelled"}, f"{name} is cancelled", as_json=False)


@campaigns.command()
def report(
    name: Name,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of the screen.")] = None,
) -> None:
    """Write what came of every contact as CSV. It holds whole numbers. Needs DATABASE_URL."""
    store = CampaignStore(database())
    if store.state(name) is None:
        raise InputError(f"there is no campaign {name!r} in this database")
    try:
        with nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8", newline="") as file:
            report_csv(store.report(name), file)
    except OSError as error:
        if output is None:
            raise  # whoever read it has gone
        raise InputError(f"{output}: can't be written: {error.strerror}") from None


def _watch(running: Jobs, job: Job, *, as_json: bool) -> None:
    """Show it until it ends; with 1 if it failed."""
    seen: dict[str, Any] | None = None
    with nullcontext() if as_json else Live(refresh_per_second=2) as live:
        while True:
            job = next((found for found in running.of(job.campaign) if found.job_id == job.job_id), job)
            row = _row(job, running.progress(job))
            if live is not None:
                live.update(progress_view([row]))
            elif row != seen:
                show(row, None, as_json=True)
            if job.is_over:
                break
            seen = row
            time.sleep(LOOK_EVERY_S)
    if job.status == "FAILED":
        print(running.last_words(job), file=sys.stderr)  # noqa: T201 - what the campaign's process said last
        raise typer.Exit(1)


def _row(job: Job, progress: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"campaign": job.campaign, "job": job.job_id, "status": job.status} | (
        {name: value for name, value in (progress or {}).items() if name != "campaign"}
    )


def _load(file: Path) -> Campaign:
    return load_campaign(file, load_profiles(profiles_dir(), load_models()))
