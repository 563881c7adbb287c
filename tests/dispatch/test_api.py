"""The HTTP API: every route with every answer it has."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from livekit import api as livekit_api

from cluster import metrics
from cluster import outcome as o
from cluster.dispatch import access
from cluster.dispatch.access import Doorkeeper
from cluster.dispatch.api import LARGEST_BODY_BYTES, Front, build_api
from cluster.dispatch.inbound import Inbound
from cluster.dispatch.ports import ControlPlaneDown
from cluster.dispatch.webhook import Webhooks
from cluster.messages import Admitted, Direction, Queued, Refused, Wait
from cluster.outcome import Outcome, Result
from cluster.tasks import TaskSet
from tests.dispatch.conftest import PROFILES
from tests.dispatch.doubles import ADMIN_KEY, CAMPAIGNS_KEY, KEY, OTHER_KEY, HistoryPort, PoolDouble, RoomsDouble
from tests.records.examples import CALLER, START, a_record, a_request, an_event

SECRET = "a secret of at least thirty-two bytes"
BODY = {"to": CALLER, "profile": "reminder"}

QUEUED_CALL: dict[str, Any] = {
    "call_id": "call_7",
    "tenant": "acme",
    "state": "queued",
    "direction": "outbound",
    "profile": "reminder",
    "campaign": "",
    "priority": 0,
    "number": "+*********01",
    "waited_s": 1.0,
    "position": 3,
    "estimated_wait_s": 12.5,
    "expires_in_s": 299.0,
    "waits_for": "policy/capacity",
}


class Api:
    """A client of the API, with a good key unless told otherwise."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def ask(self, method: str, path: str, key: str | None = KEY, **more: Any) -> httpx2.Response:
        """One request."""
        headers = more.pop("headers", {}) | ({} if key is None else {"Authorization": f"Bearer {key}"})
        return await self.client.request(method, path, headers=headers, **more)

    async def problem(self, method: str, path: str, key: str | None = KEY, **more: Any) -> dict[str, Any]:
        """The problem document that one request gets."""
        response = await self.ask(method, path, key, **more)
        assert response.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = response.json()
        assert document["status"] == response.status_code
        assert document["instance"] == path.partition("?")[0]
        assert document["type"] == f"/docs/problems/{document['type'].rpartition('/')[2]}"
        return document | {"slug": document["type"].rpartition("/")[2], "headers": response.headers}


def make_front(pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound, **changes: Any) -> Front:
    """Everything the routes work with."""
    errands = TaskSet()
    verifier = livekit_api.TokenVerifier("key", SECRET)
    webhooks = Webhooks(verifier, history, rooms, inbound, errands, agent_name="gemini-sip-agent", safety_net_s=0)
    fields: dict[str, Any] = {
        "pool": pool,
        "history": history,
        "webhooks": webhooks,
        "doorkeeper": Doorkeeper(pool),
        "profiles": dict.fromkeys(PROFILES, frozenset[str]()) | {"survey": frozenset({"name", "topic"})},
        "room_prefix": "call-",
        "can_dial": True,
        "version": "1.2.3",
        "metrics": lambda statistics: f"busy {statistics['busy']}\n",
        "close": errands.close,
    }
    return Front(**(fields | changes))


