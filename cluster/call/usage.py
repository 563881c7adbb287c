"""Tokens as the Live API reports them, and what of it is billed. Pure.

Every record is kept as it came; what is counted twice and what is missing is decided by `billed` alone. The facts are
in Google's reference and in reports from the field: names differ by backend, thoughts are outside the total, some
prompt tokens have no modality, and one generation may be reported more than once, or never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import ceil

from cluster.budget.pricing import AUDIO_TOKENS_PER_S
from cluster.messages import Usage

TurnKey = tuple[int, int]
"""Number of the connection within the call, and of the turn."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """One usage record of one generation, with the two backends' names already made one."""

    prompt: int
    prompt_by_modality: Mapping[str, int]
    response: int
    response_by_modality: Mapping[str, int]
    thoughts: int = 0
    tool_use: int = 0
    """Results of tools, beside the prompt."""
    tool_use_by_modality: Mapping[str, int] = field(default_factory=dict)
    cached: int = 0
    """Of the prompt; Live has no price of its own for it."""
    total: int = 0
    """As reported, for the record: it excludes thoughts, so nothing is ever derived from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """A report and where it came. All numbers count from 1 within the call, but for the stage."""

    connection: int
    turn: int
    stage: int
    """Of the turn: 0, and one more after each tool."""
    sequence: int
    report: UsageReport


@dataclass(slots=True)
class TurnFacts:
    """What is known of a turn without any record."""

    caller_s: float = 0.0
    """Audio that was sent since the turn before."""
    agent_s: float = 0.0
    """Audio that came."""
    over: bool = False
    """Complete, interrupted or cut off: no more of it will come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """One generation that is billed, with its tokens."""

    connection: int
    turn: int
    usage: Usage


def billed(
    records: Iterable[UsageRecord], turns: Mapping[TurnKey, TurnFacts], instruction_tokens: int = 0
) -> list[Billed]:
    """The generations that are billed, each once, in the order of their turns. `records` are in the order of arrival.

    ====================================================================  ==============================================
    what came                                                             what it counts as
    ====================================================================  ==============================================
    1  a record of another connection, turn or stage                      one more: the whole context is billed again
    2  a later record of the same stage, prompt and response no smaller   the same generation: it replaces the earlier
    3  a later record of the same stage, prompt or response smaller       a new generation: one more
    4  a turn that is over, without any record                            one more, estimated from the last prompt known
                                                                          before it and the seconds of audio
    5  a record for such a turn, after all                                that record, and no estimate
    6  a turn that goes on, without a record so far                       nothing yet
    ====================================================================  ==============================================
    """
    reported: dict[TurnKey, list[UsageRecord]] = {}
    for record in records:
        before = reported.setdefault((record.connection, record.turn), [])
        if before and _is_same_generation(before[-1], record):
            before[-1] = record
        else:
            before.append(record)
    last = Usage(text_in=instruction_tokens)
    found: list[Billed] = []
    for key in sorted({*reported, *(key for key, turn in turns.items() if turn.over)}):
        usages = [count(record.report) for record in reported.get(key, ())] or [_estimate(last, turns[key])]
        found += [Billed(connection=key[0], turn=key[1], usage=usage) for usage in usages]
        last = usages[-1]
    return found


def count(report: UsageReport) -> Usage:
    """One record's tokens. Those without a modality are text; where a record names none at all, audio: the dearer."""
    audio_in, bare_in = _audio(report.prompt, report.prompt_by_modality)
    audio_out, bare_out = _audio(report.response, report.response_by_modality)
    audio_tool = report.tool_use_by_modality.get("AUDIO", 0)
    return Usage(
        text_in=max(0, report.prompt - audio_in) + max(0, report.tool_use - audio_tool),
        audio_in=audio_in + audio_tool,
        text_out=max(0, report.response - audio_out) + report.thoughts,
        audio_out=audio_out,
        thoughts=report.thoughts,
        tool_use=report.tool_use,
        cached=report.cached,
        unattributed=bare_in + bare_out,
    )


def add_up(usages: Iterable[Usage]) -> Usage:
    """The sum."""
    every = tuple(usages)
    return Usage(**{part.name: sum(getattr(usage, part.name) for usage in every) for part in fields(Usage)})


