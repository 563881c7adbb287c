"""How a control actor fails: whoever asked hears `ControlPlaneDown` and may ask again, and the log hears why.

A call's heartbeat is such a question, and no trouble of a control actor may end a call. Nor may an exception cross over
as it is: to read one of the database's, a call's process would have to load the database's library (22 MB).
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
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
    why = f"{type(error).__name__}: {error}"
    if time.monotonic() - told.get(why, -TELL_EVERY_S) < TELL_EVERY_S:
        return
    told.clear()
    told[why] = time.monotonic()
    # What a person can mend says so in its own words; where it came from helps nobody.
    trace = None if isinstance(error, RingmasterError) else error
    log.error("%s can't answer: %s", method, why.splitlines()[0], exc_info=trace)
