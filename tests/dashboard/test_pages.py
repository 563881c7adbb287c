"""The pages: who sees them, what they show, what they refuse."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2
import jwt
import pytest
from fastapi import FastAPI

from cluster.dashboard import session
from cluster.dashboard.pages import PAGE
from cluster.dispatch import access
from cluster.keys import sha256_hex
from cluster.outcome import BUSY
from tests.dashboard.site import SECRET, House
from tests.dispatch.doubles import ADMIN_KEY, CAMPAIGNS_KEY, KEY, OTHER_KEY
from tests.records.examples import CALLER, START, a_record


async def test_a_stranger_is_sent_to_the_login(stranger: httpx2.AsyncClient) -> None:
    """From every page."""
    for path in ("/", "/live", "/history", "/pool", "/calls/call_1", "/calls/call_1/live", "/calls/call_1/recording"):
        answer = await stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert 'name="key"' in (await stranger.get("/login")).text


@pytest.mark.parametrize(("key", "status"), [("rm_0_unknown", 401), ("", 401), (CAMPAIGNS_KEY, 403)])
async def test_a_key_that_is_not_good(stranger: httpx2.AsyncClient, key: str, status: int) -> None:
    """The page says why, no cookie is set, and the key is not shown again."""
    answer = await stranger.post("/login", content=f"key={key}")
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert not key or key not in answer.text


async def test_a_session_is_out_of_the_reach_of_scripts_and_sites(stranger: httpx2.AsyncClient) -> None:
    """HttpOnly, SameSite=Strict, over TLS only where there is TLS; the key is not in it."""
    plain = (await stranger.post("/login", content=f"key={KEY}")).headers["set-cookie"]
    behind_tls = await stranger.post("/login", content=f"key={KEY}", headers={"X-Forwarded-Proto": "https"})
    assert "HttpOnly" in plain
    assert "SameSite=strict" in plain
    assert "Secure" not in plain
    assert "Secure" in behind_tls.headers["set-cookie"]
    assert KEY not in plain


async def test_a_session_ends(browser: httpx2.AsyncClient, house: House, site: FastAPI) -> None:
    """By logging out, by its age, and when the key is revoked; a cookie that we did not sign is none."""
    assert (await browser.get("/")).status_code == 200
    good = browser.cookies[session.COOKIE]
    await browser.post("/logout")
    assert session.COOKIE not in browser.cookies
    key = site.state.dashboard.sessions._key
    claims = jwt.decode(good, key, ["HS256"])
    forged = jwt.encode(claims, SECRET * 2, "HS256")
    old = jwt.encode(claims | {"exp": time.time() - 1}, key, "HS256")
    revoked = jwt.encode(claims | {"sub": sha256_hex("rm_9_revoked")}, key, "HS256")
    for cookie, status in ((good, 200), (forged, 303), (old, 303), (revoked, 303)):
        answer = await browser.get("/", headers={"Cookie": f"{session.COOKIE}={cookie}"})
        assert answer.status_code == status
    assert house.pool.key_lookups > 0


@pytest.mark.parametrize("path", ["/live", "/calls/call_1/live"])
@pytest.mark.parametrize("end", ["the key is revoked", "the session is over"])
async def test_a_session_that_ends_watches_no_longer(
    browser: httpx2.AsyncClient, house: House, site: FastAPI, path: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open ends with the next message, which it does not get."""
    monkeypatch.setattr(access, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(access, "REMEMBERED_S", 0.0)
    dashboard = site.state.dashboard
    dashboard.front.doorkeeper._known.clear()
    await house.begin("call_1")
    watching = asyncio.create_task(browser.get(path))
    async with asyncio.timeout(20.0):
        while dashboard.live.row("call_1") is None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)
        if end == "the key is revoked":
            house.pool.revoked.add(KEY)
        else:
            dashboard.sessions._key = bytes(32)
        await house.say("call_1", "caller", "My secret.")
        answer = await watching
    assert answer.status_code == 200
    assert "secret" not in answer.text


async def test_another_site_can_do_nothing(browser: httpx2.AsyncClient, house: House) -> None:
    """Neither hang up, nor log in or out, whatever the browser sends along."""
    await house.begin("call_1")
    for path in ("/calls/call_1/hangup", "/logout", "/login"):
        for origin in ("http://evil.example", "http://ringmaster:8081", "null"):
            answer = await browser.post(path, headers={"Origin": origin}, content=f"key={KEY}")
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
    assert house.pool.hung_up == []


