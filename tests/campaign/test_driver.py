"""A campaign from beginning to end, in virtual time, judged by what the carrier saw."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cluster import outcome as o
from cluster.campaign.driver import Ending
from cluster.campaign.file import Campaign
from cluster.campaign.states import State
from cluster.campaign.store import CampaignStore
from cluster.messages import CallRequest, Refused
from cluster.outcome import Outcome, Result
from cluster.storage import open_engine, upgrade
from tests.campaign import oracle
from tests.campaign.oracle import Rules
from tests.campaign.world import World, in_virtual_time, seeded
from tests.fixtures.campaign import Folder

MONDAY_NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
TEXT = """\
name: test
profile: reminder
contacts: {file: contacts.csv, number: phone, time_zone: zone, context: {name: first, when: when}}
hours: Mo-Fr 09:00-20:00
pacing: {calls_per_second: 2, concurrency: 10}
retries: {most_calls: 3, after: {busy: [10m, 1h], no-answer: [5h]}}
"""
PLACES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata")
WAITS_S = {"caller/busy": (600.0, 3600.0), "caller/no-answer": (18_000.0,)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Where nothing goes wrong."""
    engine = open_engine(f"sqlite:///{tmp_path}/a.db")
    upgrade(engine)
    yield World(CampaignStore(engine), MONDAY_NOON)
    engine.dispose()


def numbers(count: int) -> list[str]:
    """Phones: most answer, some are busy, are not answered, decline."""
    ends = ["0486", "0408", "0603"]
    return [f"+1415{n:03}{ends[n % 10] if n % 10 < 3 else 5000 + n}" for n in range(count)]


def write(folder: Folder, count: int, more: str = "", text: str = TEXT) -> tuple[Campaign, Rules]:
    """A campaign with so many contacts, and what it may do."""
    zones = {number: PLACES[n % len(PLACES)] for n, number in enumerate(numbers(count))}
    rows = [f"Sam,{number},at nine,{zone}" for number, zone in zones.items()]
    folder.write("contacts.csv", "\n".join(["first,phone,when,zone", *rows]))
    rules = Rules(zones, "09:00", "20:00", WAITS_S, most_calls=3, concurrency=10, calls_per_second=2)
    return folder.load(text + more), rules


def broken(world: World, rules: Rules) -> list[str]:
    """What the carrier saw against the rules, and against the report."""
    return oracle.broken(world.dials, rules) + oracle.adds_up(world.dials, world.store.report("test"))


def test_everybody_is_called(folder: Folder, world: World) -> None:
    """In their own hours, again where that is wanted, and no faster than is allowed."""
    campaign, rules = write(folder, 60)
    ending, _ = in_virtual_time(world.run(campaign))
    assert ending == Ending("done")
    assert broken(world, rules) == []
    assert {dial.number for dial in world.dials} == set(rules.zones)
    assert len(world.dials) == 60 + 6 * 2 + 6
    assert world.store.state("test") == ("done", "")
    tally = world.store.tally("test")
    assert (tally.done, tally.calls) == (60, 78)
    assert tally.spent_usd_micros == sum(dial.cost_usd_micros for dial in world.dials)


@pytest.mark.parametrize("seed", range(2))
def test_nobody_is_called_twice_whoever_is_killed(folder: Folder, world: World, seed: int) -> None:
    """The job's process dies again and again, messages and answers are lost, the pool is full at times."""
    luck = seeded(seed)
    world.trouble, world.max_calls = luck.random, 8
    campaign, rules = write(folder, 100)
    ending, processes = in_virtual_time(world.run(campaign, lambda: luck.choice([0.3, 2.0, 10.0, 60.0, 7200.0])))
    assert ending == Ending("done")
    assert processes > 10
    assert broken(world, rules) == []


def test_started_again_it_is_done(folder: Folder, world: World) -> None:
    """The same name is the same campaign; new rows are new contacts."""
    campaign, _ = write(folder, 5)
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    before = len(world.dials)
    campaign, rules = write(folder, 7)
    world.starts_at += 10 * 86_400
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert len(world.dials) == before + 2
    assert broken(world, rules) == []


@pytest.mark.parametrize(
    ("more", "why", "calls"),
    [
        ("stop: {max_calls: 7}\n", "calls", 7),
        ("stop: {max_usd: 2.6}\n", "money", None),
        ("stop: {at: 2026-11-30T12:00:10Z}\n", "time", None),
    ],
)
def test_it_stops_before(folder: Folder, world: World, more: str, why: str, calls: int | None) -> None:
    """By calls, money or time; who runs is followed to the end."""
    campaign, _ = write(folder, 60, more)
    ending, _ = in_virtual_time(world.run(campaign))
    assert ending == Ending("stopped", why)
    assert not world.running
    assert world.store.state("test") == ("stopped", why)
    assert world.store.tally("test").open == 0
    assert sum(dial.cost_usd_micros for dial in world.dials) <= (2_600_000 if why == "money" else 10**9)
    assert calls is None or len(world.dials) == calls
    assert all(dial.at <= MONDAY_NOON + 11 for dial in world.dials) or why != "time"


