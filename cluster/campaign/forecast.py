"""What a campaign will be: how many calls, when, and what they will cost. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cluster.budget.calls import terms_of
from cluster.campaign.contacts import Contact, Rejected
from cluster.campaign.hours import Hours, Zones, next_open
from cluster.messages import CallRequest, Direction

if TYPE_CHECKING:
    from cluster.budget.prices import Prices
    from cluster.campaign.file import Campaign

STAGES: Final = 10_000
"""Openings and closings that are followed; a campaign that takes more of them takes years."""


@dataclass(frozen=True, slots=True)
class Course:
    """The first calls to all contacts, if each were placed as early as it may be."""

    calls: int
    """Fewer than there are contacts, where the campaign stops before."""
    first_at: float | None
    """UTC seconds, as `last_at`; None if there is no call."""
    last_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a dry run tells."""

    contacts: int
    by_zones: Mapping[Zones, int]
    rejected: tuple[Rejected, ...]
    course: Course
    estimate_usd_micros: int
    """Of the first calls, as the campaign's `expect` has them."""
    at_most_usd_micros: int
    """If each of them took its limit, and where the campaign stops."""


def forecast(campaign: Campaign, found: Iterable[Contact | Rejected], prices: Prices, now: float) -> Forecast:
    """Reckon with contacts as they are read. `now` is UTC seconds. Raises `PriceError` for a model without a price."""
    by_zones: Counter[Zones] = Counter()
    rejected = []
    for one in found:
        if isinstance(one, Rejected):
            rejected.append(one)
        else:
            by_zones[one.zones] += 1
    file = campaign.file
    expect, stop = file.expect, file.stop
    rate = min(
        file.pacing.calls_per_second,
        file.pacing.concurrency / max(0.001, expect.ring_s + expect.answered * expect.talk_s),
    )
    course = run_course(
        by_zones,
        campaign.hours,
        rate,
        now,
        stop_at=stop.at.timestamp() if stop.at else math.inf,
        most_calls=stop.max_calls or by_zones.total(),
    )
    most = course.calls * campaign.max_cost_usd_micros
    limit = most if stop.max_usd is None else int(stop.max_usd * 1_000_000)
    return Forecast(
        contacts=by_zones.total(),
        by_zones=by_zones,
        rejected=tuple(rejected),
        course=course,
        estimate_usd_micros=min(limit, round(course.calls * expect.answered * _one_call(campaign, prices, now))),
        at_most_usd_micros=min(limit, most),
    )


def run_course(
    by_zones: Mapping[Zones, int], hours: Hours, rate: float, now: float, *, stop_at: float, most_calls: int
) -> Course:
    """Call everybody at `rate` (calls per second) while their hours are open, those first who close first."""
    left = {zones: float(count) for zones, count in by_zones.items()}
    calls, at, first_at, last_at = 0.0, now, None, None
    for _ in range(STAGES):
        stretches = {zones: stretch for zones in left if (stretch := next_open(hours, zones, at))}
        if not stretches or calls >= most_calls:
            break
        at = max(at, min(stretch.opens_at for stretch in stretches.values()))
        if at >= stop_at:
            break
        open_now = [zones for zones, stretch in stretches.items() if stretch.opens_at <= at]
        zones = min(open_now, key=lambda zones: stretches[zones].closes_at)
        until = min(stretches[zones].closes_at, stop_at, at + min(left[zones], most_calls - calls) / rate)
        first_at = at if first_at is None else first_at
        done = (until - at) * rate
        calls, at, last_at = calls + done, until, until
        left[zones] -= done
        if left[zones] < 0.5:  # noqa: PLR2004 half a call: what is left of the last one by rounding
            del left[zones]
    return Course(min(round(calls), most_calls), first_at, last_at)


def _one_call(campaign: Campaign, prices: Prices, now: float) -> int:
    """What an answered call is expected to cost, in micro-dollars."""
    request = CallRequest(
        request_id="",
        call_id="",
        tenant=campaign.file.tenant,
        direction=Direction.OUTBOUND,
        profile=campaign.profile.name,
        room="",
        identity="",
        max_duration_s=campaign.file.expect.talk_s,
        max_cost_usd_micros=campaign.max_cost_usd_micros,
    )
    wish = terms_of(request, campaign.profile, prices, datetime.fromtimestamp(now, UTC).date()).wish()
    return min(wish.estimate_usd_micros, wish.max_cost_usd_micros)
