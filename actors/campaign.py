"""The Ray job of a campaign: `ray job submit --working-dir . -- python -m actors.campaign campaign.yaml`.

It prints how far it is, one JSON document a line. SIGTERM ends the dialling and nothing else: the calls in progress are
not its children. Started again, it goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from actors import control_plane, names
from cluster import cli
from cluster.campaign.driver import Driver, Ending
from cluster.campaign.file import Campaign, load_campaign
from cluster.campaign.ports import Others
from cluster.dispatch.rooms import open_rooms
from cluster.logs import configure_logging
from cluster.models import load_models
from cluster.profiles import load_profiles
from cluster.settings import load_settings

if TYPE_CHECKING:
    from cluster.settings import Settings

PRINT_EVERY_S: Final = 2.0

job = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@job.command()
def campaign(file: Annotated[Path, typer.Argument(help="The campaign's YAML file.")]) -> None:
    """Run a campaign until it is done, is stopped by its conditions, or this process is told to end."""
    settings = load_settings()
    configure_logging(settings)
    found = load_campaign(file, load_profiles(settings.profiles_dir, load_models()))
    names.connect(settings)
    names.ensure_campaign_book(settings)
    asyncio.run(_drive(found, settings))


async def _drive(found: Campaign, settings: Settings) -> Ending:
    rooms = open_rooms(settings.livekit)
    others = Others(
        book=control_plane.campaign_book(), pool=control_plane.pool(), history=control_plane.history(), rooms=rooms
    )
    driver = Driver(
        found,
        others,
        driver=secrets.token_hex(8),
        room_prefix=settings.dispatch.room_prefix,
        on_progress=_Printer().show,
    )
    # Not before Ray is connected: it takes SIGTERM for a crash, and sets its own handler.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driver.pause)
    try:
        return await driver.run()
    finally:
        await rooms.close()


class _Printer:
    """Prints how far it is: every new state at once, numbers every two seconds at most."""

    def __init__(self) -> None:
        self._state = ""
        self._next_at = 0.0

    def show(self, progress: dict[str, Any]) -> None:
        """Print it, if it is time."""
        now = time.monotonic()
        if progress["state"] != self._state or now >= self._next_at:
            self._state, self._next_at = progress["state"], now + PRINT_EVERY_S
            print(json.dumps(progress), flush=True)  # noqa: T201 - the job's log is where this is looked for


def main() -> None:
    """The job's entry."""
    cli.run(job)


if __name__ == "__main__":
    main()