def client_of(front: Front) -> httpx2.AsyncClient:
    """A client that speaks to the application without a network."""
    transport = httpx2.ASGITransport(build_api(front), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://ringmaster")


@pytest.fixture
async def api(pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound) -> AsyncIterator[Api]:
    """The API as it is served."""
    async with client_of(make_front(pool, history, rooms, inbound)) as client:
        yield Api(client)


# Placing calls


async def test_a_call_is_accepted(api: Api, pool: PoolDouble) -> None:
    """202 with the call's id and where to look for it; what was asked for reaches admission."""
    response = await api.ask("POST", "/v1/calls", json=BODY | {"context": {"name": "Ana"}, "max_cost_usd": 0.5})
    assert response.status_code == 202
    call_id = response.json()["call_id"]
    assert response.json() == {"call_id": call_id, "state": "starting"}
    assert response.headers["location"] == f"/v1/calls/{call_id}"
    [request] = pool.asked
    assert (request.tenant, request.to, request.profile, request.context) == (
        "acme",
        CALLER,
        "reminder",
        {"name": "Ana"},
    )
    assert (request.direction, request.max_cost_usd_micros, request.call_id) == (Direction.OUTBOUND, 500_000, call_id)


async def test_the_same_key_is_the_same_call(api: Api, pool: PoolDouble) -> None:
    """The same answer, one call; without a key, and for another tenant, there are two."""
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "k-1"}, "json": BODY}
    first, second = [await api.ask("POST", "/v1/calls", **keyed) for _ in range(2)]
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert len(pool.live) == 1
    others = [await api.ask("POST", "/v1/calls", OTHER_KEY, **keyed), await api.ask("POST", "/v1/calls", json=BODY)]
    assert len({first.json()["call_id"], *(other.json()["call_id"] for other in others)}) == 3


async def test_a_key_whose_call_has_left_the_queue_is_that_call(api: Api, pool: PoolDouble) -> None:
    """It is over, and no other one begins."""
    pool.answers = [Admitted(call_id="call_7", lease_id="", warm=False)]
    response = await api.ask("POST", "/v1/calls", json=BODY, headers={"Idempotency-Key": "k-1"})
    assert (response.status_code, response.json()) == (202, {"call_id": "call_7", "state": "ended"})


async def test_admission_can_tell_another_body_from_the_same(api: Api, pool: PoolDouble) -> None:
    """The hash of what was asked for goes with the request, and a refusal for it is a 422."""
    pool.answers = [Refused(outcome=Outcome(Result.POLICY, "idempotency-key-reused"), detail="Use a new key.")]
    problem = await api.problem("POST", "/v1/calls", json=BODY, headers={"Idempotency-Key": "k-1"})
    assert (problem["status"], problem["slug"]) == (422, "idempotency-key-reused")
    await api.ask("POST", "/v1/calls", json=BODY | {"priority": 1})
    await api.ask("POST", "/v1/calls", json=BODY | {"priority": 0})
    hashes = [request.body_sha256 for request in pool.asked]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("key", ["", "x" * 201, "caf\u00e9".encode("latin-1"), "a\tb"])
async def test_an_idempotency_key_is_short_and_printable(api: Api, key: str | bytes) -> None:
    """400 otherwise."""
    problem = await api.problem("POST", "/v1/calls", json=BODY, headers={"Idempotency-Key": key})
    assert (problem["status"], problem["slug"]) == (400, "invalid-idempotency-key")


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"profile": "reminder"}, "/to", "Field required"),
        (BODY | {"to": "555-0001"}, "/to", "does not start with +"),
        (BODY | {"from": "+1"}, "/from", "has 1 digits"),
        (BODY | {"wish": 1}, "/wish", "Extra inputs"),
        ([], "", "valid dictionary"),
    ],
)
async def test_a_malformed_body_is_pointed_at(api: Api, pool: PoolDouble, body: Any, pointer: str, detail: str) -> None:
    """422, where and why, and nothing is asked of admission."""
    problem = await api.problem("POST", "/v1/calls", json=body)
    assert (problem["status"], problem["slug"]) == (422, "invalid-request")
    [finding] = problem["errors"]
    assert finding["pointer"] == pointer
    assert detail in finding["detail"]
    assert pool.asked == []


async def test_a_body_that_is_no_json(api: Api) -> None:
    """400."""
    problem = await api.problem("POST", "/v1/calls", content=b"{", headers={"Content-Type": "application/json"})
    assert (problem["status"], problem["slug"]) == (400, "invalid-json")


async def test_a_body_that_is_too_large(api: Api) -> None:
    """413, for calls and for webhooks."""
    large = b" " * (LARGEST_BODY_BYTES + 1)
    for path in ("/v1/calls", "/livekit/webhook"):
        problem = await api.problem("POST", path, content=large, headers={"Content-Type": "application/json"})
        assert (problem["status"], problem["slug"]) == (413, "too-large")


