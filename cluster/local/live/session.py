"""One Live session after its setup: hears the caller, takes turns, runs the script.

Rule 1: who may speak is decided by the table in ``floor``; one task at most speaks for the agent.
Rule 2: an interruption is sent by the reading task, the moment that speech is heard; the answering task is cancelled
first, so that nothing of the old answer can follow it.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

from cluster.local.live import outgoing, wire
from cluster.local.live.ear import Ear
from cluster.local.live.floor import Event, Floor, State
from cluster.local.live.record import TurnRecord
from cluster.local.live.script import answer_to_speech, answer_to_text
from cluster.local.live.turn import Link, Turn
from cluster.local.live.usage import audio_tokens, text_tokens
from cluster.local.live.vad import BYTES_PER_MS, Heard
from cluster.local.scenario import Answer, Fault

_NOT_ENABLED: Final = "Operation is not implemented, or supported, or enabled."
_CONTEXT_FULL_CODE: Final = 1000


class Session:
    """One connection's conversation. ``receive`` takes client messages in order; ``stop`` ends its tasks."""

    def __init__(self, link: Link, tasks: asyncio.TaskGroup) -> None:
        self._link = link
        self._setup, self._talk = link.setup, link.talk
        self._tasks = tasks
        self._floor = Floor()
        self._ear = Ear(link.setup.vad, self._transcribe, tasks)
        self._turn = Turn(link, TurnRecord(number=0, trigger=""))
        self._answering: asyncio.Task[None] | None = None
        self._deferred: list[Heard] = []
        self._wanted: dict[str, Answer] = {}
        """Function calls without a result yet -> the answer that the result completes."""
        self._results: list[Answer] = []
        self._heard_ms = 0.0
        self._told = ""
        self._history_first = link.setup.history_first
        self._consumed = 0
        self._timed = [
            tasks.create_task(self._strike_later(fault))
            for fault in link.faults
            if fault.hits("time", link.record.number)
        ]

    async def receive(self, message: wire.Message) -> None:
        """Takes one client message. Raises Refusal if the connection must be closed."""
        self._consumed += 1
        match message:
            case wire.Audio(pcm16=pcm16):
                await self._audio(pcm16)
            case wire.ActivityStart() | wire.ActivityEnd() | wire.AudioStreamEnd():
                await self._mark(message)
            case wire.RealtimeText(text=text):
                self._refuse_during_tool()
                self._talk.context.add(text=text_tokens(len(text)))
                await self._prompt(text)
            case wire.ClientContent():
                await self._content(message)
            case wire.ToolResponse():
                await self._tool_result(message)
            case wire.ContextUpdate(instructions=instructions):
                self._talk.context.add(text=text_tokens(len(instructions)))
            case wire.Setup():
                raise wire.invalid("setup was sent before.")

    def stop(self) -> None:
        """Ends every task of this session."""
        for task in (self._answering, *self._timed):
            if task is not None:
                task.cancel()
        self._ear.forget()

    async def _transcribe(self, pcm16: bytes) -> str:
        return await self._link.parts.transcribe(self._talk.agent, self._talk.utterances, pcm16)

    # Hearing

    async def _audio(self, pcm16: bytes) -> None:
        self._refuse_during_tool()
        duration_ms = len(pcm16) / BYTES_PER_MS
        self._link.record.audio_in_ms += duration_ms
        self._heard_ms += duration_ms
        await self._react(self._ear.hear(pcm16, time.monotonic()))

    async def _mark(self, message: wire.Message) -> None:
        automatic = self._setup.vad is not None
        if automatic != isinstance(message, wire.AudioStreamEnd):
            raise wire.invalid("activityStart, activityEnd: automatic detection must be off; audioStreamEnd: on.")
        await self._react(self._ear.mark(Heard.START if isinstance(message, wire.ActivityStart) else Heard.END))

    def _refuse_during_tool(self) -> None:
        if self._floor.state is State.AWAITING_TOOL and self._setup.rules.input_during_tool == "refused":
            raise wire.Refusal(wire.POLICY, _NOT_ENABLED)

    async def _react(self, events: list[Heard]) -> None:
        for event in events:
            if self._deferred or (not self._setup.interruptible and self._floor.state is State.SPEAKING):
                self._deferred.append(event)
            elif event is Heard.START:
                await self._give_way(self._floor.on(Event.SPEECH_STARTED))
            else:
                self._floor.on(Event.SPEECH_ENDED)
                self._begin("speech")

    async def _give_way(self, left: State) -> None:
        """The agent has lost the floor, which it held in the state ``left``."""
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        if left in {State.SPEAKING, State.AWAITING_TOOL}:
            cancelled = [call_id for call_id in self._turn.calls if self._wanted.pop(call_id, None)]
            await self._turn.interrupted(cancelled)

    # Written input and results of functions

    async def _content(self, message: wire.ClientContent) -> None:
        if self._setup.rules.client_content == "history_only" and self._talk.opened:
            raise wire.invalid("clientContent is for the initial history only on this model.")
        self._talk.context.add(text=text_tokens(sum(len(text) for _, text in message.turns)))
        if message.turn_complete and not self._history_first:
            await self._prompt(message.turns[-1][1] if message.turns else "")
        self._history_first = self._history_first and not message.turn_complete

    async def _prompt(self, text: str) -> None:
        answer = answer_to_text(self._talk.agent, text, opening=not self._talk.opened)
        await self._take_floor("text", answer)

    async def _take_floor(self, trigger: str, answer: Answer | None) -> None:
        left = self._floor.on(Event.PROMPTED)
        if left is not State.HEARING:
            await self._give_way(left)
            self._begin(trigger, answer)

    async def _tool_result(self, message: wire.ToolResponse) -> None:
        call_id = message.id or next((key for key in self._wanted if key.startswith(f"{message.name}-")), "")
        if call_id.rpartition("-")[0] not in self._setup.tools:
            raise wire.invalid("toolResponse: no function of that id was called.")
        self._link.record.tool_results.append(message.name)
        self._talk.context.add(text=text_tokens(len(json.dumps(message.response))))
        answer = self._wanted.pop(call_id, None)
        if answer is None:
            return
        if self._floor.state is State.AWAITING_TOOL:
            self._floor.on(Event.PROMPTED)
            self._answering = self._tasks.create_task(self._go_on(answer.after_tool))
        elif answer.after_tool and message.scheduling != "SILENT":
            await self._say_result(Answer(say=answer.after_tool), at_once=message.scheduling == "INTERRUPT")

    async def _say_result(self, answer: Answer, *, at_once: bool) -> None:
        if self._floor.state is State.IDLE or (at_once and self._floor.state is State.SPEAKING):
            await self._take_floor("tool", answer)
        else:
            self._results.append(answer)

    # Answering

    def _begin(self, trigger: str, answer: Answer | None = None) -> None:
        record = TurnRecord(number=len(self._link.record.turns) + 1, trigger=trigger, end_detected_at=time.monotonic())
        if trigger == "speech":
            record.last_speech_at = self._ear.last_speech_at
        self._turn = Turn(self._link, record, consumed=self._consumed)
        self._answering = self._tasks.create_task(self._take_turn(answer))

    async def _take_turn(self, answer: Answer | None) -> None:
        turn = self._turn
        if turn.record.trigger == "speech":
            answer = await self._understand()
        if answer is None:
            self._ear.forget()
            self._floor.on(Event.TURN_ENDED)
            await self._next()
            return
        await self._think()
        await turn.begin()
        fault = turn.fault()
        if fault is None or not await self._strike(fault):
            await self._perform(answer, quiet=fault is not None and fault.do == "near_zero")

    async def _understand(self) -> Answer | None:
        text = await self._ear.transcript()
        if text is None:
            return None
        self._turn.record.transcribed_at = time.monotonic()
        self._turn.record.heard = text
        if self._setup.transcribes_input and text:
            news, self._told = text.removeprefix(self._told), text
            await self._link.send(outgoing.input_transcript(news))
        return answer_to_speech(self._talk.agent, text)

    async def _think(self) -> None:
        ready_at = self._turn.record.end_detected_at + self._talk.agent.answer_after_ms / 1000
        await asyncio.sleep(max(0.0, ready_at - time.monotonic()))

    async def _perform(self, answer: Answer, *, quiet: bool) -> None:
        turn = self._turn
        self._floor.on(Event.ANSWER_STARTED)
        self._listened()
        if answer.say:
            await turn.speak(answer.say, quiet=quiet)
        if answer.call is not None and answer.call.tool in self._setup.tools:
            blocking = self._setup.tools[answer.call.tool]
            if blocking:
                self._floor.on(Event.TOOL_CALLED)
            self._wanted[await turn.call(answer.call, blocking=blocking)] = answer
            if blocking:
                return
        await self._finish()

    async def _go_on(self, text: str) -> None:
        self._floor.on(Event.ANSWER_STARTED)
        if text:
            await self._turn.speak(text)
        await self._finish()

    async def _finish(self) -> None:
        await self._turn.played()
        self._floor.on(Event.TURN_ENDED)
        self._answering = None
        await self._turn.end()
        if self._talk.context.tokens > self._setup.rules.context_tokens:
            await self._link.socket.close(_CONTEXT_FULL_CODE, "")
        await self._next()

    async def _next(self) -> None:
        """What came while the agent had the floor has its turn now."""
        deferred, self._deferred = self._deferred, []
        await self._react(deferred)
        if self._results and self._floor.state is State.IDLE:
            await self._take_floor("tool", self._results.pop(0))

    def _listened(self) -> None:
        """What was heard so far becomes part of the context."""
        if self._turn.record.trigger == "speech":
            self._talk.utterances += 1
        self._told = ""
        speech_ms = min(self._ear.speech_ms, self._heard_ms)
        if self._setup.rules.proactive == "fixed":
            self._talk.context.listen(audio_tokens(self._heard_ms - speech_ms))
        self._talk.context.add(audio=audio_tokens(speech_ms))
        self._heard_ms = 0.0
        self._talk.opened = True
        self._ear.forget()

    # Faults

    async def _strike(self, fault: Fault) -> bool:
        """Lets it go wrong; True if the turn is over with it."""
        socket = self._link.socket
        match fault.do:
            case "close":
                await socket.close(fault.code, fault.reason)
            case "abort":
                socket.abort()
            case "rejected":
                self._listened()
                self._floor.on(Event.TURN_ENDED)
                await self._turn.end(reason="RESPONSE_REJECTED")
            case "unknown_message":
                await socket.send(outgoing.encode(messageOfTheFuture={}))
            case "go_away":
                await socket.send(outgoing.go_away(fault.time_left))
        return fault.do in {"close", "abort", "rejected", "silent"}

    async def _strike_later(self, fault: Fault) -> None:
        await asyncio.sleep(fault.after_ms / 1000 / self._link.parts.clock_speed)
        await self._strike(fault)
