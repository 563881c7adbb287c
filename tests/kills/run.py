"""Rings, lets a caller talk, takes the call's process away at some moment, and says what became of the call."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import ray
import ray.exceptions

from actors import names
from tests.e2e.conftest import System, until

PLANTED: Final = frozenset({"My name is Okonkwo.", "What is my name?"})
FACT: Final = "Your name"
"""How the answer begins; the caller may speak before its end."""
MOMENTS_S: Final[dict[str, tuple[float, float]]] = {
    "ringing": (0.0, 0.4),
    "greeting": (1.0, 4.5),
    "caller": (6.0, 7.5),
    "agent": (8.5, 11.0),
    "any": (0.0, 25.0),
}
"""When it is done, in seconds after the phone began to ring: the script is the same in every call."""


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
    silence_s: float
    """The longest that the phone heard nobody, its own words included."""
    outcome: str


def holder(call_id: str) -> int:
    """The process that has the call, as soon as one does."""

    def find() -> int | None:
        for handle in names.find_call_actors().values():
            try:
                status = ray.get(handle.status.remote(), timeout=5)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                continue
            if status.call_id == call_id:
                return int(status.pid)
        return None

    return until(find)


def take_away(system: System, moment: str, fault: signal.Signals, dice: random.Random) -> Result:
    """One call."""
    system.until_warm()
    phone_call = system.ring()
    began = time.time()
    call_id = system.inbound_call(phone_call)["call_id"]
    process = holder(call_id)
    time.sleep(max(0.0, began + dice.uniform(*MOMENTS_S[moment]) - time.time()))
    killed_at = time.time()
    os.kill(process, fault)
    try:
        phone = system.phone(phone_call, until="ended", timeout_s=150)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    return result(moment, killed_at, phone, system.ended(call_id))


def result(moment: str, killed_at: float, phone: dict[str, Any], call: dict[str, Any]) -> Result:
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
        silence_s=phone["longest_silence_ms"] / 1000,
        outcome=call["outcome"]["reason"],
    )
