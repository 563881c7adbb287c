"""The script of a local conversation: what each agent says to what, what its callers say and do, and what goes wrong.

One YAML file holds several agents; the endpoint picks the first whose ``match_instructions`` word stands in the system
instruction, so that inbound and outbound calls can share a file. The same file scripts the phones (``caller``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

SHIPPED = Path(__file__).parent / "scenarios"


class ScenarioError(ValueError):
    """A scenario file is missing, is not YAML, or does not fit the schema; says where."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ToolCall(_Part):
    """A function that the agent calls: the declared name and its arguments."""

    tool: str
    args: dict[str, Any] = {}


class Answer(_Part):
    """What the agent does in one turn: speaks, calls a tool, or both (speech first)."""

    say: str = ""
    call: ToolCall | None = None
    after_tool: str = ""
    """Said once the tool's result has come."""
    needs: str = ""
    """Given only if these words stand, in a row, in what this conversation has heard, said or been told in text (the
    system instruction, client content and realtime text, results of functions; by this connection or by those that its
    handle restores); else the agent says its ``otherwise``. Proves that a planted fact was remembered."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.say and self.call is None:
            raise ValueError("an answer needs `say`, `call` or both")
        if self.after_tool and self.call is None:
            raise ValueError("`after_tool` needs a `call`")
        return self


class Exchange(Answer):
    """An answer to any of the caller's phrases in ``when``."""

    when: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Prompt(Answer):
    """An answer to a written prompt (client content or realtime text) with these words in it, as an idle reminder."""

    contains: str


class Wait(_Part):
    """The caller waits until the agent has finished its turn (``turn_end``) or has ended the call (``call_end``)."""

    wait: Literal["turn_end", "call_end"]


class Say(_Part):
    """The caller says this."""

    say: str


class BargeIn(_Part):
    """The caller says this over the agent, ``after_ms`` after the agent's voice was first heard in its turn."""

    barge_in: str
    after_ms: int = Field(default=800, ge=0)


class Press(_Part):
    """The caller presses these keys: 0-9, *, #."""

    press: str = Field(pattern=r"^[0-9*#]+$")


class Pause(_Part):
    """The caller is silent for so long."""

    pause_ms: int = Field(ge=0)


class HangUp(_Part):
    """The caller hangs up."""

    hang_up: Literal[True]


CallerStep = Wait | Say | BargeIn | Press | Pause | HangUp


