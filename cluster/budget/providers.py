"""The breakers of the models in use, with a clock, chance and a log: what everybody tells of a model, and asks."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from cluster.budget.breaker import Breaker, BreakerRules, BreakerState
from cluster.messages import LiveFault

log = logging.getLogger(__name__)


class Providers:
    """One breaker for each model, since quotas and outages are a model's. Its project is the installation's own.

    A model at another place than the installation's is another one: see `cluster.profiles.Target`.
    """

    def __init__(
        self, rules: BreakerRules, now: Callable[[], float], jitter: Callable[[], float] = random.random
    ) -> None:
        """`now` is a monotonic clock, `jitter` gives numbers from 0 to 1."""
        self._now = now
        self._jitter = jitter
        self._breakers: defaultdict[str, Breaker] = defaultdict(lambda: Breaker(rules))
        self.faults: Counter[tuple[str, str]] = Counter()
        """All that was heard of, by model and diagnosis, whoever is to blame."""

    def wait_s(self, model: str) -> float:
        """In how many seconds a session of that model may be set up; 0 for now."""
        return self._breakers[model].wait_s(self._now())

    def ask(self, model: str) -> None:
        """A session is being set up."""
        self._breakers[model].ask(self._now())

    def succeeded(self, model: str) -> None:
        """A session was set up."""
        breaker = self._breakers[model]
        if breaker.state is not BreakerState.CLOSED:
            log.warning("%s serves again", model)
        breaker.succeeded()

    def failed(self, faults: Iterable[LiveFault]) -> None:
        """What went wrong, in its order."""
        for fault in faults:
            self.faults[fault.model, fault.name] += 1
            if fault.blames_provider:
                self._count(fault)

    def states(self) -> dict[str, dict[str, Any]]:
        """What is thought of each model that was asked for, and in how many seconds a session may be set up."""
        now = self._now()
        return {
            model: {"state": breaker.state.value, "wait_s": round(breaker.wait_s(now), 3)}
            for model, breaker in self._breakers.items()
        }

    def _count(self, fault: LiveFault) -> None:
        breaker = self._breakers[fault.model]
        before = breaker.state
        breaker.failed(self._now(), self._jitter())
        if breaker.state is not before:
            wait_s = breaker.wait_s(self._now())
            log.warning("%s does not serve (%s): no new sessions for %.1f s", fault.model, fault.name, wait_s)
