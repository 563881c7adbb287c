"""Ends a process whose event loop does not beat any more: its call goes on in another one.

It is C code that watches (`faulthandler`), so a loop that never lets go of the interpreter is noticed, too. The stacks
that it writes have names of files and functions and no values.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from typing import Final

BEAT_EVERY_S: Final = 0.25
HUNG_AFTER_S: Final = 2.0


async def watch_for_ever() -> None:
    """Beat until cancelled; should the loop stop for `HUNG_AFTER_S`, write every thread's stack to stderr and exit."""
    try:
        while True:
            faulthandler.dump_traceback_later(HUNG_AFTER_S, exit=True, file=sys.__stderr__ or sys.stderr)
            await asyncio.sleep(BEAT_EVERY_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