class Agent(_Part):
    """One scripted agent and the caller who goes with it."""

    name: str
    match_instructions: str = ""
    """A word of the system instruction that picks this agent, without regard to case; empty fits any."""
    greeting: str
    """Said to a written prompt that comes before the caller has spoken."""
    exchanges: tuple[Exchange, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    otherwise: str = "I did not understand that."
    """Said when the caller's words fit no exchange."""
    answer_after_ms: int = Field(default=60, ge=0)
    """What the model takes to think, from the end of speech being detected to the first sound of its answer."""
    caller: tuple[CallerStep, ...] = ()

    def agent_lines(self) -> tuple[str, ...]:
        """Everything that this agent may say: what a phone must listen for."""
        answers: tuple[Answer, ...] = (*self.exchanges, *self.prompts)
        spoken = [line for answer in answers for line in (answer.say, answer.after_tool)]
        return tuple(dict.fromkeys(line for line in (self.greeting, *spoken, self.otherwise) if line))

    def caller_lines(self) -> tuple[str, ...]:
        """Everything that a caller may say: what the endpoint listens for."""
        phrases = [phrase for exchange in self.exchanges for phrase in exchange.when]
        return tuple(dict.fromkeys((*self.scripted_lines(), *phrases)))

    def scripted_lines(self) -> tuple[str, ...]:
        """What the scripted caller says, in order."""
        lines = (_line_of(step) for step in self.caller)
        return tuple(line for line in lines if line)


def _line_of(step: CallerStep) -> str:
    match step:
        case Say(say=line) | BargeIn(barge_in=line):
            return line
        case _:
            return ""


POSSIBLE: Final[dict[str, frozenset[str]]] = {
    "upgrade": frozenset({"http_status", "delay", "abort"}),
    "setup": frozenset({"hang", "close", "abort", "delay"}),
    "resume": frozenset({"refuse", "hang", "close", "abort", "delay"}),
    "turn": frozenset(
        {"close", "abort", "go_away", "silent", "empty", "near_zero", "unknown_message", "rejected", "delay"}
    ),
    "answer": frozenset({"close", "abort", "go_away", "stall", "cut"}),
    "speech": frozenset({"close", "abort", "go_away"}),
    "tool": frozenset({"close", "abort", "go_away", "cancel"}),
    "time": frozenset({"close", "abort", "go_away", "silent"}),
}
"""What can go wrong at each step of a session."""
_WORDS: Final[dict[str, tuple[int, str]]] = {
    "http_status": (503, "The service is currently unavailable."),
    "refuse": (1008, "Requested entity was not found."),
    "go_away": (1011, "Deadline expired before operation could complete."),
}
_OTHER_WORDS: Final = (1011, "Internal error encountered.")


class Fault(_Part):
    """Something that goes wrong at one step of a Live session: ``do`` strikes ``at`` this step.

    Which ``do`` a step allows is in ``POSSIBLE``. An occasion is a connection (or turn, utterance, call) that comes to
    the step while no fault earlier in the list takes it.
    """

    at: Literal["upgrade", "setup", "resume", "turn", "answer", "speech", "tool", "time"]
    """The step:

    - ``upgrade``: before the websocket is there
    - ``setup``: the setup was sent and is not complete; every setup, those with a handle included
    - ``resume``: the same, only for setups with a handle, and before ``setup``
    - ``turn``: the agent's turn has begun (so that the session is not resumable), nothing of the answer was sent
    - ``answer``: in the middle of the answer, once ``after_ms`` of its audio was sent; not if it is shorter
    - ``speech``: while the caller talks, ``after_ms`` of audio after speech was detected; not if it ends before
    - ``tool``: a function call has waited ``after_ms`` for its result; not if the result came sooner
    - ``time``: ``after_ms`` after setup by the lifecycle clock; each connection has its own
    """
    do: Literal[
        "http_status",
        "delay",
        "hang",
        "close",
        "abort",
        "refuse",
        "silent",
        "empty",
        "near_zero",
        "unknown_message",
        "rejected",
        "stall",
        "cut",
        "cancel",
        "go_away",
    ]
    """What happens:

    - ``http_status``: the upgrade is answered with the HTTP status ``code``
    - ``delay``: nothing but the wait of ``after_ms``; then the step goes on (a late upgrade, setup or answer)
    - ``hang``: no answer to the setup, ever; the socket stays open
    - ``close``: closed with ``code`` and ``reason``
    - ``abort``: the TCP connection is cut; the client sees 1006
    - ``refuse``: a ``close`` in the words for a handle that is not known
    - ``silent``: ``at: turn``: no answer, no turnComplete, the next input is answered; ``at: time``: from then on
      nothing is sent, whatever comes, and the socket stays open
    - ``empty``: turnComplete without any audio
    - ``near_zero``: the whole audio of the answer, at no level
    - ``unknown_message``: a message of a kind that the client does not know, then the answer
    - ``rejected``: turnComplete with the reason RESPONSE_REJECTED, without audio
    - ``stall``: no more audio, no turnComplete, the socket stays open; the next input interrupts it and is answered
    - ``cut``: the answer ends in mid sentence as if it were complete, its function call is not made
    - ``cancel``: toolCallCancellation; the turn of a blocking call ends
    - ``go_away``: goAway with ``time_left``, and after that what ``then`` says
    """
    turn: int = Field(default=0, ge=0)
    """For ``turn``, ``answer``, ``speech`` and ``tool``: in which turn of the connection, counted from 1; 0 is any.

    Speech belongs to the turn that will answer it. Default: 1 for ``turn`` and ``answer``, any for the others.
    """
    after_ms: int = Field(default=0, ge=0)
    """How far into the step.

    At ``answer`` and ``speech`` it is audio (to the next piece), whatever the pace; at ``time`` the clock's speed
    divides it; else it is real time.
    """
    code: int
    """HTTP status for http_status (default 503), websocket close code for the others (1011; refuse: 1008)."""
    reason: str
    """Sent with ``code``; default: the service's own words for it."""
    time_left: str = Field(default="50s", pattern=r"^\d+(\.\d+)?s$")
    """What goAway announces; the clock's speed divides the wait, not the text."""
    then: Literal["close", "abort", "silent", "nothing"] = "close"
    """After go_away: once ``time_left`` has passed a ``close`` (1011 "Deadline expired …") or an ``abort``, unless the
    client has left; ``silent``: nothing is sent from the goAway on and the socket stays open; ``nothing``: goes on."""
    sessions: tuple[int, ...] = ()
    """Which connections, counted from 1 in the order they came to the endpoint; empty is all."""
    times: int = Field(default=0, ge=0)
    """How often it strikes, over the whole endpoint; 0 is without limit."""
    every: int = Field(default=1, ge=1)
    """Strikes only the ``every``-th occasion, over the whole endpoint: 3 is the third, the sixth and so on."""

    @property
    def time_left_s(self) -> float:
        """``time_left`` as a number."""
        return float(self.time_left.removesuffix("s"))

    def hits(self, at: str, session: int, turn: int = 0) -> bool:
        """Whether it may strike this connection at this step, and in this turn."""
        return self.at == at and (not self.sessions or session in self.sessions) and self.turn in {0, turn}

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        code, reason = _WORDS.get(str(given.get("do")), _OTHER_WORDS)
        turn = 1 if given.get("at") in {"turn", "answer"} else 0
        return {"code": code, "reason": reason, "turn": turn} | given

    @model_validator(mode="after")
    def _fits_its_step(self) -> Self:
        possible = POSSIBLE[self.at]
        if self.do not in possible:
            raise ValueError(
                f"`do: {self.do}` can't happen at {self.at}; possible there: {', '.join(sorted(possible))}"
            )
        if self.turn and self.at in {"upgrade", "setup", "resume", "time"}:
            raise ValueError(f"there is no turn at {self.at}")
        return self


class Scenario(_Part):
    """All agents of one local endpoint."""

    agents: tuple[Agent, ...] = Field(min_length=1)
    transcribe: Literal["grammar", "match", "off"] = "grammar"
    """``grammar`` decodes what is heard; ``match`` finds the caller's line by its very samples, for callers without a
    codec; ``off`` takes the scripted caller's lines in order, for load tests."""
    resume_while_open: Literal["refused", "allowed"] = "refused"
    """A setup with a handle while another connection of that conversation is open: 1011, or taken. Servers differ."""
    faults: tuple[Fault, ...] = ()
    """What goes wrong. Of several that fit an upgrade, setup, resume or turn the first strikes; else all of them do."""

    def agent_for(self, instructions: str) -> Agent:
        """The first agent whose word stands in the system instruction, else the first agent."""
        text = instructions.lower()
        fitting = (agent for agent in self.agents if agent.match_instructions.lower() in text)
        return next(fitting, self.agents[0])

    def agent(self, name: str) -> Agent:
        """The agent of this name. Raises KeyError."""
        return {agent.name: agent for agent in self.agents}[name]


def load_scenario(path: Path) -> Scenario:
    """Reads a scenario file. Raises ScenarioError naming the file and the place in it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Scenario.model_validate(content)
    except OSError as error:
        raise ScenarioError(f"{path}: can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ScenarioError(f"{path}: {place}: {first['msg']}") from error
