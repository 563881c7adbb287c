"""`python -m cluster.local.carrier`: a carrier in a process of its own. Its first line of output is `{"url": …}`.

It finds LiveKit as everything else does: by `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from cluster.call import engine
from cluster.local.carrier.carrier import Carrier
from cluster.local.carrier.leg import Livekit
from cluster.local.carrier.server import serve
from cluster.local.scenario import load_scenario

LIVEKIT_VARIABLES = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster.local.carrier", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--scenario", type=Path, help="scripts of the phones; default: the demo's")
    parser.add_argument("--outbound-script", default="", help="the agent whose caller answers; default: the last one")
    parser.add_argument("--calls-per-second", type=int, help="limit of each outbound trunk; more are refused with 503")
    parser.add_argument("--no-transcribe", action="store_true", help="do not write down what the phones hear")
    if missing := [name for name in LIVEKIT_VARIABLES if not os.environ.get(name)]:
        parser.error(f"set {', '.join(missing)}: the phones join the rooms of that LiveKit server")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    livekit = Livekit(*(os.environ[name] for name in LIVEKIT_VARIABLES))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    carrier = Carrier(
        livekit,
        scenario=load_scenario(options.scenario) if options.scenario else None,
        outbound_script=options.outbound_script,
        calls_per_second=options.calls_per_second,
        transcribe=not options.no_transcribe,
    )
    async with carrier, serve(carrier, options.port, options.host) as url:
        print(json.dumps({"url": url}), flush=True)  # noqa: T201 - the line that tells the parent process where it listens
        await stop.wait()


if __name__ == "__main__":
    options = _options()  # before the engine starts: a process that ends right after its start may crash
    engine.prepare()
    asyncio.run(_run(options))