class UsageBook:
    """All that is known of one call's tokens."""

    def __init__(self, model: str, instruction_tokens: int = 0) -> None:
        """`model` is that of the first connection; `instruction_tokens` the prompt before anybody has spoken."""
        self._main = model
        self._instruction_tokens = instruction_tokens
        self._models: dict[int, str] = {}
        self._records: list[UsageRecord] = []
        self._turns: dict[TurnKey, TurnFacts] = {}
        self._caller_chars: Counter[int] = Counter()
        self._agent_chars: Counter[int] = Counter()

    def opened(self, connection: int, model: str) -> None:
        """A connection was made, to that model."""
        self._models[connection] = model

    def add(self, report: UsageReport, *, connection: int, turn: int, stage: int = 0) -> None:
        """Tokens were reported."""
        number = len(self._records) + 1
        self._records.append(UsageRecord(connection=connection, turn=turn, stage=stage, sequence=number, report=report))

    def spoke(self, connection: int, turn: int, *, caller_s: float = 0.0, agent_s: float = 0.0) -> None:
        """The model is at it, in that turn: so many more seconds of audio were sent to it, and came from it."""
        facts = self._turns.setdefault((connection, turn), TurnFacts())
        facts.caller_s += caller_s
        facts.agent_s += agent_s

    def transcribed(self, connection: int, *, caller: str = "", agent: str = "") -> None:
        """Some words came as text; only their length is kept."""
        self._caller_chars[connection] += len(caller)
        self._agent_chars[connection] += len(agent)

    def turn_done(self, connection: int, turn: int) -> None:
        """The turn is complete, or was interrupted. Its record may come with that, or later."""
        self._turns.setdefault((connection, turn), TurnFacts()).over = True

    def lost(self, connection: int) -> None:
        """The connection is gone, and so is whatever the model was at."""
        for (of_connection, _), facts in self._turns.items():
            if of_connection == connection:
                facts.over = True

    def total(self, model: str | None = None, *, cut_off: bool = False) -> Usage:
        """What that model is paid for; without one, the whole call. `cut_off`: should nothing more be reported."""
        turns = {key: replace(turn, over=True) for key, turn in self._turns.items()} if cut_off else self._turns
        generations = billed(self._records, turns, self._instruction_tokens)
        tokens = add_up(one.usage for one in generations if self._is_of(one.connection, model))
        agent = sum(n for connection, n in self._agent_chars.items() if self._is_of(connection, model))
        caller = sum(n for connection, n in self._caller_chars.items() if self._is_of(connection, model))
        return replace(tokens, transcript_chars=caller + agent, agent_chars=agent)

    def by_model(self, *, cut_off: bool = False) -> dict[str, Usage]:
        """What each model is paid for, the main one first; `cut_off` as in `total`."""
        models = dict.fromkeys((self._main, *self._models.values()))
        return {model: self.total(model, cut_off=cut_off) for model in models}

    def raw(self) -> tuple[UsageRecord, ...]:
        """Every record as it came."""
        return tuple(self._records)

    def _is_of(self, connection: int, model: str | None) -> bool:
        return model in {None, self._models.get(connection, self._main)}


def _is_same_generation(earlier: UsageRecord, later: UsageRecord) -> bool:
    return (
        earlier.stage == later.stage
        and later.report.prompt >= earlier.report.prompt
        and later.report.response >= earlier.report.response
    )


def _audio(tokens: int, by_modality: Mapping[str, int]) -> tuple[int, int]:
    """How many are audio, and how many have no modality."""
    bare = max(0, tokens - sum(by_modality.values()))
    return (by_modality.get("AUDIO", 0) if by_modality else tokens), bare


def _estimate(last: Usage, turn: TurnFacts) -> Usage:
    """The last prompt and its answer are the context now; what was sent and what came since is known in seconds."""
    text_in = last.text_in + last.text_out - last.thoughts
    audio_in = last.audio_in + last.audio_out + ceil(turn.caller_s * AUDIO_TOKENS_PER_S)
    audio_out = ceil(turn.agent_s * AUDIO_TOKENS_PER_S)
    return Usage(
        text_in=text_in,
        audio_in=audio_in,
        audio_out=audio_out,
        missing_generations=1,
        estimated_tokens=text_in + audio_in + audio_out,
    )
