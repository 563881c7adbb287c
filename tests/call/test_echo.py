"""The caller's voice and the agent's echo."""

from __future__ import annotations

from cluster.call.echo import ECHO_S, EchoGuard


def test_what_is_much_weaker_than_the_agent_was_is_its_echo() -> None:
    """And a caller who interrupts is as loud as the agent."""
    guard = EchoGuard()
    assert not guard.is_echo(100.0, 0.0)
    guard.played(3_000.0, 1.0)
    assert guard.is_echo(300.0, 1.1)
    assert not guard.is_echo(2_000.0, 1.1)


def test_an_echo_comes_soon_or_not_at_all() -> None:
    """Half a second after the agent fell silent, every sound is the caller's."""
    guard = EchoGuard()
    guard.played(3_000.0, 1.0)
    assert guard.is_echo(300.0, 1.0 + ECHO_S)
    assert not guard.is_echo(300.0, 1.01 + ECHO_S)