@pytest.mark.parametrize("seed", [None, *range(3)])
def test_a_pause_takes_queued_calls_back(folder: Folder, world: World, seed: int | None) -> None:
    """Nobody is dialled from the queue any more, nobody who talks is cut off, and all are called later."""
    campaign, rules = write(folder, 20)
    world.queues, world.max_calls = True, 3
    world.trouble = world.trouble if seed is None else seeded(seed).random

    async def pause() -> Ending:
        driver = world.driver(campaign)
        running = asyncio.create_task(driver.run())
        while len(world.queued) < 6:  # noqa: ASYNC110 it is virtual time
            await asyncio.sleep(0.1)
        driver.pause()
        while world.queued:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        dialled, talking = len(world.dials), list(world.running.values())
        ending = await running
        assert len(world.dials) == dialled
        assert talking
        assert all(world.records[dial.call_id]["outcome"]["reason"] in dial.outcome for dial in talking)
        return ending

    assert in_virtual_time(pause()) == Ending("paused")
    tally = world.store.tally("test")
    assert tally.open == 0
    assert tally.outcomes["policy/withdrawn"] >= 5
    world.starts_at += 3600
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert oracle.broken(world.dials, rules) == []
    rows = [row | {"outcomes": dialled_outcomes(row)} for row in world.store.report("test")]
    assert oracle.adds_up(world.dials, rows) == []
    assert {dial.number for dial in world.dials} == set(rules.zones)


def dialled_outcomes(row: dict[str, Any]) -> list[str]:
    """Of the calls that left the queue to be made."""
    return [outcome for outcome in row["outcomes"] if outcome != "policy/withdrawn"]


@pytest.mark.parametrize("told", [True, False])
def test_a_cancelled_campaign_takes_queued_calls_back(folder: Folder, world: World, *, told: bool) -> None:
    """For good, whether its process is told or finds out with its next call."""
    campaign, _ = write(folder, 60)
    world.queues, world.max_calls = True, 3

    async def cancel() -> Ending:
        driver = world.driver(campaign)
        running = asyncio.create_task(driver.run())
        await asyncio.sleep(3)
        assert world.queued
        world.store.cancel("test")
        if told:
            driver.pause()
        await asyncio.sleep(2)
        assert not world.queued
        return await running

    assert in_virtual_time(cancel()) == Ending("cancelled")
    rows = list(world.store.report("test"))
    withdrawn = [row["state"] for row in rows if row["outcomes"] == ["policy/withdrawn"]]
    assert len(withdrawn) > 1
    assert set(withdrawn) == {"done"}
    assert len(world.dials) == 3


UNKNOWN_PROFILE = Outcome(Result.POLICY, "unknown-profile")


@pytest.mark.parametrize("outcome", [o.PRIORITY_ONLY, o.OVER_CAMPAIGN_CALLS, o.MAX_COST, UNKNOWN_PROFILE], ids=str)
def test_a_refusal_of_everybody_stops_the_campaign(folder: Folder, world: World, outcome: Outcome) -> None:
    """It can be resumed when that is mended, and has lost nobody."""
    campaign, rules = write(folder, 6)
    world.refusals = [Refused(outcome=outcome, detail="")]
    ending, _ = in_virtual_time(world.run(campaign))
    assert ending == Ending("stopped", outcome.reason)
    assert world.store.state("test") == ("stopped", outcome.reason)
    assert (world.store.tally("test").waiting, world.store.tally("test").calls) == (6, 0)
    world.starts_at += 60
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert {dial.number for dial in world.dials} == set(rules.zones)
    assert broken(world, rules) == []


@pytest.mark.parametrize("outcome", [o.BLOCKED_NUMBER, o.UNKNOWN_HOURS], ids=str)
def test_a_refusal_of_one_contact_closes_it(folder: Folder, world: World, outcome: Outcome) -> None:
    """And all others are called."""
    campaign, _ = write(folder, 6)
    world.refusals = [Refused(outcome=outcome, detail="")]
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    refused = [row for row in world.store.report("test") if row["outcomes"] == [str(outcome)]]
    assert len(refused) == 1
    assert len({dial.number for dial in world.dials}) == 5


def ended(outcome: Outcome, **rest: object) -> dict[str, object]:
    """What is special in the record of a call that was not answered."""
    return {"outcome": {"result": outcome.result.value, "reason": outcome.reason}, **rest}


