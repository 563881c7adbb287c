"""A process whose loop does not beat is ended, with its stacks; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import asyncio, time
from cluster.call import watchdog

async def main():
    watching = asyncio.create_task(watchdog.watch_for_ever())
    await asyncio.sleep(0.1)
    {what}
    watching.cancel()
    await asyncio.wait([watching])
    time.sleep(1.5 * watchdog.HUNG_AFTER_S)
    print("alive")

def stuck():
    time.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("what", "lives"),
    [("stuck()", False), ("await asyncio.sleep(1.5 * watchdog.HUNG_AFTER_S)", True)],
    ids=["hung", "waiting"],
)
def test_only_a_loop_that_hangs_is_ended(what: str, lives: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Waiting is not hanging; the stack says where it hung."""
    ended = subprocess.run(
        [sys.executable, "-c", CODE.format(what=what)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ("alive" in ended.stdout) is lives
    assert ("in stuck" in ended.stderr) is not lives
    assert (ended.returncode == 0) is lives
