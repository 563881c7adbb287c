"""The dashboard as its user has it: a real browser, and a call with real audio."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.conftest import System
from tests.fixtures.chromium import TIMEOUT_MS, chromium

expect.set_options(timeout=TIMEOUT_MS)


def test_a_call_is_watched_and_hung_up(system: System) -> None:
    """A call shows up by itself, its words come as they are spoken; hung up, it has its record."""
    system.until_warm()
    with chromium() as page:
        page.goto(system.ready["url"])
        page.get_by_label("API key").fill(system.ready["key"])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("No call is going on.")).to_be_visible()
        call_id = system.inbound_call(system.ring())["call_id"]
        row = page.locator(f"#{call_id}")
        expect(row).to_contain_text("answered")
        expect(row).to_contain_text("node ")
        row.get_by_role("link").first.click()
        expect(page.locator(".transcript")).to_contain_text("Good morning, this is Rosewood Bakery.")
        expect(page.locator(".timeline")).to_contain_text("phone answered")
        page.get_by_role("button", name="Hang up").click()
        expect(page.locator(".facts").first).to_contain_text("hung-up-by-api")
        expect(page.get_by_role("button", name="Hang up")).to_have_count(0)
        page.get_by_role("link", name="Live").click()
        expect(page.get_by_text("No call is going on.")).to_be_visible()
        page.get_by_role("link", name="History").click()
        page.get_by_role("searchbox").fill("Rosewood Bakery")
        expect(page).to_have_url(re.compile("search=Rosewood"))
        expect(page.locator(f"a[href='/calls/{call_id}']")).to_be_visible()
    assert system.ended(call_id)["outcome"]["reason"] == "hung-up-by-api"
