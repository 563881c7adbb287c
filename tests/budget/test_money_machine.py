"""A short run of the money machine; `make machines` runs it for a million operations."""

from __future__ import annotations

from hypothesis import settings

from tests.budget.money_machine import MoneyMachine

MoneyMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestMoneyMachine = MoneyMachine.TestCase
