"""Kills `BudgetPool` again and again while calls talk and are placed, and looks at the money after each time."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

import httpx2
from rich.console import Console

from cluster.budget.audit import audit
from cluster.budget.prices import load_prices
from cluster.storage import open_engine
from tests.e2e.conftest import System, budget_pool_process

BACK_WITHIN_S: Final = 10.0
PAUSE_S: Final = 2.0
"""Between two kills at most; so the next one often meets a pool that has just come back."""
AREAS: Final = (212, 312, 415, 617, 713)
BUSY: Final = "0486"
ANSWER_WITHIN_S: Final = 30.0


@dataclass
class Report:
    """What was found."""

    kills: int = 0
    back_s: list[float] = field(default_factory=list)
    """From each kill until a call was admitted."""
    ledger_problems: list[str] = field(default_factory=list)
    calls: int = 0
    """That talked."""
    lost: list[str] = field(default_factory=list)
    """How those of them ended that did not end as they should."""
    turned_away: list[str] = field(default_factory=list)
    """How those ended that were not answered."""
    dialled: int = 0
    """Requests for outbound calls."""
    unanswered: list[str] = field(default_factory=list)
    """Of these, those that never got an answer."""
    doubled: int = 0
    """Phones that rang more than once."""


def judge(report: Report) -> list[tuple[str, float, float]]:
    """What was found, and the limit of each."""
    return [
        ("ledger: problems", len(report.ledger_problems), 0),
        (f"live calls lost, of {report.calls}", len(report.lost), 0),
        ("callers who were not answered", len(report.turned_away), 0),
        (f"requests without an answer, of {report.dialled}", len(report.unanswered), 0),
        ("phones that rang twice", report.doubled, 0),
        (f"until a call is admitted, of {report.kills}, longest, s", max(report.back_s, default=0), BACK_WITHIN_S),
    ]


def kill_again_and_again(system: System, kills: int, at_once: int, seed: int) -> Report:
    """`at_once` callers ring without end, one phone a second is dialled, and the pool is killed in between."""
    dice = random.Random(seed)  # noqa: S311 - the same pauses again
    console, report, over = Console(), Report(), threading.Event()
    engine = open_engine(system.settings().database_url)
    prices = load_prices()
    with ThreadPoolExecutor(at_once + 1) as others:
        work = [others.submit(_talk, system, report, over) for _ in range(at_once)]
        work.append(others.submit(_dial, system, report, over))
        try:
            for number in range(kills):
                time.sleep(dice.uniform(0, PAUSE_S))
                killed_at = time.monotonic()
                os.kill(budget_pool_process(), signal.SIGKILL)
                _place(system, f"probe-{seed}-{number}", f"+1415555{BUSY}")
                report.kills += 1
                report.back_s.append(round(time.monotonic() - killed_at, 3))
                found = audit(engine, prices)
                report.ledger_problems += found.problems
                console.print(
                    f"{report.kills}/{kills} back in {report.back_s[-1]} s, {found.leases} leases, "
                    f"{len(found.problems)} problems, {report.calls} calls, {len(report.lost)} lost",
                    highlight=False,
                )
        finally:
            over.set()
        for job in work:
            job.result()
    system.until_warm()
    report.ledger_problems += audit(engine, prices).problems
    rung = Counter(log["number"] for log in system.carrier.get("/_calls").json()["calls"])
    report.doubled = sum(times > 1 for number, times in rung.items() if not number.endswith(BUSY))
    return report


def _talk(system: System, report: Report, over: threading.Event) -> None:
    while not over.is_set():
        phone_call = system.ring()
        phone = system.phone(phone_call, until="ended", timeout_s=150)
        if phone["answered_s"] is None:
            report.turned_away.append(str(phone["ending"]))
            continue
        report.calls += 1
        call = _patiently(partial(system.inbound_call, phone_call))
        reason = _patiently(partial(system.ended, call["call_id"]))["outcome"]["reason"]
        if phone["ending"] != "room-deleted" or reason != "agent-ended":
            report.lost.append(f"{call['call_id']}: {phone['ending']}, {reason}")


def _patiently(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask an API whose answer, while the pool is away, is that it is."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            return ask()
        except (AssertionError, KeyError, httpx2.TransportError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _dial(system: System, report: Report, over: threading.Event) -> None:
    for number in count():
        if over.wait(1.0):
            return
        report.dialled += 1
        key = f"dial-{number}"
        # Answers, and hangs up a second later: a call with a cost, and over soon.
        area, exchange = AREAS[number // 800], 200 + number % 800
        if not _place(system, key, f"+1{area}{exchange}0202"):
            report.unanswered.append(key)


def _place(system: System, key: str, to: str) -> bool:
    """Ask for a call as a careful client does: again under the same key until there is an answer."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if system.dial(to, key=key).status_code in {202, 402, 429}:
                return True
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    return False
