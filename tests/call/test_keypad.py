"""What a caller enters on the telephone's keypad."""

from __future__ import annotations

import pytest

from cluster.call.keypad import MAX_KEYS, Keypad, KeypadRules


def entered(keys: str, rules: KeypadRules, *, apart_s: float = 0.5, then_s: float = 0.0) -> list[str]:
    """Press the keys, so far apart; what was taken meanwhile, and after `then_s` more."""
    keypad, now, taken = Keypad(rules), 10.0, []
    for key in keys:
        now += apart_s
        taken.append(keypad.take(now))
        keypad.press(key, now)
        taken.append(keypad.take(now))
    taken.append(keypad.take(now + then_s))
    return [each for each in taken if each]


@pytest.mark.parametrize(
    ("keys", "rules", "apart_s", "then_s", "expected"),
    [
        # A pause completes it, and not before it is over.
        ("1234", KeypadRules(), 0.5, 2.0, ["1234"]),
        ("1234", KeypadRules(), 0.5, 1.9, []),
        ("12", KeypadRules(timeout_s=0.4), 0.5, 0.4, ["1", "2"]),
        # The end key completes it at once, and is no part of it.
        ("12#34#", KeypadRules(), 0.5, 0.0, ["12", "34"]),
        ("12*", KeypadRules(end_key="*"), 0.5, 0.0, ["12"]),
        # Alone it is all that was said.
        ("#", KeypadRules(), 0.5, 0.0, ["#"]),
        # Without one, each key is as good as another.
        ("1#", KeypadRules(end_key=""), 0.5, 2.0, ["1#"]),
        # A key that is stuck.
        ("7" * (MAX_KEYS + 1), KeypadRules(), 0.1, 0.0, ["7" * MAX_KEYS]),
    ],
)
def test_an_input_ends_with_a_pause_or_the_end_key(
    keys: str, rules: KeypadRules, apart_s: float, then_s: float, expected: list[str]
) -> None:
    """It is told as a whole."""
    assert entered(keys, rules, apart_s=apart_s, then_s=then_s) == expected


def test_nothing_is_due_before_a_key_is_pressed() -> None:
    """Nor afterwards."""
    keypad = Keypad(KeypadRules())
    assert (keypad.due, keypad.take(100.0)) == (None, "")
    keypad.press("1", 10.0)
    assert keypad.due == 12.0
    assert keypad.take(12.0) == "1"
    assert keypad.due is None
