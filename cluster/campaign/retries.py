"""Which endings of a call are worth another one, and when. Pure.

Rules of this file:
1. Nobody is called again by itself where it is not known whether the phone rang.
2. A conversation that took place is never repeated.
3. Nobody is given up for what has nothing to do with him.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from cluster import outcome as o
from cluster.outcome import Outcome, Result
from cluster.telephony import dialling

REPEATABLE: Final[Mapping[str, Outcome]] = {
    outcome.reason: outcome
    for outcome in (
        o.BUSY,
        o.NO_ANSWER,
        o.DECLINED,
        o.SILENCE,
        o.CALLER_LEFT_EARLY,
        o.CPS_LIMIT,
        o.CONNECTION_LOST,
        o.LIVE_UNREACHABLE,
        o.LIVE_UNAVAILABLE,
        dialling.UNAVAILABLE,
        dialling.TRUNK_OVERLOADED,
        dialling.TRUNK_FAILURE,
        dialling.SIP_OVERLOADED,
    )
}
"""What a campaign may call again for, by the reason of its outcome."""

UNCERTAIN: Final = frozenset({o.ACTOR_DIED, o.LEASE_LOST, o.UNKNOWN})
"""Endings that nobody saw: the phone may have rung, and somebody may have spoken."""

ABOUT_CONTACT: Final = frozenset({o.BLOCKED_NUMBER, o.UNKNOWN_HOURS})
"""Refusals that this contact would hear for ever. Any other one is about the campaign, the policy or us."""

NOT_ADMITTED: Final = frozenset(
    {
        o.WAITED_TOO_LONG,
        o.WITHDRAWN,
        o.OUTSIDE_HOURS,
        o.DRAINING,
        o.OVER_BUDGET,
        o.PRIORITY_ONLY,
        o.OVER_CAPACITY,
        o.OVER_TENANT_CALLS,
        o.OVER_CAMPAIGN_CALLS,
        o.OVER_TRUNK_CALLS,
        o.OVER_SESSIONS,
        Outcome(Result.POLICY, "unknown-profile"),
    }
)
"""Calls that left the queue without a phone that rang: who asks once more hears what is in the way."""

NOT_DIALLED: Final = frozenset({o.ROOM_UNREACHABLE, o.LEASE_EXPIRED})
"""Calls that failed by our fault before anybody was dialled, unless `may_have_rung`."""

NEVER_DIALLED: Final = NOT_ADMITTED | NOT_DIALLED
"""They don't count."""
ASK_AGAIN_S: Final = 60.0
MOST_DOUBLINGS: Final = 6
"""Of that pause, after failures of ours: about an hour."""

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_wait(text: str) -> float:
    """`90s`, `30m`, `2h` or `1d` as seconds. Raises `ValueError`."""
    amount, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (amount.isascii() and amount.isdigit()) or int(amount) == 0:
        raise ValueError("is no time to wait; write it as 90s, 30m, 2h or 1d")
    return timedelta(**{_UNITS[unit]: int(amount)}).total_seconds()


def may_have_rung(answered_s: float | None, timings_ms: Mapping[str, float]) -> bool:
    """Whether a phone was or may have been dialled, by what is in the record of a call.

    The agent's voice is published before the phone is dialled, and the record has when, for each of its processes.
    """
    return answered_s is not None or any(name.startswith("published") for name in timings_ms)


def retry_after_s(outcomes: Sequence[Outcome], waits_s: Mapping[str, Sequence[float]], most_calls: int) -> float | None:
    """Seconds from the last of a contact's calls to the next one; None if that was the last.

    `outcomes` are those of all its calls, oldest first. The nth ending of a kind has the nth wait of its kind.
    """
    last = outcomes[-1]
    if last in NOT_ADMITTED:
        return ASK_AGAIN_S
    if last in NOT_DIALLED:
        return ASK_AGAIN_S * 2.0 ** min(outcomes.count(last) - 1, MOST_DOUBLINGS)
    calls = sum(outcome not in NEVER_DIALLED for outcome in outcomes)
    if calls >= most_calls or last in UNCERTAIN or REPEATABLE.get(last.reason) != last:
        return None
    waits, ended_so = waits_s.get(last.reason, ()), outcomes.count(last)
    return waits[ended_so - 1] if ended_so <= len(waits) else None
