"""What a call waits for."""

from __future__ import annotations

from cluster.call.timers import WRAP_UP_S, Timer, Timers


def test_timers_go_off_in_the_order_of_their_times() -> None:
    """Each once."""
    timers = Timers(Timer.SETUP, 5.0)
    timers.start(Timer.IDLE, 3.0)
    assert timers.deadline() == 3.0
    assert [timers.take_due(6.0) for _ in range(3)] == [Timer.IDLE, Timer.SETUP, None]
    assert timers.deadline() is None


def test_a_timer_that_is_not_due_goes_on() -> None:
    """And one that was stopped does not."""
    timers = Timers(Timer.SETUP, 5.0)
    assert timers.take_due(4.9) is None
    timers.stop(Timer.SETUP, Timer.TAIL)
    assert timers.take_due(10.0) is None


def test_a_short_conversation_is_told_to_end_at_its_half() -> None:
    """A goodbye takes some of it."""
    timers = Timers(Timer.SETUP, 5.0)
    timers.talk(10.0, 20.0)
    assert timers.take_due(20.0) is Timer.WRAP_UP
    assert timers.deadline() == 30.0


def test_a_goodbye_never_puts_the_end_off() -> None:
    """Where there is none yet, it sets one."""
    timers = Timers(Timer.IDLE, 5.0)
    timers.wrap_up(0.0)
    assert timers.deadline() == WRAP_UP_S
    timers.wrap_up(10.0)
    assert timers.deadline() == WRAP_UP_S
    timers.only(Timer.GOODBYE, 1.0)
    assert timers.deadline() == 1.0
    timers.clear()
    assert timers.deadline() is None
