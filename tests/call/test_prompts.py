"""What the model is told by the phone system."""

from __future__ import annotations

from cluster.call.prompts import Prompts


def test_the_opening_holds_the_facts_of_the_call_and_what_to_do_first() -> None:
    """Every variable is named as the instructions name it, in a fixed order."""
    opening = Prompts("Greet {name}.", {"when": "at nine", "name": "Ana"}).opening()
    assert "{name} is: Ana. {when} is: at nine. Greet {name}." in opening


def test_personal_data_is_not_in_the_repr() -> None:
    """The values never reach a log by way of a traceback."""
    assert "Ana" not in repr(Prompts("Greet.", {"name": "Ana"}))


def test_every_prompt_is_marked_as_not_the_callers() -> None:
    """The model must not take the phone system's words for the caller's."""
    prompts = Prompts("Greet.")
    for text in (prompts.opening(), prompts.answer_now, prompts.still_there, prompts.nobody_there, prompts.time_is_up):
        assert text.startswith("(Note from the phone system, not from the caller:")