async def test_pages_take_nothing_from_elsewhere(browser: httpx2.AsyncClient, house: House) -> None:
    """A strict Content-Security-Policy, and no inline script or style that it would forbid."""
    await house.begin("call_1")
    for path in ("/", "/history", "/pool", "/calls/call_1", "/login", "/calls/none"):
        answer = await browser.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["cache-control"] == "no-store"
        assert " style=" not in answer.text
        assert "<style" not in answer.text
        assert "http" not in answer.text.replace("http-equiv", "").replace(CALLER, "")
        assert answer.text.count("<script") == answer.text.count("<script src=")


async def test_the_live_calls(browser: httpx2.AsyncClient, house: House) -> None:
    """Those of the tenant, the newest first, with a masked number and the last words, in which nothing is smuggled."""
    await house.begin("call_1")
    await house.begin("call_2")
    await house.begin("call_3", tenant="other")
    await house.say("call_1", "caller", "<script>alert(1)</script>")
    page = (await browser.get("/")).text
    assert page.index('id="call_2"') < page.index('id="call_1"')
    assert "call_3" not in page
    assert CALLER not in page
    assert "+*********01" in page
    assert "&lt;script&gt;alert(1)" in page


async def test_one_call(browser: httpx2.AsyncClient, house: House) -> None:
    """What was said and what happened, while it goes on and afterwards."""
    await house.begin("call_1")
    await house.say("call_1", "agent", "Good morning.")
    page = (await browser.get("/calls/call_1")).text
    assert "Good morning." in page
    assert "Hang up" in page
    assert "phone answered" in page
    await house.history.history.finish(a_record(quality={"mos": 4.2, "loss": 0.001}, timings_ms={"turn_p50": 612.0}))
    page = (await browser.get("/calls/call_1")).text
    assert "success/agent-ended" in page
    assert "Hang up" not in page
    assert "612 ms" in page
    assert CALLER not in page


async def test_numbers_are_whole_for_those_who_may_know(stranger: httpx2.AsyncClient, house: House) -> None:
    """On the page of a call, as the API has it; the list is seen by everybody in the room."""
    await house.begin("call_1")
    await stranger.post("/login", content=f"key={ADMIN_KEY}")
    assert CALLER in (await stranger.get("/calls/call_1")).text
    assert CALLER not in (await stranger.get("/")).text


async def test_hanging_up(browser: httpx2.AsyncClient, house: House) -> None:
    """It ends the call, once, and shows it."""
    await house.begin("call_1")
    answer = await browser.post("/calls/call_1/hangup")
    assert (answer.status_code, answer.headers["location"]) == (303, "/calls/call_1")
    assert house.pool.hung_up == ["call_1"]
    await house.history.history.finish(a_record())
    await browser.post("/calls/call_1/hangup")
    assert house.pool.hung_up == ["call_1"]


async def test_the_calls_of_others_do_not_exist(stranger: httpx2.AsyncClient, house: House) -> None:
    """Neither to see nor to end."""
    await house.begin("call_1")
    await stranger.post("/login", content=f"key={OTHER_KEY}")
    assert (await stranger.get("/calls/call_1")).status_code == 404
    assert (await stranger.get("/calls/call_1/live")).status_code == 404
    assert (await stranger.post("/calls/call_1/hangup")).status_code == 404
    assert house.pool.hung_up == []


async def test_the_history_is_searched(browser: httpx2.AsyncClient, house: House) -> None:
    """Calls that are over, the newest first, by page; of a search only those that have to do with it."""
    for number in range(PAGE + 2):
        await house.history.history.finish(a_record(f"call_{number:03}", started_at=START + number))
    await house.history.history.finish(a_record("call_x", BUSY, tenant="other"))
    page = (await browser.get("/history")).text
    assert page.index("/calls/call_051") < page.index("/calls/call_002")
    assert "call_001" not in page
    older = (await browser.get("/history?before=call_002")).text
    assert "/calls/call_001" in older
    assert "Older" not in older
    found = (await browser.get("/history?search=call_007")).text
    assert found.count('href="/calls/') == 1
    nothing = (await browser.get("/history?search=<busy>")).text
    assert "No call has to do with “&lt;busy&gt;”" in nothing
    assert CALLER not in page


@pytest.mark.parametrize(("key", "found"), [(KEY, 0), (ADMIN_KEY, 1)])
async def test_masked_numbers_can_not_be_searched_out(
    stranger: httpx2.AsyncClient, house: House, key: str, found: int
) -> None:
    """A part of a number finds something only for whoever may see the whole one."""
    await house.history.history.finish(a_record(transcript=()))
    await stranger.post("/login", content=f"key={key}")
    assert (await stranger.get(f"/history?search={CALLER[1:5]}")).text.count('href="/calls/') == found


