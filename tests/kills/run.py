"""Rings, lets a caller talk, takes the call's process away at some moment, and says what became of the call."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import ray

from actors import names
from cluster.messages import ActorStatus
from tests.e2e.conftest import System, until
from tests.kills.moments import MOMENTS
from tests.kills.order_book import OrderBook

PLANTED: Final = frozenset({"My name is Okonkwo.", "What is my name?"})
ORDER: Final = "Chocolate please."
FACT: Final = "Your name"
"""How the answer begins; the caller may speak before its end."""

Strike = Callable[[ActorStatus], None]
"""Takes the process away that has the call."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one call."""

    moment: str
    killed_s: float
    """After the phone began to ring."""
    back_s: float | None
    """From there until the next process could be heard; None where the call was over before."""
    leg_up: bool
    """The phone was hung up by the agent and by nobody else."""
    remembered: bool
    """The planted fact; also where the very process that was to hear it was taken away."""
    missing: tuple[str, ...]
    """What the phone said and the transcript does not have."""
    doubled: tuple[str, ...]
    """What stands in the transcript more than once."""
    orders: int
    """How many cakes were written down."""
    asked: int
    """How often the model heard that one was ordered: half a word that the kill cut off may sound like it."""
    silence_s: float
    """The longest that the phone heard nobody, its own words included."""
    outcome: str
    transcript: tuple[str, ...]
    """Who said what, and when in seconds after the call began."""


def holder(call_id: str) -> ActorStatus | None:
    """Who has the call now."""
    for handle in names.find_call_actors().values():
        with suppress(*names.UNREACHABLE):
            status: ActorStatus = ray.get(handle.status.remote(), timeout=5)
            if status.call_id == call_id and status.state == "busy":
                return status
    return None


def kill(victim: ActorStatus) -> None:
    """SIGKILL to the call's process."""
    os.kill(victim.pid, signal.SIGKILL)


def freeze(victim: ActorStatus) -> None:
    """SIGSTOP to the call's process; it is ended when its call is another's."""
    os.kill(victim.pid, signal.SIGSTOP)


def lose_node(victim: ActorStatus) -> None:
    """SIGKILL to the raylet of the call's node, whose child the process is and whose processes all end with it."""
    raylet = int(Path(f"/proc/{victim.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    assert b"raylet" in Path(f"/proc/{raylet}/cmdline").read_bytes()
    os.kill(raylet, signal.SIGKILL)


def take_away(system: System, book: OrderBook, moment: str, strike: Strike, dice: random.Random) -> Result:
    """One call."""
    phone_call = system.ring()
    call_id = system.inbound_call(phone_call)["call_id"]
    until(lambda: holder(call_id))
    MOMENTS[moment].wait(system, call_id, dice)
    victim = holder(call_id)
    killed_at = time.time()
    if victim is not None:  # else the call was over by then
        strike(victim)
    try:
        phone = system.phone(phone_call, until="ended", timeout_s=150)
    finally:
        if victim is not None:
            with suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGCONT)
    return result(moment, killed_at, phone, system.ended(call_id), book.orders(call_id))


def result(moment: str, killed_at: float, phone: dict[str, Any], call: dict[str, Any], orders: int) -> Result:
    """From the carrier's log and ours."""
    said = [line["text"] for line in call["transcript"] if line["who"] == "caller"]
    audible_ms = call["timings_ms"].get("audible_2")
    began_at = datetime.fromisoformat(call["started_at"]).timestamp()
    return Result(
        moment=moment,
        killed_s=round(killed_at - phone["started_at"], 2),
        back_s=None if audible_ms is None else round(began_at + audible_ms / 1000 - killed_at, 3),
        leg_up=phone["ending"] == "room-deleted" and call["outcome"]["reason"] == "agent-ended",
        remembered=not set(said) >= PLANTED or any(line["text"].startswith(FACT) for line in call["transcript"]),
        missing=tuple(line["text"] for line in phone["lines"] if line["who"] == "caller" and line["text"] not in said),
        doubled=tuple({line for line in said if said.count(line) > 1}),
        orders=orders,
        asked=sum(ORDER.startswith(line.rstrip(".")) for line in said),
        silence_s=phone["longest_silence_ms"] / 1000,
        outcome=call["outcome"]["reason"],
        transcript=tuple(f"{line['at_s']:.1f} {line['who']}: {line['text']}" for line in call["transcript"]),
    )