@pytest.mark.parametrize("outcome", [o.PRIORITY_ONLY, o.ROOM_UNREACHABLE, o.LEASE_EXPIRED], ids=str)
def test_who_was_not_dialled_is_called_later(folder: Folder, world: World, outcome: Outcome) -> None:
    """The failures before are none of his calls."""
    campaign, _ = write(folder, 1)
    world.mishaps = [ended(outcome)] * 4
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    (row,) = world.store.report("test")
    assert row["outcomes"] == [str(outcome)] * 4 + ["caller/busy"] * 3
    assert len(world.dials) == 3


def test_whose_phone_may_have_rung_is_not_called_again(folder: Folder, world: World) -> None:
    """Nobody answered, but the record does not say that nobody was dialled."""
    campaign, _ = write(folder, 1)
    world.mishaps = [ended(o.LEASE_EXPIRED, timings_ms={"joined": 80.0, "published": 90.0})]
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert world.dials == []


def test_a_pause_ends_the_dialling_only(folder: Folder, world: World) -> None:
    """What runs is followed to its end, and the next process goes on."""
    campaign, rules = write(folder, 60)

    async def pause() -> Ending:
        driver = world.driver(campaign)
        running = asyncio.create_task(driver.run())
        await asyncio.sleep(5)
        driver.pause()
        dialled, at_work = len(world.dials), len(world.running)
        ending = await running
        assert at_work
        assert len(world.dials) == dialled
        return ending

    assert in_virtual_time(pause()) == Ending("paused")
    assert not world.running
    world.starts_at += 3600
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert broken(world, rules) == []