async def test_an_unknown_profile_is_refused_with_those_there_are(api: Api, pool: PoolDouble) -> None:
    """422."""
    problem = await api.problem("POST", "/v1/calls", json=BODY | {"profile": "nobody"})
    assert (problem["status"], problem["slug"]) == (422, "unknown-profile")
    assert "receptionist, reminder" in problem["detail"]
    assert pool.asked == []


async def test_a_context_without_a_variable_of_the_profile_is_refused(api: Api, pool: PoolDouble) -> None:
    """422, with the names that are missing: nobody is rung to hear a brace."""
    problem = await api.problem("POST", "/v1/calls", json=BODY | {"profile": "survey", "context": {"name": "Sam"}})
    assert (problem["status"], problem["slug"]) == (422, "incomplete-context")
    assert problem["detail"].endswith("also needs: topic")
    assert pool.asked == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Wait(outcome=o.OVER_CAPACITY, retry_after_s=4.2), (429, "over-capacity", "5")),
        (Refused(outcome=o.OVER_BUDGET, detail="Spent.", retry_after_s=60), (429, "over-budget", "60")),
        (Refused(outcome=o.MAX_COST, detail="Too little."), (403, "refused", None)),
        (Refused(outcome=o.DRAINING, detail="Later.", retry_after_s=30), (503, "draining", "30")),
        (ControlPlaneDown(), (503, "unavailable", "2")),
    ],
)
async def test_a_call_that_does_not_start(
    api: Api, pool: PoolDouble, answer: Any, expected: tuple[int, str, str | None]
) -> None:
    """Each refusal has its status, its reason, and when to come again."""
    pool.answers = [answer]
    problem = await api.problem("POST", "/v1/calls", json=BODY)
    assert (problem["status"], problem["slug"], problem["headers"].get("Retry-After")) == expected
    if not isinstance(answer, ControlPlaneDown):
        assert problem["reason"] == str(answer.outcome)


async def test_without_a_trunk_nothing_is_dialled(
    pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound
) -> None:
    """503, with the variable that is not set."""
    async with client_of(make_front(pool, history, rooms, inbound, can_dial=False)) as client:
        problem = await Api(client).problem("POST", "/v1/calls", json=BODY)
    assert (problem["status"], problem["reason"]) == (503, "ours/no-outbound-trunk")
    assert "RINGMASTER_OUTBOUND_TRUNK_ID" in problem["detail"]


# Keys


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/calls"),
        ("GET", "/v1/calls"),
        ("GET", "/v1/calls/call_1"),
        ("POST", "/v1/calls/call_1/hangup"),
        ("GET", "/v1/calls/call_1/events"),
        ("GET", "/metrics"),
    ],
)
async def test_the_api_is_locked(api: Api, method: str, path: str) -> None:
    """401 without a key and with a wrong one; 403 with one of the wrong scope."""
    for key in (None, "rm_0_wrong"):
        problem = await api.problem(method, path, key, json=BODY if method == "POST" else None)
        assert (problem["status"], problem["slug"]) == (401, "unauthorized")
        assert problem["headers"]["WWW-Authenticate"].startswith("Bearer")
    if path != "/metrics":
        problem = await api.problem(method, path, CAMPAIGNS_KEY, json=BODY if method == "POST" else None)
        assert (problem["status"], problem["slug"], problem["scope"]) == (403, "forbidden", "calls")


async def test_a_campaigns_key_places_the_calls_of_campaigns(api: Api, pool: PoolDouble) -> None:
    """And no others; a key for calls places none of a campaign's. The call's own hours go with it."""
    campaign = BODY | {"campaign": "spring-1", "calling_hours": "Mo-Fr 09:00-20:00"}
    assert (await api.ask("POST", "/v1/calls", CAMPAIGNS_KEY, json=campaign)).status_code == 202
    assert (pool.asked[0].campaign, pool.asked[0].calling_hours) == ("spring-1", "Mo-Fr 09:00-20:00")
    problem = await api.problem("POST", "/v1/calls", json=campaign)
    assert (problem["slug"], problem["scope"]) == ("forbidden", "campaigns")


