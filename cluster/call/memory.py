"""The memory of a call's process: how much it is, and giving back what is not used."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path


def memory_mb() -> float:
    """The process's proportional share of memory (PSS) in MB; its resident size where the kernel does not say."""
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1.024 / 1000


def give_back() -> None:
    """Have the machine get the pages back that imports and the last call have left free, where the C library can.

    What the first call of this finds is there for good: the collector looks at it never again. A full collection took
    76 ms with all the modules in it, which is three frames of a call.
    """
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
