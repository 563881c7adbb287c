"""What Linux knows about a process. A process that is gone has used nothing more and holds nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM, _NICE = 1, 11, 12, 16
"""Positions in `/proc/PID/stat` after the name."""


def children(pid: int) -> Iterator[int]:
    """All descendants of a process."""
    parents = {int(entry.name): _stat(int(entry.name), _PARENT) for entry in Path("/proc").glob("[0-9]*")}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
        yield from more


def command(pid: int) -> str:
    """Its command line, or the title that it gave itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def cpu_s(pid: int) -> float:
    """Seconds of CPU time, in user code and in the kernel, of all its threads since its start."""
    return (_stat(pid, _USER) + _stat(pid, _SYSTEM)) / _TICKS_PER_S


def niceness(pid: int) -> int:
    """0 is normal, 19 the least important."""
    return _stat(pid, _NICE)


def pss_mb(pid: int) -> float:
    """Proportional set size in 10^6 bytes: pages that several processes share count in part."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next(int(line.split()[1]) * 1024 / 1e6 for line in rollup.splitlines() if line.startswith("Pss:"))


def descriptors(pid: int) -> int:
    """How many files and sockets it has open."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def _stat(pid: int, position: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[position])
