"""One phone call as it runs: a task tree around the core, from admission to the record.

Rule of this file: it decides nothing. Everything that happens is given to `CallCore`, and every effect that comes back
is carried out at once. Leaving `run()` means that nothing of the call is left: no room, no task, no session.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster import outcome as o
from cluster.budget.pricing import instruction_tokens
from cluster.call import events as ev
from cluster.call.account import Account
from cluster.call.bulkhead import Bulkhead, SafeUpstream, first_fault
from cluster.call.continuity import ContinuityRules
from cluster.call.core import CallCore
from cluster.call.echo import EchoGuard
from cluster.call.equipment import Equipment
from cluster.call.heartbeat import Heartbeat
from cluster.call.keypad import KeypadRules
from cluster.call.line import rms
from cluster.call.live_link import LiveLink, Opener
from cluster.call.live_messages import Audio, BargeIn
from cluster.call.phone import DialFailed, dial
from cluster.call.prompts import Prompts
from cluster.call.quality import resampler_quality
from cluster.call.recording import Recorder
from cluster.call.room import RoomUnreachable
from cluster.call.rules import Rules
from cluster.call.sentence import FILLER, recorded, unavailable_sentence
from cluster.call.states import Leg
from cluster.call.tool_purse import ToolPurse
from cluster.call.tool_runner import RoomTelephone, ToolRunner
from cluster.messages import Assignment, CallRecord, Direction, Renewal, Verdict
from cluster.outcome import Outcome
from cluster.tools import toolbox

if TYPE_CHECKING:
    from cluster.models import Model
    from cluster.profiles import Profile
    from cluster.settings import Settings

STATS_EVERY_S = 5.0
EVENTS_EVERY_S = 0.5
"""Events are reported in batches: a live transcript needs no more, and each batch is one message."""
NEWS = frozenset({"leg", "phase", "line", "tool", "live"})
"""Entries of the timeline that the next process would have to know of."""
PHONE_MISSING_S = 2.0
"""A phone that is not in the room for so long has hung up; LiveKit lets one reconnect meanwhile."""


class _Over(Exception):
    """Ends the task tree; not an error."""


class PhoneCall:
    """One call. `run()` once; `feed()` and `hang_up()` while it runs."""

    def __init__(
        self,
        assignment: Assignment,
        profile: Profile,
        models: Mapping[str, Model],
        equipment: Equipment,
        opener: Opener,
    ) -> None:
        """`opener` gives the parked Live session or opens one; `models` has those of the profile's targets."""
        request = self._request = assignment.request
        self._assignment = assignment
        self._profile = profile
        self._kit = equipment
        now = time.monotonic()
        rules = _rules(assignment, profile, models, equipment.settings)
        prompts = Prompts(profile.greeting.text, self._request.context, assignment.concise)
        self._core = CallCore(rules, prompts, now, assignment.takeover)
        self._started_at = time.time() - (now - self._core.started_at)
        self._account = Account(
            assignment,
            profile.model,
            equipment.slot,
            equipment.node,
            began=self._core.started_at,
            instructions=instruction_tokens(profile.instructions),
        )
        self._bulkhead = Bulkhead(self._note)
        self._upstream = SafeUpstream(equipment.upstream, self._bulkhead)
        media = equipment.media
        self._link = media.room(self.feed, self._evicted)
        self._voice = media.voice(lambda: self.feed(ev.PlayoutDrained()), self._on_played)
        self._line = media.line(self._on_caller_pcm, self.feed)
        self._echo = EchoGuard() if profile.audio.echo_guard else None
        recording = profile.audio.recording
        self._recorder: Recorder | None = None
        if recording and recording.enabled:
            since_s = now - self._core.started_at
            self._recorder = Recorder(recording.url, self._request.call_id, since_s=since_s)
        self._tasks = asyncio.TaskGroup()
        self._live = LiveLink(
            opener,
            self._tasks,
            feed=self.feed,
            account=self._account,
            targets=profile.targets(),
            on_message=self._on_live,
            triggers=[models[target.model].trigger for target in profile.targets()],
        )
        phone = RoomTelephone(link=self._link, http=equipment.http, settings=equipment.settings, room=request.room)
        self._heartbeat = Heartbeat(assignment, self._upstream, self._renewal, self._on_verdict, self._on_expired)
        pays = ToolPurse(self._account, self._heartbeat).pays
        self._tools = ToolRunner(rules.toolboxes[0], phone, self._tasks, self.feed, pays=pays, call_id=request.call_id)
        self._over = asyncio.Event()
        self._timer_changed = asyncio.Event()
        self._joined = asyncio.Event()
        self._line_is_open = asyncio.Event()
        self._outcome = o.UNKNOWN
        self._is_evicted = False

    @property
    def state(self) -> str:
        """The leg's state, for people."""
        return self._core.leg.value

    def feed(self, event: ev.Event) -> None:
        """Something happened. Decides and acts at once; never waits."""
        if isinstance(event, ev.Resumable):
            self._heartbeat.news()
        self._act(self._core.handle(event, time.monotonic()))

    def hang_up(self, outcome: Outcome) -> None:
        """End the call now."""
        self.feed(ev.HangUp(outcome))

    async def run(self) -> CallRecord:
        """Run the call to its end and return its record."""
        try:
            async with self._tasks as tasks:
                for part in self._parts():
                    tasks.create_task(part)
                self.feed(ev.CallBegins())
        except* _Over:
            pass
        except* Exception as errors:  # noqa: BLE001 - a bug of ours must not leave a caller in silence
            self._outcome = o.FAULT
            self._core.detail = f"fault in the call: {type(first_fault(errors)).__name__}"
        finally:
            await self._clean_up()
        return self._account.record(self._core, self._outcome, started_at=self._started_at, now=time.monotonic())

    def _parts(self) -> Iterable[Coroutine[Any, Any, None]]:
        yield self._end_when_over()
        yield self._keep_time()
        yield self._join()
        yield self._voice.play_for_ever()
        yield self._line.listen_for_ever(self._link)
        yield self._heartbeat.beat_for_ever()
        yield self._bulkhead.repeat("report", EVENTS_EVERY_S, self._report)
        yield self._bulkhead.repeat("statistics", STATS_EVERY_S, self._watch_line)
        if self._recorder:
            yield self._bulkhead.repeat("recording", self._recorder.part_s, self._recorder.flush)

    async def _end_when_over(self) -> None:
        await self._over.wait()
        raise _Over

    async def _keep_time(self) -> None:
        """One timer, armed from the core's deadline."""
        while True:
            self._timer_changed.clear()
            deadline = self._core.deadline()
            try:
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
                    await self._timer_changed.wait()
            except TimeoutError:
                self._act(self._core.tick(time.monotonic()))

    async def _join(self) -> None:
        try:
            inbound = self._request.direction is Direction.INBOUND
            await self._link.join(
                self._kit.settings.livekit, self._request.room, self._request.identity, answers=inbound
            )
        except RoomUnreachable as error:
            self._give_up(error)
            return
        self._account.took("joined", time.monotonic())
        self._joined.set()
        if self._assignment.takeover and self._core.leg is Leg.ANSWERED:
            if not await self._link.finds_caller(PHONE_MISSING_S):
                self.feed(ev.PhoneGone(o.CALLER_HUNG_UP))
        elif self._request.direction is Direction.OUTBOUND and self._core.leg is Leg.IDLE:
            await self._dial()

    def _give_up(self, error: RoomUnreachable) -> None:
        self._core.detail = str(error)
        self.feed(ev.HangUp(o.ROOM_UNREACHABLE))

    async def _dial(self) -> None:
        """The agent is in the room with an open session before the phone rings: whoever answers is heard at once."""
        await self._line_is_open.wait()
        self.feed(ev.Dialling())
        # Should this process die from here on, nobody knows whether a phone rings: that has to be known first.
        if not await self._heartbeat.confirm():
            self.feed(ev.HangUp(o.LEASE_EXPIRED))
            return
        self._link.begin_dialling()
        try:
            await dial(self._kit.http, self._kit.settings.livekit, self._kit.settings.dispatch, self._assignment)
        except DialFailed as error:
            self.feed(ev.PhoneGone(error.failure.outcome))
            return
        self._account.took("answered", time.monotonic())
        self.feed(ev.PhoneAnswered())
        self._link.end_dialling()

    async def _open_line(self) -> None:
        await self._joined.wait()
        if self._line_is_open.is_set():
            return
        try:
            publication = await self._link.publish(self._voice.new_track())
        except RoomUnreachable as error:
            self._give_up(error)
            return
        self._account.took("published", time.monotonic())
        self._line_is_open.set()
        await self._link.until_heard(publication, self._voice.new_track)
        self._account.took("audible", time.monotonic())
        self._voice.open()

    def _renewal(self) -> Renewal:
        return self._account.renewal(self._core, self._voice.unheard_ms, time.monotonic())

    def _on_verdict(self, verdict: Verdict, renewal: Renewal) -> None:
        if verdict is Verdict.VOID:
            self._evicted()
        elif verdict is Verdict.WIND_DOWN or renewal.spent_usd_micros >= self._assignment.max_cost_usd_micros:
            self.feed(ev.WindDown(o.MAX_COST))
        elif verdict is Verdict.CONCISE:
            self.feed(ev.BeBrief())

    def _on_expired(self) -> None:
        self.feed(ev.WindDown(o.LEASE_EXPIRED))

    async def _report(self) -> None:
        if (events := self._account.take_events()) and not await self._upstream.report(events):
            self._account.put_back(events)

    async def _watch_line(self) -> None:
        """The room's statistics decide the resamplers' quality, from the next pause on."""
        if (stats := await self._link.stats()) is not None:
            mos = self._account.line(stats)
            self._voice.quality = self._line.quality = resampler_quality(mos)
            figures = {"mos": round(mos, 2), "loss": round(stats.loss, 4), "frame_us": self._line.take_frame_us()}
            self._note("quality", **figures, resampler=self._line.quality)

    def _note(self, kind: str, **fields: Any) -> None:
        self._account.note(kind, time.monotonic(), **fields)
        if kind in NEWS:
            self._heartbeat.news()

    def _on_live(self, message: Audio | BargeIn | ev.Event) -> None:
        match message:
            case Audio(pcm, rate_hz):
                ms = self._voice.put(pcm, rate_hz)
                if ms is None:
                    self._note("fault", what="reply-too-long")
                else:
                    self.feed(ev.AgentAudio(ms, rms(np.frombuffer(pcm, np.int16))))
            case BargeIn():
                self._stop_agent()
            case _:
                self.feed(message)

    def _stop_agent(self) -> None:
        unheard_ms = self._voice.clear()
        if self._recorder:
            self._recorder.silence_agent()
        self.feed(ev.Interrupted(unheard_ms))

    def _on_caller_pcm(self, pcm: bytes, level: float) -> None:
        if self._core.answered_at is not None:
            is_echo = self._echo is not None and self._echo.is_echo(level, time.monotonic())
            self._live.send_audio(bytes(len(pcm)) if is_echo else pcm)
        if self._recorder:
            self._recorder.caller(pcm)

    def _on_played(self, pcm: bytes, rate_hz: int) -> None:
        if self._echo is not None:
            self._echo.played(rms(np.frombuffer(pcm, np.int16)), time.monotonic())
        if self._recorder:
            self._recorder.agent(pcm, rate_hz)

    def _evicted(self) -> None:
        """Another process holds this call now: fall silent, leave, settle nothing."""
        self._is_evicted = True
        self._outcome = o.LEASE_LOST
        self._voice.clear()
        self._over.set()

    def _act(self, effects: Iterable[ev.Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)
        self._timer_changed.set()

    def _carry_out(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Note(kind, fields):
                self._note(kind, **fields)
            case ev.RunTool() | ev.CancelTool():
                self._tools.carry_out(effect)
            case ev.OpenLine():
                self._tasks.create_task(self._open_line())
            case ev.Finish(outcome):
                self._outcome = outcome
                self._over.set()
            case ev.Silence() | ev.StopAgent() | ev.SayFiller() | ev.SayUnavailable():
                self._speak_without_model(effect)
            case ev.LiveGone():
                pass  # the core has drawn the conclusions
            case _:
                self._live.carry_out(effect)

    def _speak_without_model(self, effect: ev.VoiceEffect) -> None:
        match effect:
            case ev.Silence():
                self._voice.clear()
            case ev.StopAgent():
                self._stop_agent()
            case ev.SayFiller():
                self._voice.put(*recorded(FILLER))
            case ev.SayUnavailable():
                self._voice.put(*unavailable_sentence(self._profile.unavailable_sentence))
                self._tasks.create_task(self._open_line())

    async def _clean_up(self) -> None:
        """Whatever happened, nobody is left in a room without an agent: no step keeps the next one from being taken."""
        closing = asyncio.create_task(self._live.aclose())
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "ids": self._learn_ids,
            "track": self._link.take_back,
            "room": self._close_room,
            "leaving": self._link.leave,
            "voice": self._voice.aclose,
            "live-end": lambda: closing,
            "recording": self._save_recording,
        }
        for what, step in steps.items():
            with self._bulkhead.around(what):
                await step()
        if not self._is_evicted:
            self._note("end", result=self._outcome.result.value, reason=self._outcome.reason)
        await self._report()

    async def _learn_ids(self) -> None:
        """What only the room knows of the phone."""
        if self._request.direction is Direction.INBOUND:
            self._account.caller_number = self._link.caller_number
        if ids := self._link.carriers_ids:
            self._note("ids", **ids)

    async def _close_room(self) -> None:
        is_ours = not self._is_evicted
        with self._bulkhead.around("heartbeat"):
            is_ours = is_ours and await self._heartbeat.is_ours()
        if is_ours:
            await self._kit.rooms.delete(self._request.room)

    async def _save_recording(self) -> None:
        if self._recorder and not self._is_evicted:
            with self._bulkhead.around("recording"):
                await self._recorder.flush()
            self._account.recording_url = await self._recorder.save()


def _rules(assignment: Assignment, profile: Profile, models: Mapping[str, Model], settings: Settings) -> Rules:
    limits = profile.limits
    return Rules(
        max_duration_s=assignment.max_duration_s,
        idle_reminder_s=limits.idle_reminder_s,
        idle_reminders=limits.idle_reminders,
        silence_s=limits.silence_s,
        speak_first=profile.greeting.mode == "speak-first",
        inbound=assignment.request.direction is Direction.INBOUND,
        toolboxes=tuple(toolbox(profile.tools, profile.transfer, models[t.model]) for t in profile.targets()),
        backchannels=profile.audio.backchannels,
        answer_within_s=limits.answer_within_s,
        keypad=KeypadRules(profile.keypad.timeout_s, profile.keypad.end_key),
        live=ContinuityRules(
            models=tuple(target.model for target in profile.targets()),
            rotate_after_s=settings.live.rotate_after_s,
            spread=random.random,
        ),
    )
