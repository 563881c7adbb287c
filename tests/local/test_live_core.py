"""The floor, the tokens, the script and the credentials: what decides without I/O."""

from __future__ import annotations

import base64
import json

import pytest

from cluster.local.live.access import Access, Route, route_of
from cluster.local.live.floor import TRANSITIONS, Event, Floor, FloorError, State
from cluster.local.live.script import answer_to_speech, answer_to_text, if_remembered, split_transcript
from cluster.local.live.setup import Backend
from cluster.local.live.usage import UNATTRIBUTED_TOKENS, ContextWindow, Usage, audio_tokens, text_tokens
from cluster.local.scenario import Agent, Answer

BAKER = Agent.model_validate(
    {
        "name": "baker",
        "greeting": "Good morning.",
        "exchanges": [
            {"when": ["What time do you open?", "When do you open?"], "say": "At eight."},
            {"when": "Goodbye.", "say": "Bye.", "call": {"tool": "end_call"}},
        ],
        "prompts": [{"contains": "Silent", "say": "Still there?"}],
    }
)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_floor_moves_by_its_table_only(state: State, event: Event) -> None:
    """An event that is not in the table raises and changes nothing."""
    floor = Floor()
    floor.state = state
    if event in TRANSITIONS[state]:
        assert floor.on(event) is state
        assert floor.state is TRANSITIONS[state][event]
        return
    with pytest.raises(FloorError, match=f"{event} can't happen while {state}"):
        floor.on(event)
    assert floor.state is state


def test_tokens_of_audio_and_text() -> None:
    """25 tokens a second, and a token for four letters, rounded up."""
    assert [audio_tokens(duration_ms) for duration_ms in (0, 1, 1_000, 60_000)] == [0, 1, 25, 1_500]
    assert [text_tokens(count) for count in (0, 1, 4, 5)] == [0, 1, 1, 2]


def _turn(window: ContextWindow, *, user_audio: int, agent_audio: int, kept: int | None = None) -> Usage:
    window.add(audio=user_audio)
    kept_audio = agent_audio if kept is None else kept
    return window.generate(response_text=0, response_audio=agent_audio, kept_audio=kept_audio, transcript=0)


def test_the_context_is_billed_again_every_turn() -> None:
    """The prompt of a turn is everything before it; the sum is what is billed."""
    window = ContextWindow(100, None)
    first, second = (_turn(window, user_audio=50, agent_audio=200) for _ in range(2))
    assert (first.prompt_text, first.prompt_audio, first.response_audio) == (100, 50, 200)
    assert (second.prompt_text, second.prompt_audio) == (100, 50 + 200 + 50)
    assert (first + second).prompt == 100 + 50 + 100 + 300 + 2 * UNATTRIBUTED_TOKENS
    assert window.tokens == 100 + 2 * 250


def test_silence_is_billed_once_and_forgotten() -> None:
    """What a listening model hears between turns does not stay."""
    window = ContextWindow(0, None)
    window.listen(40)
    assert _turn(window, user_audio=10, agent_audio=0).prompt_audio == 50
    assert _turn(window, user_audio=10, agent_audio=0).prompt_audio == 20


def test_an_interrupted_answer_is_billed_whole_and_kept_in_part() -> None:
    """What was made is paid for; what was not heard is not in the context."""
    window = ContextWindow(0, None)
    assert _turn(window, user_audio=0, agent_audio=200, kept=30).response_audio == 200
    assert window.tokens == 30


def test_compression_drops_the_oldest_turns() -> None:
    """Over the trigger, down to the target, never the system instruction."""
    window = ContextWindow(100, (1_000, 500))
    for _ in range(4):
        _turn(window, user_audio=50, agent_audio=200)
    assert window.tokens == 100 + 250
    assert window.copy(20, None).tokens == 20 + 250


def test_a_copy_keeps_what_was_not_answered_yet() -> None:
    """A function's result that came after the turn belongs to the next prompt, also of a resumed session."""
    window = ContextWindow(100, None)
    window.add(text=7)
    assert window.copy().tokens == window.copy(100, None).tokens == 107