async def test_a_call_that_can_not_start_yet_is_queued(api: Api, pool: PoolDouble, history: HistoryPort) -> None:
    """202 with its place; so it is shown until it starts, also before the history has it, and it can be hung up."""
    pool.answers = [
        Queued(call_id="call_7", position=3, estimated_wait_s=12.5, expires_in_s=300.0, outcome=o.OVER_CAPACITY)
    ]
    response = await api.ask("POST", "/v1/calls", json=BODY)
    place = {name: QUEUED_CALL[name] for name in ("state", "position", "estimated_wait_s", "waits_for")}
    assert (response.status_code, response.json()) == (202, {"call_id": "call_7"} | place)
    pool.queued["call_7"] = QUEUED_CALL
    for _ in range(2):
        shown = (await api.ask("GET", "/v1/calls/call_7")).json()
        assert shown | place == shown
        assert (shown["to"][-2:], shown["cost"]["usd_micros"]) == ("01", 0)
        await history.history.begin(a_request("call_7", to=CALLER), START)
    assert (await api.ask("GET", "/v1/calls")).json()["calls"][0]["state"] == "queued"
    assert (await api.ask("POST", "/v1/calls/call_7/hangup")).json() == {"call_id": "call_7", "state": "ending"}
    assert pool.hung_up == ["call_7"]


async def test_the_queue_is_for_admins(api: Api, pool: PoolDouble) -> None:
    """It shows everybody's calls."""
    assert (await api.problem("GET", "/v1/queue"))["scope"] == "admin"
    pool.queued["call_7"] = QUEUED_CALL
    assert (await api.ask("GET", "/v1/queue", ADMIN_KEY)).json() == {"calls": [QUEUED_CALL]}


async def test_a_policy_is_shown_and_applied(api: Api, pool: PoolDouble) -> None:
    """By admins, whole, and only one that says one thing."""
    wish = {"inbound_reserve": 2, "trunks": {"ST_a": {"prefixes": ["+1"]}}}
    assert (await api.problem("PUT", "/v1/policy", json=wish))["scope"] == "admin"
    assert (await api.ask("PUT", "/v1/policy", ADMIN_KEY, json=wish)).status_code == 204
    shown = (await api.ask("GET", "/v1/policy", ADMIN_KEY)).json()
    assert (shown["inbound_reserve"], shown["queue"]["size"], shown["trunks"]["ST_a"]["prefixes"]) == (2, 1000, ["+1"])
    wish["trunks"] = {"ST_a": {"prefixes": ["+1"]}, "ST_b": {"prefixes": ["+1"]}}
    problem = await api.problem("PUT", "/v1/policy", ADMIN_KEY, json=wish)
    assert (problem["slug"], problem["errors"][0]["pointer"]) == ("invalid-request", "/trunks/ST_b/prefixes/0")
    problem = await api.problem("PUT", "/v1/policy", ADMIN_KEY, json={"inbound_reserve": -1})
    assert problem["errors"][0]["pointer"] == "/inbound_reserve"
    assert pool.applied == shown


async def test_how_the_pool_stands_is_for_admins(api: Api) -> None:
    """Everything that the pool says is in the answer."""
    assert (await api.problem("GET", "/v1/pool"))["scope"] == "admin"
    shown = (await api.ask("GET", "/v1/pool", ADMIN_KEY)).json()
    assert [(p["profile"], p["baseline"], p["parked"]) for p in shown["profiles"]] == [("receptionist", 2, 1)]
    assert shown["nodes"] == [
        {"node": "n1", "call_slots": 8, "live": 0, "waiting": 1, "draining": False, "leaving": False}
    ]
    assert shown["actors"] == {"now": 1, "most": 4}


# Looking at calls


