"""What a request runs up against now: the policy and the settings, held against what is open, spent and dialled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster import outcome as o
from cluster.budget.admission import Ceiling, Load
from cluster.budget.budgets import Owner
from cluster.budget.policy import Policy
from cluster.budget.rate import Rate
from cluster.messages import CallRequest, Direction
from cluster.telephony.hours import opens_in_s, parse_hours

if TYPE_CHECKING:
    from cluster.budget.garage import Garage
    from cluster.budget.leases import LeaseBook
    from cluster.budget.providers import Providers
    from cluster.budget.rules import DeskRules
    from cluster.budget.serving import Clock
    from cluster.outcome import Outcome
    from cluster.profiles import Profile


class Limits:
    """The limits of the installation, and how much of each is used."""

    def __init__(
        self,
        *,
        rules: DeskRules,
        policy: Policy,
        book: LeaseBook,
        garage: Garage,
        providers: Providers,
        clock: Clock,
    ) -> None:
        self._rules = rules
        self._book = book
        self._garage = garage
        self._providers = providers
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self.draining = False
        """No new calls are taken."""
        self.policy = policy
        self.adopt(policy)

    def adopt(self, policy: Policy) -> None:
        """From now on this policy holds. Calls that run go on."""
        now = self._clock.now()
        speeds = {name: trunk.calls_per_second for name, trunk in policy.trunks.items()}
        self._garage.limit_sessions(policy.gemini_sessions)
        self._rates = {name: Rate(speed, now) for name, speed in speeds.items() if speed is not None}
        self.policy = policy

    def free(self) -> int:
        """How many more calls could start now."""
        return 0 if self.draining else max(0, self._rules.max_calls - len(self._book))

    def routed(self, request: CallRequest) -> CallRequest:
        """The request with the trunk that dials it."""
        if request.direction is Direction.INBOUND or request.trunk:
            return request
        trunk = self.policy.trunk_for(request.to, request.from_) or self._rules.outbound_trunk
        return replace(request, trunk=trunk)

    def load(self, request: CallRequest, profile: Profile) -> Load:
        """How things stand for a routed request."""
        outbound = request.direction is Direction.OUTBOUND
        utc, treasury = self._clock.utc(), self._book.treasury
        owner = Owner(tenant=request.tenant, campaign=request.campaign, profile=profile.name, at=utc)
        rate = self._rates.get(request.trunk) if outbound else None
        return Load(
            draining=self.draining,
            blocked=self.policy.blocks(request.to if outbound else request.from_),
            opens_in_s=self._opens_in_s(request) if outbound else 0.0,
            ceilings=tuple(self._ceilings(request)),
            budgets=treasury.standings(treasury.purses(owner)),
            at=utc,
            priority_at=self._rules.thresholds.priority_at,
            trunk_wait_s=rate.wait_s(self._clock.now()) if rate else 0.0,
            # A caller who is there is not sent away: a fallback may serve, and a recorded sentence beats a tone.
            live_wait_s=self._providers.wait_s(profile.model) if outbound else 0.0,
        )

    def objection(self, request: CallRequest) -> Outcome | None:
        """Why a call that was admitted a while ago must not be dialled now."""
        if self.policy.blocks(request.to):
            return o.BLOCKED_NUMBER
        is_late = request.dial_before is not None and self._clock.utc() >= request.dial_before
        return o.OUTSIDE_HOURS if is_late or self._opens_in_s(request) != 0.0 else None

    def take(self, request: CallRequest) -> None:
        """A routed request was admitted: what counts calls by the second counts it."""
        rate = self._rates.get(request.trunk)
        if rate is not None and request.direction is Direction.OUTBOUND:
            rate.take(self._clock.now())

    def _opens_in_s(self, request: CallRequest) -> float | None:
        hours = (request.calling_hours, self.policy.hours(request.tenant, request.campaign))
        waits = [opens_in_s(parse_hours(text), request.to, self._clock.utc()) for text in hours if text]
        return None if None in waits else max((wait for wait in waits if wait is not None), default=0.0)

    def _ceilings(self, request: CallRequest) -> Iterator[Ceiling]:
        counts, policy, max_calls = self._book.counts, self.policy, self._rules.max_calls
        yield Ceiling(o.OVER_CAPACITY, len(self._book), max_calls)
        if request.direction is Direction.OUTBOUND:
            yield Ceiling(o.OVER_CAPACITY, counts["direction", "outbound"], max(0, max_calls - policy.inbound_reserve))
        if (limit := policy.tenant(request.tenant).max_calls) is not None:
            yield Ceiling(o.OVER_TENANT_CALLS, counts["tenant", request.tenant], limit)
        if (limit := policy.campaign(request.campaign).max_calls) is not None:
            yield Ceiling(o.OVER_CAMPAIGN_CALLS, counts["campaign", request.campaign], limit)
        if (limit := policy.trunk(request.trunk).max_calls) is not None:
            yield Ceiling(o.OVER_TRUNK_CALLS, counts["trunk", request.trunk], limit)
        if policy.gemini_sessions is not None:
            # A parked session gives way to a call's.
            yield Ceiling(o.OVER_SESSIONS, len(self._book), policy.gemini_sessions)
