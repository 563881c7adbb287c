"""What is billed of all that was reported, and of what was not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.call.usage import TurnFacts, TurnKey, UsageBook, UsageRecord, UsageReport, add_up, billed, count
from cluster.messages import Usage

MAIN, OTHER = "gemini-3.8-live", "gemini-live-2.5-flash"

COUNTS = [
    (
        "audio both ways",
        UsageReport(300, {"AUDIO": 250, "TEXT": 50}, 100, {"AUDIO": 100}),
        Usage(text_in=50, audio_in=250, audio_out=100),
    ),
    (
        "tokens without modality are text beside others that have one",
        UsageReport(318, {"AUDIO": 250, "TEXT": 50}, 0, {}),
        Usage(text_in=68, audio_in=250, unattributed=18),
    ),
    (
        "where no modality is named, everything is audio",
        UsageReport(30, {}, 20, {}),
        Usage(audio_in=30, audio_out=20, unattributed=50),
    ),
    (
        "thoughts are outside the total and cost text output",
        UsageReport(522, {"TEXT": 522}, 42, {"TEXT": 42}, thoughts=136, total=564),
        Usage(text_in=522, text_out=178, thoughts=136),
    ),
    ("tool use is input", UsageReport(0, {}, 0, {}, tool_use=9), Usage(text_in=9, tool_use=9)),
    (
        "tool use has modalities too",
        UsageReport(0, {}, 0, {}, tool_use=9, tool_use_by_modality={"AUDIO": 4, "TEXT": 3}),
        Usage(text_in=5, audio_in=4, tool_use=9),
    ),
    (
        "cached tokens are billed like the rest",
        UsageReport(10, {"TEXT": 10}, 0, {}, cached=8),
        Usage(text_in=10, cached=8),
    ),
    (
        "pictures cost about what text does",
        UsageReport(10, {"IMAGE": 6, "TEXT": 4}, 0, {}),
        Usage(text_in=10),
    ),
    (
        "details above the total never go below zero",
        UsageReport(5, {"AUDIO": 8}, 1, {"AUDIO": 3}),
        Usage(audio_in=8, audio_out=3),
    ),
]


@pytest.mark.parametrize(("report", "expected"), [c[1:] for c in COUNTS], ids=[c[0] for c in COUNTS])
def test_count(report: UsageReport, expected: Usage) -> None:
    """One record becomes the right tokens."""
    assert count(report) == expected


def audio(prompt: int, response: int) -> UsageReport:
    """A record with audio alone."""
    return UsageReport(prompt, {"AUDIO": prompt}, response, {"AUDIO": response})


def records(*given_: tuple[int, int, int, int, int]) -> list[UsageRecord]:
    """Records of (connection, turn, stage, prompt, response), in the order of arrival."""
    return [
        UsageRecord(connection=connection, turn=turn, stage=stage, sequence=n, report=audio(prompt, response))
        for n, (connection, turn, stage, prompt, response) in enumerate(given_, 1)
    ]


OVER = TurnFacts(caller_s=2.0, agent_s=1.0, over=True)
GUESS = {"missing_generations": 1}
CASES = [
    ("nothing", [], {}, []),
    ("1: every turn", records((1, 1, 0, 10, 4), (1, 2, 0, 20, 4)), {}, [(10, 4), (20, 4)]),
    ("1: every connection", records((1, 1, 0, 10, 4), (2, 1, 0, 10, 4)), {}, [(10, 4), (10, 4)]),
    ("1: every stage", records((1, 1, 0, 10, 4), (1, 1, 1, 15, 6)), {}, [(10, 4), (15, 6)]),
    ("2: both larger", records((1, 1, 0, 10, 4), (1, 1, 0, 11, 6)), {}, [(11, 6)]),
    ("2: the same again", records((1, 1, 0, 10, 4), (1, 1, 0, 10, 4)), {}, [(10, 4)]),
    ("2: and again", records((1, 1, 0, 10, 4), (1, 1, 0, 10, 5), (1, 1, 0, 10, 9)), {}, [(10, 9)]),
    ("3: a smaller response", records((1, 1, 0, 10, 4), (1, 1, 0, 12, 3)), {}, [(10, 4), (12, 3)]),
    ("3: a smaller prompt", records((1, 1, 0, 10, 4), (1, 1, 0, 9, 5)), {}, [(10, 4), (9, 5)]),
    (
        "3: the new one is replaced in its turn",
        records((1, 1, 0, 10, 4), (1, 1, 0, 12, 3), (1, 1, 0, 12, 4)),
        {},
        [(10, 4), (12, 4)],
    ),
    ("4: in the middle", records((1, 1, 0, 10, 4)), {(1, 2): OVER}, [(10, 4), (64, 25)]),
    ("4: at the beginning", [], {(1, 1): OVER}, [(50, 25)]),
    ("4: twice", [], {(1, 1): OVER, (1, 2): OVER}, [(50, 25), (125, 25)]),
    ("4: before one that is known", records((2, 2, 0, 10, 4)), {(1, 1): OVER}, [(50, 25), (10, 4)]),
    ("5: the record comes after all", records((1, 1, 0, 10, 4)), {(1, 1): OVER}, [(10, 4)]),
    ("6: it goes on", records((1, 1, 0, 10, 4)), {(1, 2): TurnFacts(5.0, 5.0)}, [(10, 4)]),
]


@pytest.mark.parametrize(("came", "turns", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_billed(came: list[UsageRecord], turns: dict[TurnKey, TurnFacts], expected: list[tuple[int, int]]) -> None:
    """The table of `billed`, case by case: tokens of audio in and out of each generation."""
    found = [one.usage for one in billed(came, turns)]
    assert [(usage.audio_in, usage.audio_out) for usage in found] == expected
    missing = sum(turn.over and not any((r.connection, r.turn) == key for r in came) for key, turn in turns.items())
    assert sum(usage.missing_generations for usage in found) == missing


def test_an_estimate_is_told_from_a_report() -> None:
    """The instructions are the prompt of a first turn; thoughts do not stay in the context."""
    (guess,) = billed([], {(1, 1): OVER}, instruction_tokens=100)
    assert guess.usage == Usage(text_in=100, audio_in=50, audio_out=25, missing_generations=1, estimated_tokens=175)
    thinking = UsageReport(10, {"TEXT": 10}, 5, {"TEXT": 5}, thoughts=7)
    came = [UsageRecord(connection=1, turn=1, stage=0, sequence=1, report=thinking)]
    _, guess = billed(came, {(1, 2): TurnFacts(over=True)})
    assert (guess.usage.text_in, guess.usage.text_out) == (15, 0)


def test_a_book_knows_each_models_part() -> None:
    """A call whose second connection is another model's; transcripts belong to whose they are."""
    book = UsageBook(MAIN)
    book.add(audio(10, 4), connection=1, turn=1)
    book.transcribed(1, caller="Hi.", agent="Hello.")
    book.spoke(1, 2, caller_s=1.0, agent_s=0.5)
    book.spoke(1, 2, agent_s=0.5)
    book.lost(1)
    book.opened(2, OTHER)
    book.add(audio(30, 7), connection=2, turn=3, stage=1)
    book.turn_done(2, 3)
    book.spoke(2, 4, agent_s=1.0)
    book.transcribed(2, agent="Bye.")
    assert book.by_model() == {
        MAIN: Usage(
            audio_in=10 + 14 + 25,
            audio_out=4 + 25,
            transcript_chars=9,
            agent_chars=6,
            missing_generations=1,
            estimated_tokens=39 + 25,
        ),
        OTHER: Usage(audio_in=30, audio_out=7, transcript_chars=4, agent_chars=4),
    }
    assert book.total() == add_up(book.by_model().values())
    assert book.total("unknown") == Usage()
    assert [(raw.sequence, raw.connection, raw.turn, raw.stage) for raw in book.raw()] == [(1, 1, 1, 0), (2, 2, 3, 1)]


