"""Calls that hold the same conversation over and over while their Live connections fail in every known way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

from cluster import outcome as o
from cluster.call.call import PhoneCall
from cluster.call.equipment import Equipment
from cluster.call.live import LiveSession, make_client, open_session
from cluster.local.live import LiveEndpoint
from cluster.local.scenario import Scenario
from cluster.messages import Assignment, CallRecord, CallRequest, Direction
from cluster.models import load_models
from cluster.profiles import Profile
from cluster.settings import Settings, load_settings
from tests.chaos.headless import Line, NoRooms, Upstream
from tests.fixtures.prices import TARIFF
from tests.local.headless import speech

ANSWER_WITHIN_S: Final = 20.0
QUIET_S: Final = 0.8
TRIES: Final = 4
AGAIN: Final = ("I am sorry", "As I was saying")
"""The model has lost its answer; or it was cut in its first words, and this endpoint knows no better end to them."""
FACT = ("My name is Sam.", "Hello Sam, what can I do for you?")
QUESTIONS: Final = (
    ("What time do you open?", "We open at eight in the morning and close at six, on every day but Sunday."),
    ("Do you have rye bread?", "Yes, we bake rye bread every morning, and it is still warm at nine."),
    ("How much is a birthday cake?", "A birthday cake is thirty dollars, with candles and a name on it."),
)
RECALL = ("What is my name?", "Your name is Sam, of course.")
GOODBYE = ("Thank you, goodbye.", "Goodbye, and thank you for calling.")
INSTRUCTIONS: Final = "You are a baker who answers the phone."

FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"at": "speech", "after_ms": 300, "do": "abort", "every": 23},
    {"at": "speech", "after_ms": 200, "do": "close", "code": 1008, "reason": "The operation was aborted", "every": 29},
    {"at": "speech", "after_ms": 200, "do": "go_away", "time_left": "6s", "every": 11},
    {"at": "turn", "turn": 0, "do": "abort", "every": 31},
    {"at": "turn", "turn": 0, "do": "close", "every": 37},
    {"at": "turn", "turn": 0, "do": "silent", "every": 41},
    {"at": "turn", "turn": 0, "do": "empty", "every": 43},
    {"at": "turn", "turn": 0, "do": "near_zero", "every": 47},
    {"at": "turn", "turn": 0, "do": "rejected", "every": 53},
    {"at": "turn", "turn": 0, "do": "unknown_message", "every": 59},
    {"at": "answer", "turn": 0, "after_ms": 900, "do": "go_away", "time_left": "7s", "every": 7},
    {"at": "answer", "turn": 0, "after_ms": 900, "do": "abort", "every": 19},
    {"at": "answer", "turn": 0, "after_ms": 700, "do": "close", "every": 23},
    {"at": "answer", "turn": 0, "after_ms": 700, "do": "close", "code": 1000, "reason": "", "every": 27},
    {"at": "answer", "turn": 0, "after_ms": 900, "do": "stall", "every": 31},
    {"at": "resume", "do": "refuse", "every": 7},
    {"at": "resume", "do": "close", "every": 13},
    {"at": "resume", "do": "hang", "every": 61},
    {"at": "setup", "do": "close", "code": 1011, "reason": "The service is currently unavailable.", "every": 31},
    {"at": "upgrade", "do": "http_status", "code": 503, "every": 37},
    {"at": "upgrade", "do": "abort", "every": 17},
)


def scenario(faults: Iterable[dict[str, Any]] = FAULTS, **changes: Any) -> Scenario:
    """A baker who knows the answers, and one of them only if he was told."""
    exchanges: list[dict[str, Any]] = [{"when": when, "say": say} for when, say in (FACT, *QUESTIONS)]
    exchanges.append({"when": RECALL[0], "say": RECALL[1], "needs": "Sam"})
    exchanges.append({"when": GOODBYE[0], "say": GOODBYE[1], "call": {"tool": "end_call"}})
    prompts = [
        {"contains": "Go on exactly where you stopped", "say": "As I was saying, that is how it is with us."},
        {"contains": "waiting for your answer", "say": "I am sorry, could you say that again?"},
    ]
    agent = {"name": "baker", "greeting": "Rosewood Bakery, good morning.", "otherwise": "I do not know.",
             "answer_after_ms": 60, "exchanges": exchanges, "prompts": prompts}  # fmt: skip
    return Scenario.model_validate({"agents": [agent], "transcribe": "match", "faults": list(faults)} | changes)


@dataclass
class Tally:
    """What many calls add up to."""

    calls: int = 0
    lost: list[str] = field(default_factory=list)
    questions: int = 0
    unanswered: list[str] = field(default_factory=list)
    asked_again: int = 0
    """The model had lost its answer and said so."""
    forgotten: int = 0
    rotation_gap_ms: list[float] = field(default_factory=list)
    """How long no connection served, where one was replaced as planned, and nothing else went wrong."""
    struck_gap_ms: list[float] = field(default_factory=list)
    """The same, where the next connection was struck by a fault, too."""
    audible_ms: list[float] = field(default_factory=list)
    """From an abrupt end, or the end of the words that it fell into, until the agent was heard (again)."""
    stalls: Counter[str] = field(default_factory=Counter)
    """What was tried against silence."""
    faults: Counter[str] = field(default_factory=Counter)
    records: list[CallRecord] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """All tokens that the service told us of."""
        usages = [record.usage for record in self.records]
        return sum(u.text_in + u.audio_in + u.text_out + u.audio_out - u.estimated_tokens for u in usages)

    def p95(self, values: list[float]) -> float:
        """The 95th percentile; 0 of nothing."""
        return quantiles(values, n=20)[-1] if len(values) > 1 else sum(values)


@dataclass
class Chaos:
    """One run against one endpoint."""

    endpoint: LiveEndpoint
    settings: Settings
    profile: Profile
    tally: Tally = field(default_factory=Tally)

    async def calls(self, at_once: int, until_s: float, rounds: int = 2) -> Tally:
        """Keep that many calls going until then; each asks every question `rounds` times."""
        deadline = time.monotonic() + until_s
        client = make_client(self.settings.live)

        async def give(_target: int, handle: str) -> LiveSession:
            return await open_session(client, self.profile, 2.5, handle=handle)

        async def caller(number: int) -> None:
            await asyncio.sleep(number * 0.3)
            while time.monotonic() < deadline:
                await self._call(give, rounds, deadline)

        await asyncio.gather(*(caller(number) for number in range(at_once)))
        for session in self.endpoint.sessions:
            self.tally.faults.update(f"{fault.at}/{fault.do}" for fault in session.faults)
        return self.tally

    async def _call(self, give: Any, rounds: int, deadline: float) -> None:
        self.tally.calls += 1
        given: list[LiveSession] = []

        async def opener(target: int, handle: str) -> LiveSession:
            given.append(await give(target, handle))
            return given[-1]

        line, upstream = Line(), Upstream()
        kit = Equipment(
            settings=self.settings, rooms=NoRooms(), http=None, upstream=upstream,  # type: ignore[arg-type]
            slot="slot", node="node", media=line.media(),
        )  # fmt: skip
        call = PhoneCall(_assignment(self.tally.calls), self.profile, load_models(), kit, opener)
        running = asyncio.create_task(call.run())
        talk = _Talk(line, upstream, running, self.tally)
        try:
            await talk.hold(rounds, deadline)
            if not running.done():
                call.hang_up(o.HUNG_UP_BY_API)
            record = await running
        finally:
            for session in given:
                await session.aclose()
        self.tally.records.append(record)
        talk.measure()
        if record.outcome not in {o.AGENT_ENDED, o.HUNG_UP_BY_API} or not talk.ended_well:
            self.tally.lost.append(f"{record.outcome}: {record.detail}")


@dataclass
class _Talk:
    """The caller's side of one call."""

    line: Line
    upstream: Upstream
    running: asyncio.Task[CallRecord]
    tally: Tally
    began: float = field(default_factory=time.monotonic)
    said: list[tuple[float, float]] = field(default_factory=list)
    """When the caller spoke."""
    ended_well: bool = False
    """The call lasted until the caller wanted to end it."""

    async def hold(self, rounds: int, deadline: float) -> None:
        """Plant a fact, ask around (once at least, and not again after the deadline), ask for the fact, say goodbye."""
        await self._until(lambda: self._agent_was_heard(since=self.began))
        await self._quiet()
        await self._ask(*FACT)
        for number in range(rounds):
            if number and time.monotonic() > deadline:
                break
            for question, answer in QUESTIONS:
                await self._ask(question, answer)
        remembered = await self._ask(*RECALL)
        self.tally.forgotten += not remembered
        self.ended_well = not self.running.done()
        await self._say(GOODBYE[0])
        await self._until(self.running.done)

    async def _ask(self, question: str, answer: str) -> bool:
        """Ask, and wait until the answer is heard to its end; ask again where the agent asks for that."""
        self.tally.questions += 1
        beginning = " ".join(answer.split()[:2])
        heard = ""
        for _ in range(TRIES):
            known, turns = len(self._lines()), self._turns()
            said_at = await self._say(question)
            said = await self._until(lambda at=said_at, n=turns: self._turns() > n and self._agent_was_heard(since=at))
            await self._quiet()
            heard = " ".join("".join(self._lines()[known:]).split())
            if beginning in heard:
                return True
            if not said or not any(sentence in heard for sentence in AGAIN):
                break
            self.tally.asked_again += 1
        if not self.running.done():
            self.tally.unanswered.append(f"{question} -> {heard}")
        return False

    async def _say(self, text: str) -> float:
        """Say it; a caller whose call ends meanwhile says it to nobody."""
        began = time.monotonic()
        saying = asyncio.create_task(self.line.parts["line"].caller.say(speech(text)))
        await asyncio.wait([saying, self.running], return_when=asyncio.FIRST_COMPLETED)
        saying.cancel()
        self.said.append((began, time.monotonic()))
        return self.said[-1][1]

    def _agent_was_heard(self, since: float) -> bool:
        heard = self.line.parts["voice"].heard_at if "voice" in self.line.parts else []
        return bool(heard) and heard[-1] >= since

    def _turns(self) -> int:
        return sum(e.kind == "line" and e.fields["who"] == "agent" for e in self.upstream.events)

    def _lines(self) -> list[str]:
        """What the agent has said so far, piece by piece."""
        return [e.fields["text"] for e in self.upstream.events if e.kind == "speaking" and e.fields["who"] == "agent"]

    async def _quiet(self) -> None:
        """Until the agent has finished, and a moment more, in which the events are reported."""
        voice = self.line.parts["voice"]
        while time.monotonic() < voice.until + QUIET_S and not self.running.done():  # noqa: ASYNC110 - it is a clock
            await asyncio.sleep(0.05)

    async def _until(self, what: Any) -> bool:
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while not what():
            if self.running.done() or time.monotonic() > deadline:
                return bool(what())
            await asyncio.sleep(0.02)
        return True

    def measure(self) -> None:
        """What the caller could notice, from the call's own timeline and the line."""
        serving = tried = 0
        for event in self.upstream.events:
            match event.kind, event.fields:
                case "live", {"state": "ready", "connection": connection}:
                    serving, tried = connection, connection - serving
                case "live", {"planned": True, "gap_ms": gap_ms}:
                    (self.tally.rotation_gap_ms if tried == 1 else self.tally.struck_gap_ms).append(gap_ms)
                case "fault", {"what": "stall", "cure": cure}:
                    self.tally.stalls[cure] += 1
                case "fault", {"serving": True}:
                    self._measure_break(self.began + event.at_s)

    def _measure_break(self, at: float) -> None:
        since = next((end for start, end in self.said if start <= at <= end), at)
        heard = [begun for begun in self.line.parts["voice"].heard_at if begun >= since]
        if heard:
            self.tally.audible_ms.append((heard[0] - since) * 1000)


def _assignment(number: int) -> Assignment:
    request = CallRequest(
        request_id=f"r{number}", call_id=f"call_{number}", tenant="t", direction=Direction.INBOUND, profile="baker",
        room=f"room-{number}", identity=f"agent-{number}",
    )  # fmt: skip
    return Assignment(
        request=request, lease_id=f"lease-{number}", fencing_token=1, max_duration_s=600,
        max_cost_usd_micros=100_000_000, reserved_usd_micros=1, renew_every_s=5, lease_ttl_s=60,
        tariff=TARIFF,
    )  # fmt: skip


def settings_for(endpoint: LiveEndpoint, profiles_dir: str) -> Settings:
    """Settings that lead to the endpoint; no room is ever entered."""
    return load_settings(
        {
            "LIVEKIT_URL": "ws://127.0.0.1:9",
            "LIVEKIT_API_KEY": "key",
            "LIVEKIT_API_SECRET": "secret",
            "GEMINI_API_KEY": "key",
            "GOOGLE_GEMINI_BASE_URL": endpoint.url,
            "SSL_CERT_FILE": str(endpoint.ca_file),
            "RINGMASTER_PROFILES_DIR": profiles_dir,
        }
    )
