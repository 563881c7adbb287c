"""One Live session after its setup: hears the caller, takes turns, runs the script.

Rule 1: who may speak is decided by the table in ``floor``; one task at most speaks for the agent.
Rule 2: an interruption is sent by the reading task, the moment that speech is heard; the answering task is cancelled
first, so that nothing of the old answer can follow it.
Rule 3: what a fault does to the connection is in ``trouble``, what it does to the turn is here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from cluster.local.live import outgoing, wire
from cluster.local.live.ear import Ear
from cluster.local.live.floor import Event, Floor, State
from cluster.local.live.record import TurnRecord
from cluster.local.live.script import answer_to_speech, answer_to_text, if_remembered
from cluster.local.live.trouble import ENDS_CONNECTION, Faults, Fuse, Trouble
from cluster.local.live.turn import Link, Turn
from cluster.local.live.usage import audio_tokens, text_tokens
from cluster.local.live.vad import BYTES_PER_MS, Heard
from cluster.local.scenario import Answer, Fault

_NOT_ENABLED: Final = "Operation is not implemented, or supported, or enabled."
_CONTEXT_FULL_CODE: Final = 1000
_ENDS_ANSWER: Final = ENDS_CONNECTION | {"stall", "cut"}


class Session:
    """One connection's conversation. ``receive`` takes client messages in order; ``stop`` ends its tasks."""

    def __init__(self, link: Link, faults: Faults, tasks: asyncio.TaskGroup) -> None:
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
        self._trouble = Trouble(faults, link, tasks)
        self._in_speech, self._in_answer = Fuse(), Fuse()
        self._talked_ms = 0.0

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
                self._told_in_text(text)
                await self._prompt(text)
            case wire.ClientContent():
                await self._content(message)
            case wire.ToolResponse():
                await self._tool_result(message)
            case wire.ContextUpdate(instructions=instructions):
                self._told_in_text(instructions)
            case wire.Setup():
                raise wire.invalid("setup was sent before.")

    def stop(self) -> None:
        """Ends every task of this session."""
        if self._answering is not None:
            self._answering.cancel()
        self._trouble.stop()
        self._turn.cut_off()
        self._ear.forget()

    async def _transcribe(self, pcm16: bytes) -> str:
        return await self._link.parts.transcribe(self._talk.agent, self._talk.utterances, pcm16)

    # Hearing

    async def _audio(self, pcm16: bytes) -> None:
        self._refuse_during_tool()
        duration_ms = len(pcm16) / BYTES_PER_MS
        self._link.record.audio_in_ms += duration_ms
        self._heard_ms += duration_ms
        events = self._ear.hear(pcm16, time.monotonic())
        await self._react(events)
        await self._talks_on(duration_ms, started=Heard.START in events)

    async def _talks_on(self, duration_ms: float, *, started: bool) -> None:
        """Faults that wait for the caller to have talked so long."""
        if started:
            self._in_speech = Fuse(self._trouble.fitting("speech", len(self._link.record.turns) + 1))
            self._talked_ms = 0.0
        elif self._ear.listening:
            self._talked_ms += duration_ms
        else:
            return
        for fault in self._in_speech.burnt(self._talked_ms):
            await self._trouble.strikes(fault)

    async def _mark(self, message: wire.Message) -> None:
        automatic = self._setup.vad is not None
        if automatic != isinstance(message, wire.AudioStreamEnd):
            raise wire.invalid("activityStart, activityEnd: automatic detection must be off; audioStreamEnd: on.")
        events = self._ear.mark(Heard.START if isinstance(message, wire.ActivityStart) else Heard.END)
        await self._react(events)
        await self._talks_on(0.0, started=Heard.START in events)

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
            await self._offer_handle()

    # Written input and results of functions

    async def _content(self, message: wire.ClientContent) -> None:
        if self._setup.rules.client_content == "history_only" and self._talk.opened:
            raise wire.invalid("clientContent is for the initial history only on this model.")
        self._told_in_text(" ".join(text for _, text in message.turns))
        if message.turn_complete and not self._history_first:
            await self._prompt(message.turns[-1][1] if message.turns else "")
        self._history_first = self._history_first and not message.turn_complete

    async def _prompt(self, text: str) -> None:
        answer = answer_to_text(self._talk.agent, text, opening=not self._talk.opened)
        await self._take_floor("text", self._if_remembered(answer, text))

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
        self._told_in_text(json.dumps(message.response))
        answer = self._wanted.pop(call_id, None)
        if answer is None:
            return
        if self._floor.state is State.AWAITING_TOOL:
            self._floor.on(Event.PROMPTED)
            self._answering = self._tasks.create_task(self._go_on(answer.after_tool))
        elif answer.after_tool and message.scheduling != "SILENT":
            await self._say_result(Answer(say=answer.after_tool), at_once=message.scheduling == "INTERRUPT")
        else:
            await self._offer_handle()

    async def _say_result(self, answer: Answer, *, at_once: bool) -> None:
        if self._floor.state is State.IDLE or (at_once and self._floor.state is State.SPEAKING):
            await self._take_floor("tool", answer)
        else:
            self._results.append(answer)

    def _told_in_text(self, text: str) -> None:
        self._talk.context.add(text=text_tokens(len(text)))
        self._talk.remember(text)

    # Answering

    def _begin(self, trigger: str, answer: Answer | None = None) -> None:
        record = TurnRecord(number=len(self._link.record.turns) + 1, trigger=trigger, end_detected_at=time.monotonic())
        if trigger == "speech":
            record.last_speech_at = self._ear.last_speech_at
        self._turn = Turn(self._link, record, consumed=self._consumed)
        self._in_answer = Fuse(self._trouble.fitting("answer", record.number))
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
        fault = await self._trouble.in_turn(turn.record.number)
        match fault.do if fault else "":
            case "close" | "abort" | "silent":
                return
            case "rejected" | "empty" as trouble:
                self._listened()
                await self._end_turn(reason="RESPONSE_REJECTED" if trouble == "rejected" else "")
            case trouble:
                await self._perform(answer, quiet=trouble == "near_zero")

    async def _understand(self) -> Answer | None:
        text = await self._ear.transcript()
        if text is None:
            return None
        self._turn.record.transcribed_at = time.monotonic()
        self._turn.record.heard = text
        if self._setup.transcribes_input and text:
            news, self._told = text.removeprefix(self._told), text
            await self._link.send(outgoing.input_transcript(news))
        return self._if_remembered(answer_to_speech(self._talk.agent, text), text)

    def _if_remembered(self, answer: Answer | None, heard: str) -> Answer | None:
        return if_remembered(self._talk.agent, answer, f"{self._talk.told} {heard}")

    async def _think(self) -> None:
        ready_at = self._turn.record.end_detected_at + self._talk.agent.answer_after_ms / 1000
        await asyncio.sleep(max(0.0, ready_at - time.monotonic()))

    async def _perform(self, answer: Answer, *, quiet: bool) -> None:
        turn = self._turn
        self._floor.on(Event.ANSWER_STARTED)
        self._listened()
        if answer.say and not await self._speak(answer.say, quiet=quiet):
            return
        if answer.call is not None and answer.call.tool in self._setup.tools:
            blocking = self._setup.tools[answer.call.tool]
            if blocking:
                self._floor.on(Event.TOOL_CALLED)
            call_id = await turn.call(answer.call, blocking=blocking)
            self._wanted[call_id] = answer
            for fault in self._trouble.fitting("tool", turn.record.number):
                self._trouble.later(fault.after_ms, partial(self._in_tool, call_id), fault)
            if blocking:
                return
        await self._finish()

    async def _speak(self, text: str, *, quiet: bool = False) -> bool:
        """False if a fault ended the answer."""
        fault = await self._turn.speak(text, self._passed, quiet=quiet)
        if fault is not None and fault.do == "cut":
            await self._finish()
        return fault is None

    async def _passed(self, sent_ms: float) -> Fault | None:
        """So much of the answer was sent; the fault that ends it here, if one does."""
        for fault in self._in_answer.burnt(sent_ms):
            if await self._trouble.strikes(fault) and fault.do in _ENDS_ANSWER:
                return fault
        return None

    async def _in_tool(self, call_id: str, fault: Fault) -> None:
        """The call has waited so long for its result, if it still does."""
        if call_id not in self._wanted or not await self._trouble.strikes(fault) or fault.do != "cancel":
            return
        del self._wanted[call_id]
        if self._floor.state is State.AWAITING_TOOL:
            await self._end_turn(cancelled=[call_id])
        else:
            await self._link.send(outgoing.tool_call_cancellation([call_id]))
            await self._offer_handle()

    async def _go_on(self, text: str) -> None:
        self._floor.on(Event.ANSWER_STARTED)
        if not text or await self._speak(text):
            await self._finish()

    async def _finish(self) -> None:
        await self._turn.played()
        await self._end_turn()

    async def _end_turn(self, *, cancelled: Sequence[str] = (), reason: str = "") -> None:
        self._floor.on(Event.TURN_ENDED)
        self._answering = None
        await self._turn.end(cancelled=cancelled, reason=reason)
        await self._offer_handle()
        if self._talk.context.tokens > self._setup.rules.context_tokens:
            await self._link.socket.close(_CONTEXT_FULL_CODE, "")
        await self._next()

    async def _offer_handle(self) -> None:
        """Unless the agent has the floor, or a function call or its result is not done with."""
        busy = self._floor.state in {State.SPEAKING, State.AWAITING_TOOL} or self._wanted or self._results
        if self._setup.resumable and not busy:
            await self._turn.offer_handle()

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
            self._talk.remember(self._turn.record.heard)
        self._told = ""
        speech_ms = min(self._ear.speech_ms, self._heard_ms)
        if self._setup.rules.proactive == "fixed":
            self._talk.context.listen(audio_tokens(self._heard_ms - speech_ms))
        self._talk.context.add(audio=audio_tokens(speech_ms))
        self._heard_ms = 0.0
        self._talk.opened = True
        self._ear.forget()
