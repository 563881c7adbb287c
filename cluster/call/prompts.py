"""The few sentences that Ringmaster itself says to the model.

A parked session is set up before its caller is known, so what belongs to one call (the values of the profile's
`{variables}`) reaches the model as the first message of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BRACKETED = "(Note from the phone system, not from the caller: {})"


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the model is told in one call. `greeting` is the profile's, `variables` the request's."""

    greeting: str
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii

    def opening(self) -> str:
        """The first message: the facts of this call, and what to do first."""
        facts = "".join(f" {{{name}}} is: {value}." for name, value in sorted(self.variables.items()))
        return BRACKETED.format(f"the call is connected.{facts} {self.greeting}".strip())

    @property
    def answer_now(self) -> str:
        """The model owes the caller an answer."""
        return BRACKETED.format("the caller is waiting for your answer. Answer now.")

    @property
    def still_there(self) -> str:
        """The caller has been silent for a while."""
        return BRACKETED.format("nothing was heard for a while. Ask briefly whether the caller is still there.")

    @property
    def nobody_there(self) -> str:
        """The caller stayed silent."""
        return BRACKETED.format("the caller stays silent. Say a short goodbye and call end_call.")

    @property
    def time_is_up(self) -> str:
        """The call reaches its limit."""
        return BRACKETED.format("this call has reached its time limit. Say a short goodbye now and call end_call.")


def say_filler(sentence: str) -> str:
    """A tool takes long, and the caller hears nothing."""
    return BRACKETED.format(f'this takes a moment. Say only: "{sentence}" Then wait for the result.')


def tool_result(name: str, response: Mapping[str, Any]) -> str:
    """What a tool returned, for a model that does not know that it called it."""
    said = json.dumps(response, ensure_ascii=False)
    return BRACKETED.format(
        f"the tool {name}, which you called before, has returned {said}. Tell the caller, if needed."
    )
