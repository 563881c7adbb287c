"""`ringmaster drain`: asks the `BudgetPool` of a running cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from actors import names
from cluster.errors import RingmasterError

if TYPE_CHECKING:
    from cluster.settings import Settings

WITHIN_S = 20.0


def drain_node(settings: Settings, node: str) -> bool:
    """Have a node end with its last call; False where there is none of that name. Raises `RingmasterError`."""
    return bool(_ask(settings, "drain_node", node))


def drain_all(settings: Settings, *, on: bool) -> None:
    """Take no new calls, or take them again. Raises `RingmasterError`."""
    _ask(settings, "drain", on)


def _ask(settings: Settings, method: str, argument: Any) -> Any:
    try:
        names.connect(settings)
        return ray.get(getattr(names.budget_pool(), method).remote(argument), timeout=WITHIN_S)
    except (*names.UNREACHABLE, ValueError, OSError) as error:
        message = f"no Ringmaster answers at {settings.ray.address} ({type(error).__name__}); `ringmaster up` starts it"
        raise RingmasterError(message) from None
    finally:
        ray.shutdown()
