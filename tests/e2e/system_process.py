"""Starts the embedded stack and the application, prints where they are as one JSON line, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

import ray

from actors import up
from actors.demo import configure, free_port
from cluster.local.stack import local_stack
from cluster.settings import load_settings


async def main() -> None:
    """Run until told to stop."""
    stop = asyncio.Event()
    port = free_port()
    webhook_url = f"http://127.0.0.1:{port}/livekit/webhook"
    scenario = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="ringmaster-e2e-") as folder:
        async with local_stack(Path(folder), scenario=scenario, webhook_url=webhook_url) as stack:
            key = configure(stack, Path(folder), port)
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


if __name__ == "__main__":
    asyncio.run(main())
