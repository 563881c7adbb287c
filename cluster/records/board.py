"""How each live call stands by its events: its leg, its newest words, its line. For whoever watches all calls at once.

Rules of this file:
1. It is pure. A change raises the version, so that a reader asks for what is newer than the last one it saw.
2. An event of another release may lack a field, which fails nothing.
3. Only live calls are here: an ended call leaves, and no more than `CALLS` are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cluster.messages import CallEvent

CALLS: Final = 5_000
WORDS: Final = 160
"""Characters of the newest words that are kept."""

Json = dict[str, Any]


class Board:
    """The live calls, the one that changed last at the end."""

    def __init__(self, version: int) -> None:
        """`version` is higher than that of any board before, such as microseconds since the epoch."""
        self.version = version
        self._standings: OrderedDict[str, Json] = OrderedDict()

    def note(self, call_id: str, events: Iterable[CallEvent]) -> None:
        """Something happened in a call."""
        known = self._standings.get(call_id, {})
        standing = known
        for event in events:
            standing = _READERS.get(event.kind, _keep)(standing, event.fields)
        if standing is not known:
            self.version += 1
            self._standings[call_id] = standing | {"call_id": call_id, "version": self.version}
            self._standings.move_to_end(call_id)
            if len(self._standings) > CALLS:
                self._standings.popitem(last=False)

    def end(self, call_id: str) -> None:
        """The call is over."""
        self._standings.pop(call_id, None)

    def since(self, version: int) -> list[Json]:
        """Those that changed after `version`, all of them where it is another board's."""
        if version > self.version:
            version = 0
        found = []
        for standing in reversed(self._standings.values()):
            if standing["version"] <= version:
                break
            found.append(standing)
        return found


def _keep(standing: Json, _fields: Mapping[str, Any]) -> Json:
    return standing


def _leg(standing: Json, fields: Mapping[str, Any]) -> Json:
    return standing | {"leg": fields.get("state")}


def _speaking(standing: Json, fields: Mapping[str, Any]) -> Json:
    """Pieces of a line add up until the line comes whole, or the other one speaks."""
    goes_on = standing.get("unfinished") and standing.get("who") == fields.get("who")
    words = (standing["words"] if goes_on else "") + fields.get("text", "")
    return standing | {"who": fields.get("who", ""), "words": words[-WORDS:], "unfinished": True}


def _line(standing: Json, fields: Mapping[str, Any]) -> Json:
    return standing | {"who": fields.get("who", ""), "words": fields.get("text", "")[-WORDS:], "unfinished": False}


def _quality(standing: Json, fields: Mapping[str, Any]) -> Json:
    return standing | {"mos": fields.get("mos")}


def _held(standing: Json, fields: Mapping[str, Any]) -> Json:
    return standing | {"node": fields.get("node", "")}


_READERS: Final = {"leg": _leg, "speaking": _speaking, "line": _line, "quality": _quality, "actor": _held}
