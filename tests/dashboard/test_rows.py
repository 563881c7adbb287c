"""The table of live calls: what a row shows, and what each reader has to change."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.dashboard import rows as r


def a_call(number: int, **changes: Any) -> dict[str, Any]:
    """A live call as `BudgetPool` tells it."""
    call: dict[str, Any] = {
        "call_id": f"call_{number}",
        "tenant": "acme",
        "state": "answered",
        "direction": "inbound",
        "profile": "receptionist",
        "number": "+*********01",
        "started_at": 1_000.0 + number,
        "duration_s": 5.0,
        "cost_usd_micros": 100,
        "charges_usd_micros": {"model": 80, "trunk": 20},
        "slot": f"slot-{number}",
    }
    return call | changes


def ids(rows: Any) -> list[str]:
    """Which calls these are."""
    return [row.call_id for row in rows]


def test_a_reader_gets_the_whole_table_and_then_what_is_newer() -> None:
    """New calls, changed ones and those that are gone, each once."""
    rows = r.Rows()
    assert rows.update([a_call(1), a_call(2)], {})
    first = rows.since(0, "acme")
    assert (first.whole, ids(first.added)) == (True, ["call_2", "call_1"])
    assert rows.update([a_call(2, cost_usd_micros=200), a_call(3)], {})
    then = rows.since(first.version, "acme")
    assert (then.whole, ids(then.added), ids(then.changed), then.gone) == (False, ["call_3"], ["call_2"], ["call_1"])
    after = rows.since(then.version, "acme")
    assert (after.version, after.whole) == (then.version, False)
    assert [*after.added, *after.changed, *after.gone] == []


def test_time_that_passes_is_no_change() -> None:
    """Nothing is sent for it."""
    rows = r.Rows()
    assert rows.update([a_call(1)], {})
    assert not rows.update([a_call(1, duration_s=6.0)], {"call_1": {"mos": None}})


def test_a_reader_that_is_far_behind_gets_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What left is remembered for a while only."""
    monkeypatch.setattr(r, "GONE_KEPT", 1)
    rows = r.Rows()
    rows.update([a_call(1), a_call(2), a_call(3)], {})
    behind = rows.version
    rows.update([a_call(2), a_call(3)], {})
    assert not rows.since(behind, "acme").whole
    rows.update([a_call(3)], {})
    assert rows.since(behind, "acme").whole
    assert not rows.since(rows.version, "acme").whole


def test_a_tenant_sees_its_own_calls() -> None:
    """Neither those of others, nor that they left."""
    rows = r.Rows()
    rows.update([a_call(1), a_call(2, tenant="other")], {})
    version = rows.version
    assert ids(rows.of("acme")) == ["call_1"]
    assert ids(rows.since(0, "other").added) == ["call_2"]
    rows.update([], {})
    assert rows.since(version, "acme").gone == ["call_1"]
    assert rows.row("call_1") is None


@pytest.mark.parametrize(
    ("lease", "leg", "shown"),
    [
        ("starting", "ringing", "starting"),
        ("dialling", "ringing", "ringing"),
        ("dialling", None, "dialling"),
        ("ringing", "idle", "ringing"),
        ("answered", "ended", "ending"),
        ("winding-down", "answered", "winding-down"),
    ],
)
def test_the_state_is_the_newer_word(lease: str, leg: str | None, shown: str) -> None:
    """The leg's, unless the lease says that the call begins or ends."""
    rows = r.Rows()
    rows.update([a_call(1, state=lease)], {"call_1": {"leg": leg}})
    row = rows.row("call_1")
    assert row is not None
    assert row.state == shown


def test_a_row_has_what_the_call_said_last() -> None:
    """The end of it, and the line to one decimal; words stay out of the repr."""
    rows = r.Rows()
    rows.update([a_call(1)], {"call_1": {"who": "agent", "words": "a" * 200 + "z", "mos": 4.249, "node": "n1"}})
    row = rows.row("call_1")
    assert row is not None
    assert (row.who, len(row.words), row.words[-1], row.mos, row.node) == ("agent", r.WORDS_SHOWN, "z", 4.2, "n1")
    assert "aaa" not in repr(row)
    assert row.charges_usd_micros == (("model", 80), ("trunk", 20))