def test_usage_names_of_the_backends() -> None:
    """Vertex AI says candidates where the Developer API says response; total is their sum."""
    usage = Usage(prompt_text=3, prompt_audio=4, prompt_unattributed=5, response_audio=6)
    developer, vertex = usage.to_wire(vertex=False), usage.to_wire(vertex=True)
    assert developer["responseTokenCount"] == vertex["candidatesTokenCount"] == 6
    assert (
        developer["responseTokensDetails"]
        == vertex["candidatesTokensDetails"]
        == [{"modality": "AUDIO", "tokenCount": 6}]
    )
    assert developer["totalTokenCount"] == 18
    assert developer["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 3},
        {"modality": "AUDIO", "tokenCount": 4},
    ]
    assert vertex["trafficType"] == "ON_DEMAND"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("What time do you open?", "At eight."),
        ("when do you OPEN", "At eight."),
        ("What time do", "At eight."),
        ("Yes. Goodbye.", "Bye."),
        ("What", BAKER.otherwise),
        ("", BAKER.otherwise),
    ],
)
def test_answers_to_speech(said: str, answered: str) -> None:
    """Half of a phrase is enough; what fits nothing gets the default."""
    answer = answer_to_speech(BAKER, said)
    assert answer is not None
    assert answer.say == answered


@pytest.mark.parametrize(
    ("told", "answered"),
    [
        ("Hello. My name is SAM, and yours?", "Sam."),
        ("My name. is Sam", "Sam."),
        ("My name is Samuel", BAKER.otherwise),
        ("is Sam my name", BAKER.otherwise),
        ("", BAKER.otherwise),
    ],
)
def test_an_answer_that_needs_to_be_remembered(told: str, answered: str) -> None:
    """Words in a row, whole ones, whatever their case; without them the default."""
    answer = if_remembered(BAKER, Answer(say="Sam.", needs="name is Sam."), told)
    assert answer is not None
    assert answer.say == answered
    assert if_remembered(BAKER, None, told) is None
    assert if_remembered(BAKER.model_copy(update={"otherwise": ""}), Answer(say="x", needs="zebra"), told) is None


def test_a_silent_agent_does_not_answer_what_it_does_not_know() -> None:
    """Without ``otherwise`` there is no answer."""
    assert answer_to_speech(BAKER.model_copy(update={"otherwise": ""}), "Blue.") is None


@pytest.mark.parametrize(
    ("text", "opening", "answered"),
    [
        ("The call has begun.", True, "Good morning."),
        ("The caller is silent.", False, "Still there?"),
        ("When do you open?", False, "At eight."),
    ],
)
def test_answers_to_writing(text: str, *, opening: bool, answered: str) -> None:
    """The greeting first, then prompts, then as if spoken."""
    answer = answer_to_text(BAKER, text, opening=opening)
    assert answer is not None
    assert answer.say == answered


def test_a_transcript_is_cut_at_words() -> None:
    """The pieces make up the text, and each follows its audio."""
    text = "Good morning, how can I help you today?"
    parts = split_transcript(text, [60, 240, 240, 240, 100])
    assert "".join(parts) == text
    assert parts[0] in {"", "Good"}
    assert all(not part or part[0] == " " or index == 0 for index, part in enumerate(parts) if "".join(parts[:index]))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            Route(Backend.DEVELOPER, "v1beta"),
        ),
        (
            "//ws/google.ai.generativelanguage.v1.GenerativeService.BidiGenerateContent",
            Route(Backend.DEVELOPER, "v1"),
        ),
        (
            "/proxy//ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained",
            Route(Backend.DEVELOPER, "v1alpha"),
        ),
        ("//ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", Route(Backend.VERTEX, "v1beta1")),
        ("/ws/google.cloud.aiplatform.v1beta1.LlmBidiService", None),
        ("/", None),
    ],
)
def test_paths(path: str, route: Route | None) -> None:
    """Both services, any version, double slashes and prefixes; nothing else."""
    assert route_of(path) == route


def test_where_a_credential_may_stand() -> None:
    """Header, query, or bearer as the backend has it."""
    access = Access("k")
    developer, vertex = Route(Backend.DEVELOPER, "v1"), Route(Backend.VERTEX, "v1")
    assert access.credential(developer, {"x-goog-api-key": "k"}, {}) == "k"
    assert access.credential(developer, {}, {"key": "k"}) == "k"
    assert access.credential(developer, {"Authorization": "Token k"}, {}) == "k"
    assert access.credential(developer, {"Authorization": "Bearer k"}, {}) == ""
    assert access.credential(vertex, {"Authorization": "Bearer k"}, {}) == "k"
    assert [access.valid("k"), access.valid("x"), Access(None).valid("x")] == [True, False, True]


def _assertion(**claims: str) -> dict[str, str]:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": f"e30.{body}.c2ln"}


def test_tokens_for_service_accounts() -> None:
    """A signed assertion with a scope gives a token that opens sessions; one without gives what Google says."""
    access = Access("k")
    status, body = access.exchange(_assertion(iss="a@b", scope="cloud-platform"))
    assert status == 200
    assert access.valid(body["access_token"])
    assert access.exchange(_assertion(iss="a@b", scope=""))[1]["error"] == "invalid_scope"
    assert access.exchange({"assertion": "rubbish"})[1]["error"] == "invalid_grant"
