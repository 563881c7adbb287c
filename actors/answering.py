"""What the control actors have in common.

They fail alike: whoever asked hears `ControlPlaneDown` and may ask again, and the log hears why. A call's heartbeat is
such a question, and no trouble of a control actor may end a call. Nor may an exception cross over as it is: to read one
of the database's, a call's process would have to load the database's library (22 MB).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from actors import names
from cluster.dispatch.ports import ControlPlaneDown
from cluster.errors import RingmasterError

if TYPE_CHECKING:
    from cluster.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

WAKE_AGAIN_S: Final = 2.0
TELL_EVERY_S: Final = 10.0
"""Heartbeats come twice a second from every call: the same failure is logged this often."""


class ControlActor(ABC, Generic[T]):
    """An actor whose every method answers, or raises `ControlPlaneDown`. `T` is what it opens before it can."""

    def __init_subclass__(cls) -> None:
        """Have its methods do so."""
        told: dict[str, float] = {}
        for name, method in list(vars(cls).items()):
            if inspect.iscoroutinefunction(method) and not name.startswith("_"):
                setattr(cls, name, _answering(method, told))

    def __init__(self, settings: Settings) -> None:
        """Everything is opened with the first message, since that takes longer than an actor should to be made.

        It comes from the actor itself: a process that follows one that died may have calls that died with it, and then
        nobody speaks to it.
        """
        self._settings = settings
        self._opening = asyncio.Lock()
        self._opened: T | None = None
        names.speak_to_itself("wake")

    async def wake(self) -> None:
        """Open everything, and try again until that is done: this message nobody repeats."""
        told: dict[str, float] = {}
        while True:
            try:
                await self._ready()
            except Exception as error:  # noqa: BLE001 - a database may be back in a moment, whatever it says now
                _tell(f"{type(self).__name__}.wake", error, told)
                await asyncio.sleep(WAKE_AGAIN_S)
            else:
                return

    async def fingerprint(self) -> str:
        """Of the settings that it was made with."""
        from cluster.fingerprint import fingerprint

        return fingerprint(self._settings)

    async def _ready(self) -> T:
        """What is open, once it is. Raises whatever keeps it from that."""
        async with self._opening:
            if self._opened is None:
                self._opened = await self._open()
            return self._opened

    @abstractmethod
    async def _open(self) -> T:
        """Open it."""


def _answering(method: Callable[..., Awaitable[Any]], told: dict[str, float]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def answer(*arguments: Any, **options: Any) -> Any:
        try:
            return await method(*arguments, **options)
        except ControlPlaneDown:
            raise
        except Exception as error:  # noqa: BLE001 - that is what this is for
            _tell(method.__qualname__, error, told)
            raise ControlPlaneDown(type(error).__name__) from None

    return answer


def _tell(method: str, error: Exception, told: dict[str, float]) -> None:
    # A library's text may hold a caller's words, as the parameters of a statement; our own never does.
    why = str(error) if isinstance(error, RingmasterError) else _where(error)
    if time.monotonic() - told.get(why, -TELL_EVERY_S) < TELL_EVERY_S:
        return
    told.clear()
    told[why] = time.monotonic()
    log.error("%s can't answer: %s: %s", method, type(error).__name__, why)


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}:{frame.lineno}"