async def test_a_call_as_it_runs(api: Api, pool: PoolDouble, history: HistoryPort) -> None:
    """From the first moment, when only its lease is there, to the end."""
    call_id = (await api.ask("POST", "/v1/calls", json=BODY)).json()["call_id"]
    early = (await api.ask("GET", f"/v1/calls/{call_id}")).json()
    assert (early["state"], early["profile"], early["cost"]["usd_micros"]) == ("starting", "reminder", 777)
    assert (early["to"], early["transcript"], early["outcome"]) == ("+*********01", [], None)
    await history.history.begin(pool.asked[0], START)
    await history.history.append([an_event("leg", call_id=call_id, state="ringing")])
    running = (await api.ask("GET", f"/v1/calls/{call_id}")).json()
    assert (running["state"], running["to"], running["duration_s"]) == ("ringing", "+*********01", 1.5)
    assert running["cost"] == {"usd": 0.000777, "usd_micros": 777, "by_kind_usd_micros": {"model": 777}}
    assert (await api.ask("GET", f"/v1/calls/{call_id}", ADMIN_KEY)).json()["to"] == CALLER
    await history.history.finish(a_record(call_id, o.BUSY))
    over = (await api.ask("GET", f"/v1/calls/{call_id}")).json()
    by_kind = {"model": 12_000, "trunk": 345}
    assert (over["state"], over["cost"]["by_kind_usd_micros"]) == ("ended", by_kind)
    assert over["outcome"] == {"result": "caller", "reason": "busy", "detail": ""}
    assert [line["text"] for line in over["transcript"]] == ["Hello.", "Hi."]


async def test_another_tenants_call_does_not_exist(api: Api, pool: PoolDouble, history: HistoryPort) -> None:
    """404 for every route, whether it runs or has ended, and nothing happens to it."""
    live = (await api.ask("POST", "/v1/calls", json=BODY)).json()["call_id"]
    await history.history.finish(a_record("call_over"))
    for call_id in (live, "call_over", "call_unknown"):
        for method, path in (("GET", ""), ("POST", "/hangup"), ("GET", "/events")):
            problem = await api.problem(method, f"/v1/calls/{call_id}{path}", OTHER_KEY)
            assert (problem["status"], problem["slug"]) == (404, "not-found")
    assert pool.hung_up == []


async def test_budgets_are_shown_to_administrators(api: Api) -> None:
    """With what is left of each; other keys are refused."""
    (budget,) = (await api.ask("GET", "/v1/budgets", ADMIN_KEY)).json()["budgets"]
    assert (budget["scope"], budget["name"], budget["free_usd_micros"], budget["mode"]) == (
        "tenant",
        "acme",
        25,
        "concise",
    )
    problem = await api.problem("GET", "/v1/budgets", KEY)
    assert (problem["status"], problem["scope"]) == (403, "admin")


async def test_pages_of_calls(api: Api, pool: PoolDouble, history: HistoryPort) -> None:
    """By state and page by page, live ones with what they cost so far."""
    for number in range(3):
        await history.history.begin(a_request(f"call_{number}"), START + number)
    await history.history.finish(a_record("call_0"))
    pool.live["call_2"] = {"call_id": "call_2", "tenant": "acme", "state": "answered", "duration_s": 9.0} | {
        "cost_usd_micros": 5,
        "charges_usd_micros": {},
    }
    page = (await api.ask("GET", "/v1/calls?limit=2")).json()
    assert [call["call_id"] for call in page["calls"]] == ["call_2", "call_1"]
    assert page["calls"][0]["cost"]["usd_micros"] == 5
    page = (await api.ask("GET", f"/v1/calls?limit=2&before={page['next_before']}")).json()
    assert ([call["call_id"] for call in page["calls"]], page["next_before"]) == (["call_0"], None)
    ended = (await api.ask("GET", "/v1/calls?state=ended")).json()["calls"]
    assert [call["outcome"]["reason"] for call in ended] == ["agent-ended"]
    assert (await api.ask("GET", "/v1/calls", OTHER_KEY)).json() == {"calls": [], "next_before": None}


@pytest.mark.parametrize(
    "query", ["state=dead", "limit=0", "limit=201", "limit=x", "search=%00", "before=%00", "before=x"]
)
async def test_a_query_that_is_wrong(api: Api, query: str) -> None:
    """422 with the parameter's name."""
    problem = await api.problem("GET", f"/v1/calls?{query}")
    assert (problem["status"], problem["errors"][0]["parameter"]) == (422, query.partition("=")[0])


