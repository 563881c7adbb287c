"""When a call loses its process: at a state that the call itself reports, and a random while into it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.conftest import System


@dataclass(frozen=True, slots=True)
class Moment:
    """The first event of that kind, with these fields, and then up to `within_s` more."""

    kind: str = ""
    """Empty: at once."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    """In the event's text."""
    within_s: float = 1.5

    def wait(self, system: System, call_id: str, dice: random.Random) -> None:
        """Return when it has come; a call that ends before is at its moment, too."""
        if self.kind:
            self._await_event(system, call_id)
        time.sleep(dice.uniform(0, self.within_s))

    def _await_event(self, system: System, call_id: str) -> None:
        with system.api.stream("GET", f"/v1/calls/{call_id}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    if event["kind"] == self.kind and self.fields.items() <= event.items() and self.says in str(event):
                        return


MOMENTS: Final[Mapping[str, Moment]] = {
    "ringing": Moment(within_s=0.4),
    "greeting": Moment("speaking", {"who": "agent"}, within_s=3.0),
    "caller": Moment("line", {"who": "agent"}),
    "agent": Moment("speaking", {"who": "agent"}, says="birthday", within_s=4.0),
    "go-away": Moment("live", {"state": "going-away"}, within_s=4.0),
    "tool": Moment("tool", {"state": "called"}, within_s=2.0),
    "any": Moment(within_s=28.0),
}
"""The script is the same in every call."""
