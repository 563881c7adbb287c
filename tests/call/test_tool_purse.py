"""Tools that cost money, and whoever holds it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.budget.leases import Lease, LeaseBook
from cluster.budget.pricing import Ahead, Bill
from cluster.call.account import Account
from cluster.call.core import CallCore
from cluster.call.heartbeat import Heartbeat
from cluster.call.prompts import Prompts
from cluster.call.tool_purse import ToolPurse
from cluster.messages import Renewal, Verdict
from tests.budget.test_leases import a_treasury
from tests.call.test_account import ASSIGNMENT, RULES

PRICE = 20_000
DEAR = replace(ASSIGNMENT, tariff=replace(ASSIGNMENT.tariff, tools={"look_up": PRICE}))


class Call:
    """The books of a call whose heartbeats have that answer; None is nobody's."""

    def __init__(self, answer: Verdict | None) -> None:
        self.answer = answer
        self.heard: list[Renewal] = []
        self.core = CallCore(RULES, Prompts("Greet."), 100.0)
        self.account = Account(DEAR, "gemini-3.8-live", "slot", "node", began=100.0)
        heartbeat = Heartbeat(DEAR, self, self.renewal, lambda *_: None, lambda: None)
        self.purse = ToolPurse(self.account, heartbeat)

    def renewal(self) -> Renewal:
        """As the call makes it."""
        return self.account.renewal(self.core, 0.0, 100.0)

    async def renew(self, renewal: Renewal) -> Verdict | None:
        """As `BudgetPool`."""
        self.heard.append(renewal)
        return self.answer


@pytest.mark.parametrize("verdict", [Verdict.CONTINUE, Verdict.CONCISE])
async def test_a_tool_with_a_price_runs_when_that_is_held(verdict: Verdict) -> None:
    """It is asked for before the run, and on the bill from then on."""
    call = Call(verdict)
    assert await call.purse.pays("look_up")
    (asked,) = call.heard
    assert (asked.running_usd_micros, asked.metered.tool_calls) == (PRICE, {})
    assert asked.checkpoint.metered.tool_calls == {"look_up": 1}
    assert (call.renewal().running_usd_micros, call.renewal().metered.tool_calls) == (0, {"look_up": 1})


@pytest.mark.parametrize("answer", [Verdict.WIND_DOWN, Verdict.VOID, None])
async def test_without_a_yes_it_does_not_run(answer: Verdict | None) -> None:
    """And nothing is on the bill."""
    call = Call(answer)
    assert not await call.purse.pays("look_up")
    assert (call.renewal().running_usd_micros, call.renewal().metered.tool_calls) == (0, {})


async def test_a_tool_without_a_price_waits_for_nobody() -> None:
    """It is counted."""
    call = Call(None)
    assert await call.purse.pays("end_call")
    assert (call.heard, call.renewal().metered.tool_calls) == ([], {"end_call": 1})


async def test_many_tools_at_once_do_not_pass_the_cap() -> None:
    """The model asks for eight; there is money for two and a goodbye."""
    book = LeaseBook(a_treasury(), ttl_s=10.0, start_within_s=10.0)
    lease = Lease(
        lease_id="lease", call_id="call_1", tenant="t", day="2026-11-24", slot="s",
        max_cost_usd_micros=2 * PRICE + 5_000, reserved_usd_micros=1_000, fencing_token=DEAR.fencing_token,
    )  # fmt: skip
    book.grant(lease)

    class Held(Call):
        async def renew(self, renewal: Renewal) -> Verdict | None:
            ahead = (renewal.running_usd_micros + each for each in (1_000, 2_000, 3_000))
            bill = Bill(renewal.metered, renewal.charges_usd_micros)
            goodbye, soon, slice_ = ahead
            return book.renew(
                "lease",
                renewal.fencing_token,
                bill=bill,
                ahead=Ahead(goodbye=goodbye, soon=soon, slice=slice_),
                now=1.0,
            ).verdict

    call = Held(None)
    ran = await asyncio.gather(*(call.purse.pays("look_up") for _ in range(8)))
    assert sum(ran) == 2
    assert call.renewal().cost_usd_micros == 2 * PRICE
    held = book.get("lease")
    assert held is not None
    assert held.reserved_usd_micros <= lease.max_cost_usd_micros
