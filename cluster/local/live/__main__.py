"""``python -m cluster.local.live --scenario FILE``: serves until told to stop; one JSON line on stdout says where."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from cluster.local.live import LiveEndpoint
from cluster.local.recognizer import RecognizerError
from cluster.local.scenario import SHIPPED, ScenarioError


def main() -> int:
    """Runs the endpoint; 0 after SIGINT or SIGTERM, 1 with one line on stderr if it can't start."""
    parser = argparse.ArgumentParser(prog="python -m cluster.local.live", description="A local Gemini Live service.")
    parser.add_argument("--scenario", type=Path, default=SHIPPED / "demo.yaml", help="what the agents say (YAML)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state-dir", type=Path, help="where the certificate goes; default: a temporary folder")
    parser.add_argument("--clock-speed", type=float, default=1.0, help="divides the times of lifecycle faults")
    parser.add_argument("--api-key", help="the only key to accept; default: any")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments))
    except (ScenarioError, RecognizerError, OSError) as error:
        print(f"the local Live endpoint can't start: {error}", file=sys.stderr)  # noqa: T201  # a command's own output
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    endpoint = LiveEndpoint(
        arguments.scenario,
        arguments.host,
        arguments.port,
        clock_speed=arguments.clock_speed,
        api_key=arguments.api_key,
        state_dir=arguments.state_dir,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with endpoint:
        ready = {"url": endpoint.url, "ca_file": str(endpoint.ca_file), "token_url": endpoint.token_url}
        print(json.dumps(ready), flush=True)  # noqa: T201  # the line that a parent process waits for
        await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())