@dataclass(frozen=True)
class Generation:
    """What a model really did: its final report, and how many smaller ones came before that."""

    report: UsageReport
    previews: int


reports = st.builds(
    UsageReport,
    prompt=st.integers(2, 900),
    prompt_by_modality=st.dictionaries(st.sampled_from(["AUDIO", "TEXT"]), st.integers(0, 900)),
    response=st.integers(2, 900),
    response_by_modality=st.dictionaries(st.sampled_from(["AUDIO", "TEXT"]), st.integers(0, 900)),
    thoughts=st.integers(0, 99),
    tool_use=st.integers(0, 99),
)
stages = st.lists(st.builds(Generation, reports, st.integers(0, 2)), min_size=1, max_size=3)
"""Of one turn, with a tool between each two."""
turns_ = st.lists(st.none() | stages, max_size=4)
"""Of one connection; of some nothing is reported."""


@given(st.lists(turns_, max_size=3))
def test_any_call_adds_up(connections: list[list[list[Generation] | None]]) -> None:
    """What is reported is the sum over what the models really did, and what is not is counted as missing."""
    book = UsageBook(MAIN)
    truth: list[Usage] = []
    unreported = 0
    for connection, turns in enumerate(connections, 1):
        book.opened(connection, MAIN if connection == 1 else OTHER)
        for turn, generations in enumerate(turns, 1):
            book.spoke(connection, turn)
            for stage, generation in enumerate(generations or ()):
                for k in range(generation.previews, -1, -1):
                    final = generation.report
                    report = replace(final, response=max(0, final.response - k))
                    book.add(report, connection=connection, turn=turn, stage=stage)
                truth.append(count(generation.report))
            unreported += not generations
        book.lost(connection)
    total = book.total()
    assert total.missing_generations == unreported
    assert (total.thoughts, total.tool_use) == (add_up(truth).thoughts, add_up(truth).tool_use)
    if not unreported:
        assert total == add_up(truth)
    assert total == add_up(book.by_model().values())