@pytest.mark.parametrize("query", ["search=%00", "before=%00", "before=call_of_nobody"])
async def test_a_query_that_is_wrong(browser: httpx2.AsyncClient, query: str) -> None:
    """Is a page that says so."""
    assert (await browser.get(f"/history?{query}")).status_code == 422


async def test_the_pool_and_the_budgets(browser: httpx2.AsyncClient, house: House) -> None:
    """How calls fare, one's own money and queue; and that nothing is taken, where it is so."""
    page = (await browser.get("/pool")).text
    for words in ("0 of 10", "tenant acme", "$0.0001 spent", "concise", "does not serve (open)", "success/agent-ended"):
        assert words in page
    assert "Draining" not in page
    assert "Calls that wait" not in page
    house.pool.draining = True
    house.pool.queued["call_9"] = {
        "call_id": "call_9",
        "tenant": "acme",
        "number": "+*********07",
        "profile": "reminder",
        "waits_for": "ours/capacity",
        "position": 1,
        "estimated_wait_s": 65.0,
    }
    page = (await browser.get("/pool")).text
    assert "Draining" in page
    assert "1, in about 1:05" in page


async def test_the_pool_of_actors_is_for_admins(browser: httpx2.AsyncClient) -> None:
    """As `/v1/pool` is: the profiles that are parked, and the nodes."""
    cells = ("<td>receptionist</td>", '<td title="n1">n1</td>')
    page = (await browser.get("/pool")).text
    assert not any(cell in page for cell in cells)
    await browser.post("/login", content=f"key={ADMIN_KEY}")
    page = (await browser.get("/pool")).text
    assert all(cell in page for cell in cells)


async def test_the_budgets_of_others(stranger: httpx2.AsyncClient) -> None:
    """Are not shown without the scope for it."""
    await stranger.post("/login", content=f"key={OTHER_KEY}")
    page = (await stranger.get("/pool")).text
    assert "Nothing has been spent yet" in page
    assert "acme" not in page


async def test_the_actor_of_a_call(browser: httpx2.AsyncClient, house: House) -> None:
    """A link to Ray's dashboard while there is an actor."""
    await house.begin("call_1")
    answer = await browser.get("/calls/call_1/actor")
    assert (answer.status_code, answer.headers["location"]) == (303, "http://ray/#/actors/id-of-call-slot-1")
    house.pool.live["call_1"]["slot"] = "call-slot-gone"
    assert (await browser.get("/calls/call_1/actor")).status_code == 404
    house.pool.live.pop("call_1")
    assert (await browser.get("/calls/call_1/actor")).status_code == 404


async def test_the_recording_of_a_call(browser: httpx2.AsyncClient, house: House, tmp_path: Path) -> None:
    """It is played from where it was kept, which nobody is told."""
    kept = tmp_path / "call_1.flac"
    kept.write_bytes(b"fLaC and so on")
    await house.history.history.finish(a_record("call_1", recording_url=str(kept)))
    await house.history.history.finish(a_record("call_2"))
    await house.history.history.finish(a_record("call_3", recording_url="nowhere://bucket/call_3.flac"))
    page = (await browser.get("/calls/call_1")).text
    assert 'src="/calls/call_1/recording"' in page
    assert str(tmp_path) not in page
    answer = await browser.get("/calls/call_1/recording")
    assert (answer.content, answer.headers["content-type"]) == (b"fLaC and so on", "audio/flac")
    assert "<audio" not in (await browser.get("/calls/call_2")).text
    for without in ("call_2", "call_3"):
        assert (await browser.get(f"/calls/{without}/recording")).status_code == 404


async def test_errors_are_pages(browser: httpx2.AsyncClient, house: House) -> None:
    """With a status that says the same, while the API's own stay problem documents."""
    missing = await browser.get("/calls/none")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    wrong = await browser.get("/calls/call_1/live?after=-1")
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "text/html; charset=utf-8")
    house.pool.down = True
    down = await browser.get("/")
    assert (down.status_code, "control actors" in down.text) == (503, True)
    assert (await browser.get("/v1/none")).headers["content-type"] == "application/problem+json"


async def test_what_the_pages_are_made_of(stranger: httpx2.AsyncClient) -> None:
    """Scripts and styles come from here, to anybody."""
    for name in ("htmx.min.js", "htmx-sse.min.js", "dashboard.js", "dashboard.css", "icon.svg"):
        assert (await stranger.get(f"/static/{name}")).status_code == 200
    assert (await stranger.get("/static/none")).status_code == 404
