"""The few sentences that Ringmaster itself says to the model.

A parked session is set up before its caller is known, so what belongs to one call (the values of the profile's
`{variables}`) reaches the model as the first message of the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cluster.messages import Line

BRIEF = "From now on say only what is needed, in one short sentence each time, and bring the call to its end soon."
BRACKETED = "(Note from the phone system, not from the caller: {})"


class Then(StrEnum):
    """What the model is to do after a gap."""

    LISTEN = "listen"
    ANSWER = "answer"
    """Something is owed."""
    GO_ON = "go-on"
    """It was cut in mid sentence."""
    SAY_AGAIN = "say-again"
    """The caller spoke, or may have, and not all of it was heard."""
    GO_ON_AND_ASK = "go-on-and-ask"
    """Both."""


@dataclass(slots=True)
class Prompts:
    """What the model is told in one call. `greeting` is the profile's, `variables` the request's."""

    greeting: str
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii
    brief: bool = False
    """Money runs out: every model of this call is told to be brief."""

    def opening(self) -> str:
        """The first message: the facts of this call, and what to do first."""
        return BRACKETED.format(f"the call is connected.{self._facts()} {self.greeting}".strip())

    def after_gap(self, missed: Iterable[Line], then: Then) -> str:
        """No connection served for a moment; `missed` is what the model does not know of, its own words among it."""
        happened, to_do = _AFTER_GAP[then]
        return BRACKETED.format(f"{happened} {_told(missed)}{to_do}".strip())

    def again(self, text: str) -> str:
        """For a model that knows nothing: the facts of the call, before `text` tells how it went."""
        return BRACKETED.format(f"you are in the middle of a call. Do not greet again.{self._facts()}") + f"\n{text}"

    def _facts(self) -> str:
        facts = "".join(f" {{{name}}} is: {value}." for name, value in sorted(self.variables.items()))
        return f"{facts} {BRIEF}" if self.brief else facts

    @property
    def be_brief(self) -> str:
        """From now on."""
        return BRACKETED.format(BRIEF)

    def entered(self, keys: str) -> str:
        """The caller used the keypad; digits apart, since 1 2 is not twelve."""
        return BRACKETED.format(f"the caller pressed these keys on the telephone's keypad: {' '.join(keys)}. Go on.")

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


_INTERRUPTED = "the line to you was interrupted for a moment"
_MAY_HAVE_SPOKEN = f"{_INTERRUPTED}, and the caller may have spoken meanwhile."
_GO_ON = "Go on exactly where you stopped: repeat nothing, and do not mention the interruption."
_AFTER_GAP: Mapping[Then, tuple[str, str]] = {
    Then.LISTEN: ("", "The call goes on; there is nothing to answer until the caller speaks."),
    Then.ANSWER: (
        f"{_INTERRUPTED}.",
        "The caller is waiting for your answer. If you know it, answer now; else ask briefly to say that again.",
    ),
    Then.GO_ON: (f"{_INTERRUPTED}.", _GO_ON),
    Then.SAY_AGAIN: (
        _MAY_HAVE_SPOKEN,
        "If the caller's last words are complete and not answered, answer now; else ask briefly to say that again.",
    ),
    Then.GO_ON_AND_ASK: (_MAY_HAVE_SPOKEN, f"{_GO_ON} Then ask briefly whether the caller has said something."),
}
"""What comes before and after that which was said."""


def _told(lines: Iterable[Line]) -> str:
    said = "".join(f"\n{'Caller' if line.who == 'caller' else 'You'}: {line.text}" for line in lines)
    return f"This was said so far:{said}\n" if said else ""


def say_filler(sentence: str) -> str:
    """A tool takes long, and the caller hears nothing."""
    return BRACKETED.format(f'this takes a moment. Say only: "{sentence}" Then wait for the result.')


def tool_result(name: str, response: Mapping[str, Any]) -> str:
    """What a tool returned, for a model that does not know that it called it."""
    said = json.dumps(response, ensure_ascii=False)
    return BRACKETED.format(
        f"the tool {name}, which you called before, has returned {said}. Tell the caller, if needed."
    )
