"""What fails beside the talk, and the call that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from cluster import outcome as o
from cluster.call import call as c
from cluster.call.bulkhead import Bulkhead, SafeUpstream
from cluster.call.call import PhoneCall
from cluster.call.equipment import Equipment, Media
from cluster.call.heartbeat import Heartbeat
from cluster.call.live import LiveSession, make_client, open_session
from cluster.call.live_link import Opener
from cluster.local.live import LiveEndpoint
from cluster.messages import CallEvent
from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.settings import Settings, load_settings
from tests.call.test_account import ASSIGNMENT
from tests.chaos.headless import Line, NoRooms
from tests.chaos.run import settings_for
from tests.local.live_line import scenario


class Broken(Exception):
    """Of no kind that anybody would think of."""


class BrokenStore(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """An object store whose library has exceptions of its own."""

    protocol = "broken"

    def makedirs(self, *_: object, **__: object) -> None:
        """Not today."""
        raise Broken


@dataclass
class Timeline:
    """What was noted, and something that always fails."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    was_tried_again: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, kind: str, **fields: Any) -> None:
        """As the call's own."""
        self.notes.append({"kind": kind} | fields)

    async def fails(self, *_: object) -> Any:
        """As often as it is tried."""
        self.tries += 1
        if self.tries > 1:
            self.was_tried_again.set()
        raise Broken


FAULT = {"kind": "fault", "what": "storage", "detail": "Broken"}


async def test_what_is_done_again_and_again_is_tried_again_and_its_failure_noted_once() -> None:
    """A full disk would else fill the timeline, too."""
    timeline = Timeline()
    repeating = asyncio.create_task(Bulkhead(timeline.note).repeat("storage", 0.001, timeline.fails))
    async with asyncio.timeout(10):
        await timeline.was_tried_again.wait()
    repeating.cancel()
    assert timeline.notes == [FAULT]


async def test_an_upstream_that_raises_is_one_that_does_not_answer() -> None:
    """The heartbeat goes on, and the events are offered again."""
    timeline = Timeline()

    class Raising:
        renew = report = timeline.fails

    upstream = SafeUpstream(Raising(), Bulkhead(timeline.note))
    heart = Heartbeat(ASSIGNMENT, upstream, lambda: None, lambda *_: None, lambda: None)  # type: ignore[arg-type, return-value]
    assert not await heart.beat()
    assert not await heart.beat()
    assert not await upstream.report([])
    assert [note["what"] for note in timeline.notes] == ["heartbeat", "report"]


@dataclass
class Upstream:
    """Nobody answers a heartbeat, and whoever takes the reports does so only in the end."""

    takes_reports: bool = False
    events: list[CallEvent] = field(default_factory=list)

    async def renew(self, _renewal: object) -> Any:
        """Raise, which is against its word."""
        raise Broken

    async def report(self, events: list[CallEvent]) -> bool:
        """Raise, or keep them."""
        if not self.takes_reports:
            raise Broken
        self.events += events
        return True

    def faults(self) -> list[str]:
        """What was noted to have failed, in the order of its name."""
        return sorted(event.fields["what"] for event in self.events if event.kind == "fault")


class Rooms(NoRooms):
    """Remembers whether the room was deleted."""

    deleted = False

    async def delete(self, room: str) -> bool:
        """The phone is hung up."""
        self.deleted = True
        return await super().delete(room)


def a_call(settings: Settings, profile: Profile, opener: Opener, media: Media) -> tuple[PhoneCall, Upstream, Rooms]:
    """With nobody upstream."""
    upstream, rooms = Upstream(), Rooms()
    kit = Equipment(
        settings=settings, rooms=rooms, http=None, upstream=upstream,  # type: ignore[arg-type]
        slot="slot", node="node", media=media,
    )  # fmt: skip
    request = replace(ASSIGNMENT.request, profile=profile.name)
    return PhoneCall(replace(ASSIGNMENT, request=request), profile, load_models(), kit, opener), upstream, rooms


def also(then: Callable[[], Any], does: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does what it did, after something else."""

    def both(*arguments: Any) -> Any:
        then()
        return does(*arguments)

    return both


async def raises(*_: object) -> Any:
    """As a step that is broken."""
    raise Broken


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """Calls are recorded, in a store that does not work."""
    fsspec.register_implementation("broken", BrokenStore, clobber=True)
    recording = {"enabled": True, "url": "broken://recordings"}
    text = yaml.safe_dump({"instructions": "You are a baker.", "audio": {"recording": recording}})
    (tmp_path / "baker.yaml").write_text(text, encoding="utf-8")
    return load_profiles(tmp_path, load_models())["baker"]


async def test_a_caller_is_served_though_everything_beside_the_talk_fails(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, tmp_path: Path
) -> None:
    """The room's statistics, the store of recordings, and whoever is reported to."""
    timeline, line = Timeline(), Line()
    monkeypatch.setattr(c, "STATS_EVERY_S", 0.01)
    monkeypatch.setattr(c, "EVENTS_EVERY_S", 0.01)
    monkeypatch.setattr("cluster.call.recording.REMOTE_PART_S", 0.01)
    async with LiveEndpoint(scenario()) as endpoint:
        settings = settings_for(endpoint, str(tmp_path))
        client = make_client(settings.live)

        async def opener(_target: int, handle: str) -> LiveSession:
            return await open_session(client, profile, 3, handle=handle)

        call, upstream, rooms = a_call(settings, profile, opener, line.media())
        room, voice, greeted = line.parts["room"], line.parts["voice"], asyncio.Event()
        monkeypatch.setattr(room, "stats", timeline.fails)
        monkeypatch.setattr(voice, "put", also(greeted.set, voice.put))
        running = asyncio.create_task(call.run())
        async with asyncio.timeout(20):
            await timeline.was_tried_again.wait()
            await greeted.wait()
        upstream.takes_reports = True
        call.hang_up(o.HUNG_UP_BY_API)
        record = await running
    assert record.outcome == o.HUNG_UP_BY_API
    assert rooms.deleted
    assert upstream.faults() == ["heartbeat", "recording", "report", "statistics"]


STEPS = {"take_back": "track", "delete": "room", "leave": "leaving", "aclose": "voice"}
"""Of the end, and what each is called when it fails."""


@pytest.mark.parametrize("broken", STEPS)
async def test_no_step_of_the_end_keeps_the_others_from_being_taken(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, tmp_path: Path, broken: str
) -> None:
    """The room is deleted and left, and there is a record."""
    line, taken = Line(), list[str]()
    environ = {"LIVEKIT_URL": "ws://127.0.0.1:9", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s" * 32}
    settings = load_settings(environ | {"GEMINI_API_KEY": "k", "RINGMASTER_PROFILES_DIR": str(tmp_path)})

    async def opener(_target: int, _handle: str) -> LiveSession:
        await asyncio.Event().wait()
        raise AssertionError

    call, upstream, rooms = a_call(settings, profile, opener, line.media())
    for owner in (line.parts["room"], line.parts["voice"], rooms):
        for step in set(STEPS) & set(dir(owner)):
            does = raises if step == broken else getattr(owner, step)
            monkeypatch.setattr(owner, step, also(partial(taken.append, step), does))
    upstream.takes_reports = True
    running = asyncio.create_task(call.run())
    call.hang_up(o.DRAINING)
    assert (await running).outcome == o.DRAINING
    assert sorted(taken) == sorted(STEPS)
    assert {"recording", STEPS[broken]} <= set(upstream.faults())
