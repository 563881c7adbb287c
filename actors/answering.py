"""How a control actor fails: whoever asked hears `ControlPlaneDown` and may ask again, and the log hears why.

A call's heartbeat is such a question, and no trouble of a control actor may end a call. Nor may an exception cross over
as it is: to read one of the database's, a call's process would have to load the database's library (22 MB).
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from cluster.dispatch.ports import ControlPlaneDown
from cluster.errors import RingmasterError

log = logging.getLogger(__name__)

C = TypeVar("C", bound=type)

TELL_EVERY_S: Final = 10.0
"""Heartbeats come twice a second from every call: the same failure is logged this often."""


def control_actor(cls: C) -> C:
    """Have every method of an actor's class answer, or raise `ControlPlaneDown`."""
    told: dict[str, float] = {}
    for name, method in list(vars(cls).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(cls, name, _answering(method, told))
    return cls


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