async def test_a_call_with_a_nul_in_its_id_does_not_exist(api: Api) -> None:
    """As far as the history is concerned, and nobody else is troubled."""
    assert (await api.ask("GET", "/v1/calls/%00")).status_code == 404


@pytest.mark.parametrize(("key", "found"), [(KEY, 0), (ADMIN_KEY, 1)])
async def test_masked_numbers_can_not_be_searched_out(api: Api, history: HistoryPort, key: str, found: int) -> None:
    """A part of a number finds something only for whoever sees the whole one."""
    await history.history.finish(a_record(transcript=()))
    assert len((await api.ask("GET", f"/v1/calls?search={CALLER[1:5]}", key)).json()["calls"]) == found
    assert len((await api.ask("GET", f"/v1/calls?search={CALLER}", key)).json()["calls"]) == 1


# Hanging up and watching


async def test_hanging_up(api: Api, pool: PoolDouble, history: HistoryPort) -> None:
    """A live call is ended; one that has ended stays as it is."""
    call_id = (await api.ask("POST", "/v1/calls", json=BODY)).json()["call_id"]
    response = await api.ask("POST", f"/v1/calls/{call_id}/hangup")
    assert (response.status_code, response.json()) == (202, {"call_id": call_id, "state": "ending"})
    await history.history.finish(a_record(call_id))
    again = await api.ask("POST", f"/v1/calls/{call_id}/hangup")
    assert (again.status_code, again.json()["state"]) == (202, "ended")
    assert pool.hung_up == [call_id]


