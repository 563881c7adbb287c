"""Starts the embedded stack and the application, prints where they are as one JSON line, and ends on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import ray

from actors import up
from actors.demo import configure, free_port
from cluster.local.stack import local_stack
from cluster.settings import load_settings
from tests.e2e.nodes import call_nodes


async def main() -> None:
    """Run until told to stop."""
    stop = asyncio.Event()
    port = free_port()
    webhook_url = f"http://127.0.0.1:{port}/livekit/webhook"
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ringmaster-e2e-") as folder:
        async with AsyncExitStack() as scope:
            stack = await scope.enter_async_context(
                local_stack(Path(folder), scenario=options.scenario, webhook_url=webhook_url)
            )
            key = configure(stack, Path(folder), port)
            if options.call_nodes:
                os.environ["RINGMASTER_RAY_ADDRESS"] = await scope.enter_async_context(call_nodes(options.call_nodes))
            url = up.start(load_settings())
            # Not before: Ray takes SIGTERM for a crash, and sets its own handler.
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            ready = {
                "url": url,
                "key": key,
                "carrier": stack.carrier_url,
                "meter": stack.meter_url,
                "environ": stack.environ,
                "state_dir": folder,
                "ray": ray.get_runtime_context().gcs_address,
            }
            print(json.dumps(ready), flush=True)  # noqa: T201 - the line that the test waits for
            await stop.wait()
            await asyncio.to_thread(up.stop)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", type=Path, nargs="?")
    parser.add_argument("--call-nodes", type=int, default=0, help="so many nodes of their own; else one for everything")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
