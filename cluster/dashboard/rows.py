"""The live calls as a table: what `BudgetPool` and `Records` know of each made one row, and which rows have changed.

Rules of this file:
1. It is pure; asking, rendering and sending are the shell's business.
2. A row changes only where something that is shown has changed: time passes in the browser.
3. A reader names the version that it has and gets what is newer, so a slow one misses nothing and holds up nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

GONE_KEPT: Final = 2_000
"""Calls that have left, for readers that still show them; who is further behind gets the whole table anew."""
WORDS_SHOWN: Final = 90


@dataclass(frozen=True, slots=True)
class Row:
    """One live call as it is shown. The number is masked."""

    call_id: str
    tenant: str
    state: str
    direction: str
    number: str
    profile: str
    started_at: float
    """UTC seconds."""
    cost_usd_micros: int
    slot: str
    charges_usd_micros: tuple[tuple[str, int], ...] = ()
    """The parts of the cost, by kind."""
    node: str = ""
    who: str = ""
    words: str = field(default="", repr=False)  # pii
    mos: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reader has to change to show `version`."""

    version: int
    whole: bool
    """`added` is everything there is, newest first; whatever was shown before goes."""
    added: Sequence[Row] = ()
    changed: Sequence[Row] = ()
    gone: Sequence[str] = ()


class Rows:
    """Every live call of every tenant, with the version in which it came and changed."""

    def __init__(self) -> None:
        self.version = 1
        self._rows: dict[str, tuple[Row, int, int]] = {}
        self._gone: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._forgotten = 0
        """The version of the newest departure that is no longer known."""

    def update(self, live: Iterable[Mapping[str, Any]], standings: Mapping[str, Mapping[str, Any]]) -> bool:
        """Take the calls as they are now, oldest first; False where nothing that is shown has changed."""
        now = {call["call_id"]: _row(call, standings.get(call["call_id"], {})) for call in live}
        version = self.version + 1
        for call_id in self._rows.keys() - now.keys():
            self._gone[call_id] = self._rows.pop(call_id)[0].tenant, version
            self.version = version
        for call_id, row in now.items():
            known = self._rows.get(call_id)
            if known is None or known[0] != row:
                self._rows[call_id] = row, version if known is None else known[1], version
                self.version = version
        while len(self._gone) > GONE_KEPT:
            self._forgotten = self._gone.popitem(last=False)[1][1]
        return self.version == version

    def row(self, call_id: str) -> Row | None:
        """One live call."""
        known = self._rows.get(call_id)
        return known[0] if known else None

    def of(self, tenant: str) -> list[Row]:
        """A tenant's live calls, newest first."""
        return [row for row, _, _ in reversed(self._rows.values()) if row.tenant == tenant]

    def since(self, version: int, tenant: str) -> Changes:
        """What a reader that shows `version` has to change; 0 is one that shows nothing."""
        if version < max(1, self._forgotten):
            return Changes(self.version, whole=True, added=self.of(tenant))
        newer = [known for known in reversed(self._rows.values()) if known[2] > version and known[0].tenant == tenant]
        return Changes(
            self.version,
            whole=False,
            added=[row for row, came, _ in newer if came > version],
            changed=[row for row, came, _ in newer if came <= version],
            gone=[call_id for call_id, (whose, left) in self._gone.items() if left > version and whose == tenant],
        )


def _row(call: Mapping[str, Any], standing: Mapping[str, Any]) -> Row:
    mos = standing.get("mos")
    return Row(
        call_id=call["call_id"],
        tenant=call["tenant"],
        state=_state(call["state"], standing.get("leg")),
        direction=call["direction"],
        number=call["number"],
        profile=call["profile"],
        started_at=call["started_at"],
        cost_usd_micros=call["cost_usd_micros"],
        slot=call["slot"],
        charges_usd_micros=tuple(sorted(call["charges_usd_micros"].items())),
        node=standing.get("node", ""),
        who=standing.get("who", ""),
        words=standing.get("words", "")[-WORDS_SHOWN:],
        mos=None if mos is None else round(mos, 1),
    )


def _state(lease: str, leg: str | None) -> str:
    """The leg's own word is newer than what the last heartbeat said, unless the call is being ended."""
    if lease not in _OF_LEG or leg not in {*_OF_LEG, "ended"}:
        return lease
    return "ending" if leg == "ended" else leg


_OF_LEG: Final = frozenset({"dialling", "ringing", "answered"})
