"""`make kube-test`: Ringmaster on a real KubeRay, with livekit-server and the Live endpoint on this machine.

KUBELAB=folder   the scripts of a cluster of this machine's own (see `lab`), or, for a cluster that is there:
KUBECONFIG=file  how to reach it, and HOST=address, this machine's as the cluster's pods see it
IMAGE=name       which image to test; ringmaster and the version, as `make image` makes it
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cluster import __version__
from cluster.local.scenario import SHIPPED
from cluster.local.stack import local_stack
from tests.fixtures.databases import running_postgres
from tests.kube.cluster import Kubernetes
from tests.kube.lab import running_lab
from tests.kube.run import Trial, running_redis


async def main() -> int:
    """Run it; 0 if all was as it should be, 2 where it is not said where."""
    image = os.environ.get("IMAGE") or f"ringmaster:{__version__}"
    lab, host = os.environ.get("KUBELAB"), os.environ.get("HOST", "")
    if not lab and not (os.environ.get("KUBECONFIG") and host):
        print("error: set KUBELAB, or KUBECONFIG and HOST; tests/kube/__main__.py says what they are", file=sys.stderr)  # noqa: T201
        return 2
    with ExitStack() as scope, tempfile.TemporaryDirectory(prefix="ringmaster-kube-") as folder:
        host = scope.enter_context(running_lab(Path(lab), image)) if lab else host
        redis = scope.enter_context(running_redis(host))
        database = scope.enter_context(running_postgres(host=host)).network_url("postgres")
        async with local_stack(Path(folder), scenario=SHIPPED / "load.yaml", host=host) as stack:
            trial = Trial(Kubernetes(), stack, redis, database, host, image)
            with trial.kubernetes.own_namespace():
                await asyncio.to_thread(trial.run)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
