"""The script of a local conversation: what each agent says to what, what its callers say and do, and what goes wrong.

One YAML file holds several agents; the endpoint picks the first whose ``match_instructions`` word stands in the system
instruction, so that inbound and outbound calls can share a file. The same file scripts the phones (``caller``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
    otherwise: str = "Sorry, I did not understand that."
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


class Fault(_Part):
    """Something that goes wrong at one step of a Live session.

    ``at``: the upgrade (http_status), the setup (hang, close, abort), the answer to the ``turn``-th turn (close, abort,
    silent, near_zero, unknown_message, rejected), or a ``time`` after setup (close, abort, go_away), which the clock's
    speed divides.
    """

    at: Literal["upgrade", "setup", "turn", "time"]
    do: Literal[
        "http_status", "hang", "close", "abort", "silent", "near_zero", "unknown_message", "rejected", "go_away"
    ]
    turn: int = Field(default=1, ge=1)
    after_ms: int = Field(default=0, ge=0)
    code: int = 1011
    """HTTP status for http_status, websocket close code for close."""
    reason: str = "Internal error encountered."
    time_left: str = "50s"
    sessions: tuple[int, ...] = ()
    """Which connections, counted from 1 in the order they came to the endpoint; empty is all."""

    def hits(self, at: str, session: int) -> bool:
        """Whether it strikes this connection at this step."""
        return self.at == at and (not self.sessions or session in self.sessions)

    @model_validator(mode="after")
    def _fits_its_step(self) -> Self:
        possible = {
            "upgrade": {"http_status"},
            "setup": {"hang", "close", "abort"},
            "turn": {"close", "abort", "silent", "near_zero", "unknown_message", "rejected"},
            "time": {"close", "abort", "go_away"},
        }[self.at]
        if self.do not in possible:
            raise ValueError(
                f"`do: {self.do}` can't happen at {self.at}; possible there: {', '.join(sorted(possible))}"
            )
        return self


class Scenario(_Part):
    """All agents of one local endpoint."""

    agents: tuple[Agent, ...] = Field(min_length=1)
    transcribe: Literal["grammar", "off"] = "grammar"
    """``grammar`` decodes what is heard; ``off`` takes the scripted caller's lines in order, for load tests."""
    faults: tuple[Fault, ...] = ()

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