def test_who_can_no_longer_follow_calls_fails(folder: Folder, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of waiting for ever for calls that nobody looks at; the next process goes on."""
    campaign, rules = write(folder, 60)

    async def broken_record(*_: object) -> dict[str, object]:
        return {}

    async def fail_and_go_on() -> Ending:
        driver = world.driver(campaign)
        monkeypatch.setattr(driver._others.history, "call", broken_record)
        with pytest.raises(KeyError, match="outcome"):
            await asyncio.wait_for(driver.run(), 3600)
        assert world.store.state("test") == ("running", "")
        return (await world.run(campaign))[0]

    assert in_virtual_time(fail_and_go_on()) == Ending("done")
    assert {dial.number for dial in world.dials} == set(rules.zones)
    assert broken(world, rules) == []


def test_only_one_process_drives(folder: Folder, world: World) -> None:
    """The newest one; the older finds out with its next call."""
    campaign, rules = write(folder, 60)

    async def both() -> list[Ending]:
        first = asyncio.create_task(world.driver(campaign, "a").run())
        await asyncio.sleep(5)
        second = asyncio.create_task(world.driver(campaign, "b").run())
        return [await first, await second]

    assert in_virtual_time(both()) == [Ending("replaced"), Ending("done")]
    assert broken(world, replace(rules, calls_per_second=4)) == []


def test_who_is_cancelled_never_goes_on(folder: Folder, world: World) -> None:
    """Neither the process that runs nor a later one."""
    campaign, _ = write(folder, 60)

    async def cancel() -> Ending:
        running = asyncio.create_task(world.driver(campaign).run())
        await asyncio.sleep(5)
        assert world.store.cancel("test")
        return await running

    assert in_virtual_time(cancel()) == Ending("cancelled")
    dialled = len(world.dials)
    assert in_virtual_time(world.run(campaign))[0] == Ending("cancelled")
    assert len(world.dials) == dialled
    assert not world.running
    assert not world.store.cancel("another")


async def paused_after_a_while(world: World, campaign: Campaign) -> None:
    """Some are called, and others are not yet."""
    driver = world.driver(campaign)
    running = asyncio.create_task(driver.run())
    await asyncio.sleep(5)
    driver.pause()
    await running


def test_a_number_that_is_suppressed_meanwhile_is_not_called(folder: Folder, world: World) -> None:
    """The list is read anew with each process."""
    campaign, rules = write(folder, 60)

    in_virtual_time(paused_after_a_while(world, campaign))
    called = {dial.number for dial in world.dials}
    left = [number for number in rules.zones if number not in called]
    folder.write("no.txt", "\n".join(left))
    world.starts_at += 3600
    in_virtual_time(world.run(folder.load(TEXT + "suppression: no.txt\n")))
    assert {dial.number for dial in world.dials} == called
    rows = {row["number"]: row for row in world.store.report("test")}
    assert {rows[number]["outcomes"][-1] for number in left} == {"policy/suppressed"}


def only(campaign: Campaign, kept: dict[str, str]) -> Campaign:
    """The same campaign, of these numbers in these time zones."""
    rows = [f"Kim,{number},at ten,{zone}" for number, zone in kept.items()]
    (campaign.folder / "contacts.csv").write_text("\n".join(["first,phone,when,zone", *rows]))
    return campaign


def test_resumed_it_goes_by_the_file_as_it_is_now(folder: Folder, world: World) -> None:
    """Whoever is not in it any more is not called; the others in the hours of their new time zones."""
    campaign, rules = write(folder, 60)

    in_virtual_time(paused_after_a_while(world, campaign))
    called = {dial.number for dial in world.dials}
    gone, *left = [number for number in rules.zones if number not in called]
    moved = dict.fromkeys(left, "Asia/Kolkata")
    only(campaign, {number: zone for number, zone in rules.zones.items() if number in called} | moved)
    world.starts_at += 3600
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert broken(world, replace(rules, zones={**rules.zones, **moved})) == [
        f"line {list(rules.zones).index(gone) + 2} is absent"
    ]
    assert {dial.number for dial in world.dials} == {*called, *left}
    tally = world.store.tally("test")
    assert (tally.waiting, tally.done) == (0, 60)

    only(campaign, {gone: "Asia/Kolkata"})
    world.starts_at += 14 * 86_400
    assert in_virtual_time(world.run(campaign))[0] == Ending("done")
    assert broken(world, replace(rules, zones={**rules.zones, **moved, gone: "Asia/Kolkata"})) == []


def test_who_leaves_the_file_while_called_is_not_called_again(folder: Folder, world: World) -> None:
    """He waits for his next call only after the file was read."""
    campaign, rules = write(folder, 2)
    (busy, _) = rules.zones

    async def run() -> Ending:
        first = asyncio.create_task(world.driver(campaign, "a").run())
        while not any(dial.number == busy for dial in world.running.values()):  # noqa: ASYNC110 it is virtual time
            await asyncio.sleep(0.1)
        first.cancel()
        only(campaign, {number: zone for number, zone in rules.zones.items() if number != busy})
        return await world.driver(campaign, "b").run()

    assert in_virtual_time(run()) == Ending("done")
    assert [dial.outcome for dial in world.dials if dial.number == busy] == ["caller/busy"]
    (row,) = [row for row in world.store.report("test") if row["number"] == busy]
    assert (row["state"], row["outcomes"]) == ("absent", ["caller/busy"])


def test_a_call_that_nobody_knows_any_more_is_parked(folder: Folder, world: World) -> None:
    """Its database was lost with it; nobody is called again by himself."""
    campaign, _ = write(folder, 4)

    async def lose() -> Ending:
        running = asyncio.create_task(world.driver(campaign).run())
        await asyncio.sleep(5)
        assert world.running
        world.running.clear()
        world.records.clear()
        return await running

    ending = in_virtual_time(lose())
    assert ending == Ending("done")
    states = [row["state"] for row in world.store.report("test")]
    assert State.UNKNOWN in states
    assert len({dial.request_id for dial in world.dials}) == len(world.dials)


def test_an_attempt_that_livekit_alone_knows_is_parked(folder: Folder, world: World) -> None:
    """Somebody is in its room, but neither `BudgetPool` nor the history has heard of it."""
    campaign, _ = write(folder, 1)

    async def half_an_attempt() -> Ending:
        world.down.add("pool")
        running = asyncio.create_task(world.driver(campaign).run())
        await asyncio.sleep(5)
        running.cancel()
        (entry,) = world.store.unfinished("test")
        assert entry.state is State.DIALLING
        world.down = {"livekit"}
        running = asyncio.create_task(world.driver(campaign).run())
        await asyncio.sleep(5)
        assert not running.done()
        running.cancel()
        world.down.clear()
        others = world.others()
        object.__setattr__(others.rooms, "present", _somebody)
        driver = world.driver(campaign, "e")
        driver._others = others
        return await driver.run()

    assert in_virtual_time(half_an_attempt()) == Ending("done")
    assert world.dials == []
    assert world.store.tally("test").unknown == 1


async def _somebody(_room: str) -> list[str]:
    return ["somebody"]


def test_a_call_is_asked_for_until_its_contacts_hours_end(folder: Folder, world: World) -> None:
    """Whoever dials it after a time in a queue may know neither the contact's zone nor the days that are closed."""
    campaign, _ = write(folder, 1)
    asked: list[CallRequest] = []
    world.on_start = asked.append
    in_virtual_time(world.run(campaign))
    eight_in_the_evening = datetime(2026, 11, 30, 20, tzinfo=ZoneInfo(PLACES[0])).timestamp()
    assert [request.dial_before for request in asked][:1] == [eight_in_the_evening]