async def test_watching_a_call(api: Api, history: HistoryPort) -> None:
    """Server-sent events, from the beginning or from the last one seen."""
    await history.history.begin(a_request(), START)
    await history.history.append([an_event("leg", state="ringing")])
    await history.history.finish(a_record())
    response = await api.ask("GET", "/v1/calls/call_1/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert [line for line in response.text.splitlines() if line.startswith("event: ")] == ["event: leg", "event: ended"]
    resumed = await api.ask("GET", "/v1/calls/call_1/events", headers={"Last-Event-ID": "1"})
    assert [line for line in resumed.text.splitlines() if line.startswith("event: ")] == ["event: ended"]
    problem = await api.problem("GET", "/v1/calls/call_1/events", headers={"Last-Event-ID": "x"})
    assert (problem["status"], problem["errors"][0]["parameter"]) == (422, "last-event-id")


async def test_a_key_that_is_revoked_watches_no_longer(
    api: Api, pool: PoolDouble, history: HistoryPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends with the next message, which it does not get."""
    monkeypatch.setattr(access, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(access, "REMEMBERED_S", 0.0)
    await history.history.begin(a_request(), START)
    watching = asyncio.create_task(api.ask("GET", "/v1/calls/call_1/events"))
    async with asyncio.timeout(20.0):
        while not history.history._news:  # noqa: ASYNC110 - somebody waits for the first event
            await asyncio.sleep(0.01)
        pool.revoked.add(KEY)
        await history.history.append([an_event("line", who="caller", text="My secret.")])
        response = await watching
    assert response.status_code == 200
    assert "secret" not in response.text


# The rest


async def test_health(api: Api, pool: PoolDouble) -> None:
    """Alive is one thing, ready another: not while draining, nor without the control actors. Neither needs a key."""
    assert (await api.ask("GET", "/healthz", None)).json() == {"status": "ok"}
    assert (await api.ask("GET", "/readyz", None)).json() == {"status": "ready", "free": 8, "parked": 2}
    pool.draining = True
    assert (await api.problem("GET", "/readyz", None))["slug"] == "draining"
    pool.down = True
    assert (await api.problem("GET", "/readyz", None))["reason"] == "control-plane-down"
    assert (await api.ask("GET", "/healthz", None)).status_code == 200


async def test_without_the_control_actors_every_route_says_so(api: Api, pool: PoolDouble) -> None:
    """503 with Retry-After, never a 500."""
    pool.down = True
    for method, path in (("POST", "/v1/calls"), ("GET", "/v1/calls"), ("GET", "/metrics")):
        problem = await api.problem(method, path, json=BODY if method == "POST" else None)
        assert (problem["status"], problem["slug"], problem["headers"]["Retry-After"]) == (503, "unavailable", "2")


async def test_metrics(api: Api) -> None:
    """Prometheus text, for any key."""
    response = await api.ask("GET", "/metrics", CAMPAIGNS_KEY)
    assert (response.text, response.headers["content-type"]) == ("busy 0\n", "text/plain; version=0.0.4; charset=utf-8")


async def test_the_money_of_others_is_not_in_the_metrics(
    pool: PoolDouble, history: HistoryPort, rooms: RoomsDouble, inbound: Inbound
) -> None:
    """Unless the key is an administrator's."""
    front = make_front(pool, history, rooms, inbound, metrics=metrics.render)
    async with client_of(front) as client:
        of_one, of_all = [(await Api(client).ask("GET", "/metrics", key)).text for key in (OTHER_KEY, ADMIN_KEY)]
    for name in ("spent", "reserved"):
        assert f'ringmaster_{name}_usd{{tenant="other"}}' in of_one
        assert f'ringmaster_{name}_usd{{tenant="acme"}}' in of_all
    assert "acme" not in of_one


async def test_unknown_paths_and_methods(api: Api) -> None:
    """Problems too."""
    assert (await api.problem("GET", "/v2/calls"))["slug"] == "not-found"
    problem = await api.problem("DELETE", "/v1/calls")
    assert (problem["status"], problem["slug"]) == (405, "method-not-allowed")
    assert problem["headers"]["Allow"]


async def test_a_failure_of_ours_shows_nothing_of_itself(
    api: Api, pool: PoolDouble, caplog: pytest.LogCaptureFixture
) -> None:
    """500; neither the answer nor the log has the exception's text."""
    pool.answers = [RuntimeError(CALLER)]
    problem = await api.problem("POST", "/v1/calls", json=BODY)
    assert (problem["status"], problem["slug"]) == (500, "internal")
    assert CALLER not in json.dumps({name: problem[name] for name in ("title", "detail")})
    assert "an HTTP request failed" in caplog.text
    assert CALLER not in caplog.text
    assert "Traceback" not in caplog.text


async def test_every_problem_type_has_a_page(api: Api) -> None:
    """The `type` of a problem leads somewhere."""
    page = (await api.ask("GET", "/docs/problems/over-capacity", None)).json()
    assert page["title"] == "No more calls may run at once"
    assert (await api.problem("GET", "/docs/problems/nothing", None))["slug"] == "not-found"


async def test_the_description_of_the_api(api: Api) -> None:
    """Every route is in it, with its problems."""
    description = (await api.ask("GET", "/openapi.json", None)).json()
    assert set(description["paths"]) == {
        "/v1/calls",
        "/v1/calls/{call_id}",
        "/v1/calls/{call_id}/hangup",
        "/v1/queue",
        "/v1/policy",
        "/v1/pool",
        "/v1/calls/{call_id}/events",
        "/v1/budgets",
        "/livekit/webhook",
        "/healthz",
        "/readyz",
        "/metrics",
        "/docs/problems/{slug}",
    }
    create = description["paths"]["/v1/calls"]["post"]
    assert {"202", "400", "401", "403", "422", "429", "503"} <= set(create["responses"])
    assert "application/problem+json" in create["responses"]["429"]["content"]
    assert "ProblemDocument" in description["components"]["schemas"]
    assert create["security"] == [{"HTTPBearer": []}]
    assert description["info"]["version"] == "1.2.3"


async def test_the_description_can_be_read_without_a_way_out(api: Api) -> None:
    """What the page at /docs loads comes from here."""
    page = await api.ask("GET", "/docs", None)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert path.startswith("/")
        assert (await api.ask("GET", path, None)).status_code == 200
