"""Conversations: how soon the agent answers, how soon it falls silent, and whether eight at once lose anything."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tests.bench.figures import Samples
from tests.bench.system import Json, Side, System

TURNS: Final = 5
"""Of one call."""
AT_ONCE: Final = 8
NOTICED_WITHIN_S: Final = 1.0
"""An interruption that comes later is that of another barge-in."""
_SAY: Final[Json] = {"say": "I would like to order a cake."}
_BARGE_IN: Final[Json] = {"barge_in": "Excuse me but I have to go.", "after_ms": 700}
_TURN_END: Final[Json] = {"wait": "turn_end"}
_HANG_UP: Final[Json] = {"hang_up": True}


def turns(number: int) -> list[Json]:
    """A phone that waits until the agent has spoken, and then speaks, so many times."""
    return [_TURN_END, *[_SAY, _TURN_END] * number]


async def responses(system: System, side: Side, runs: int) -> Samples:
    """From the end of the caller's speech to the first sound at the caller, with and without the endpoint's share."""
    total: list[float] = []
    above: list[float] = []
    for _ in range(max(1, runs // TURNS)):
        await side.until_warm()
        began = time.monotonic()
        log = await system.phone(await system.ring(side.number, [*turns(TURNS), _HANG_UP]))
        shares = await _endpoint_shares_ms(system, since=began)
        heard = log["response_ms"]
        if len(heard) != TURNS or len(shares) != TURNS:
            raise RuntimeError(f"{side.agent_name}: {TURNS} turns, {len(heard)} answers, {len(shares)} of the endpoint")
        total += heard
        above += [one - share for one, share in zip(heard, shares, strict=True)]
    return {"response_ms": above, "response_total_ms": total}


async def barge_ins(system: System, side: Side, runs: int) -> Samples:
    """From the first sound of a caller who speaks over the agent to the agent's last sound at the caller."""
    found: list[float] = []
    noticed: list[float] = []
    for _ in range(max(1, runs // TURNS)):
        await side.until_warm()
        began = time.monotonic()
        log = await system.phone(await system.ring(side.number, [*[_BARGE_IN] * TURNS, _TURN_END, _HANG_UP]))
        found += log["barge_in_ms"]
        spoken = [log["started_at"] + line["at_s"] for line in log["lines"] if line["who"] == "caller"]
        told = await _interruptions_at(system, since=began)
        noticed += [(then - at) * 1000 for at in spoken for then in told if 0 <= then - at < NOTICED_WITHIN_S]
    return {"barge_in_ms": found, "barge_in_noticed_ms": noticed}


async def eight_at_once(system: System, side: Side, _runs: int) -> Samples:
    """Eight phones that all talk."""
    await side.until_warm()
    steps = [*turns(TURNS), _HANG_UP]
    calls = await asyncio.gather(*(system.ring(side.number, steps) for _ in range(AT_ONCE)))
    logs = await asyncio.gather(*(system.phone(call) for call in calls))
    return {
        "eight_lost_calls": [float(log["answered_s"] is None) for log in logs],
        "eight_lost_turns": [TURNS - len(log["response_ms"]) for log in logs],
        "eight_response_ms": [response for log in logs for response in log["response_ms"]],
    }


async def _endpoint_shares_ms(system: System, *, since: float) -> list[float]:
    """What the endpoint itself took from the last speech that reached it to the first sound that it sent."""
    heard = [turn for session in await system.sessions() for turn in session["turns"] if turn["trigger"] == "speech"]
    return [
        (turn["first_audio_at"] - turn["last_speech_at"]) * 1000 for turn in heard if turn["last_speech_at"] > since
    ]


async def _interruptions_at(system: System, *, since: float) -> list[float]:
    """When the endpoint said that the agent was interrupted, in UTC seconds; `since` is monotonic."""
    return sorted(
        turn["interrupted_at"] + session["wall_offset_s"]
        for session in await system.sessions()
        for turn in session["turns"]
        if turn["interrupted_at"] > since
    )
