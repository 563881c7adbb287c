"""A Kubernetes of this machine's own, for the test: the scripts of a folder that `KUBELAB` names.

They are `up.sh`, `node.sh` and `kuberay.sh`, which start it, and `down.sh`; LAB is where they keep its state. The image
comes from the local store of `buildah`, where `make image` leaves it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HOST: Final = "10.88.0.1"
"""The node's address on the bridge that its pods are on."""


@contextmanager
def running_lab(folder: Path, image: str) -> Iterator[str]:
    """Start it with the image on its node, and stop it at the end. Returns this machine's address as pods see it."""
    state = Path(os.environ.get("LAB") or Path.home() / ".cache" / "kubelab")
    os.environ["LAB"] = str(state)
    os.environ["PATH"] += f":{state / 'bin'}"
    os.environ["KUBECONFIG"] = str(state / "kube" / "admin.conf")
    try:
        for script in ("up.sh", "node.sh", "kuberay.sh"):
            _run("bash", str(folder / script))
        with tempfile.TemporaryDirectory(prefix="image-") as scratch:
            archive = f"{scratch}/image.tar"
            _run("buildah", "push", "-q", image, f"oci-archive:{archive}:{image}")
            _run("ctr", "-n", "k8s.io", "images", "import", "--index-name", f"docker.io/library/{image}", archive)
        yield HOST
    finally:
        _run("bash", str(folder / "down.sh"))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
