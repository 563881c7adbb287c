"""`ringmaster campaign`: campaigns from the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.budget.prices import load_prices
from cluster.campaign.file import Campaign, load_campaign
from cluster.campaign.forecast import forecast
from cluster.campaign.show import forecast_json, forecast_view
from cluster.cli import AsJson, show
from cluster.errors import InputError
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import prices_file, profiles_dir

campaigns = typer.Typer(help="Calls to many contacts, each in its own hours.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The campaign's YAML file.", show_default=False)]


@campaigns.callback()
def group() -> None:
    """Keep `start` a command of its own even while it is the only one."""


@campaigns.command()
def start(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say whom it would call, when and for how much.")],
    as_json: AsJson = False,
) -> None:
    """Say what a campaign would do, and which rows of its contacts are no contacts."""
    if not dry_run:
        raise InputError("campaigns can only be planned in this version; add --dry-run")
    campaign = _load(file)
    now = time.time()
    found = forecast(campaign, campaign.contacts(now), load_prices(prices_file()), now)
    show(forecast_json(campaign, found), forecast_view(campaign, found, now), as_json=as_json)


def _load(file: Path) -> Campaign:
    return load_campaign(file, load_profiles(profiles_dir(), load_models()))
