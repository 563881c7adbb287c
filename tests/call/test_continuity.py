"""Connections that come, go and are replaced: what is opened, when it takes over, and when nothing more is tried."""

from __future__ import annotations

from cluster.call import continuity as c
from cluster.call import events as ev
from cluster.call.continuity import Continuity, ContinuityRules, Moment
from cluster.call.faults import Fault, Stage
from cluster.call.states import Live

ABORTED = Fault(Stage.SESSION, 1006)
DOWN = Fault(Stage.UPGRADE, 503)
FORBIDDEN = Fault(Stage.UPGRADE, 403)
CONFLICT = Fault(Stage.SETUP, 1011, "Internal error encountered.", with_handle=True)
UNKNOWN_HANDLE = Fault(Stage.SETUP, 1008, "Requested entity was not found.", with_handle=True)


def serving(rules: ContinuityRules | None = None, handle: str = "h1") -> Continuity:
    """A plan whose first connection serves since second 0."""
    plan = Continuity(rules or ContinuityRules(models=("a",)))
    assert plan.begin(0.0) == [ev.OpenLive(1, 0)]
    assert plan.opened(1, 0.0, 0.0) == [ev.SwitchLive(1, resumed=False)]
    plan.resumable(handle)
    return plan


def test_the_next_connection_takes_over_while_the_old_one_serves() -> None:
    """GoAway between two turns: no gap at all."""
    plan = serving()
    assert plan.going_away(50, 10.0) == [ev.OpenLive(2, 0, "h1")]
    assert (plan.state, plan.current) == (Live.ROTATING, 1)
    assert plan.opened(2, 0.0, 10.3) == [ev.SwitchLive(2, resumed=True, planned=True), ev.DropLive(1)]
    assert (plan.state, plan.current) == (Live.READY, 2)


def test_a_rotation_waits_for_the_end_of_the_turn() -> None:
    """While the model owes something, the old connection is the one that gives it."""
    plan = serving()
    plan.turn(Moment.AGENT, 9.0)
    assert plan.going_away(50, 10.0) == []
    plan.resumable("h2")
    assert plan.turn(Moment.IDLE, 12.0) == [ev.OpenLive(2, 0, "h2")]


def test_a_connection_that_is_ready_in_the_middle_of_an_answer_waits_for_its_end() -> None:
    """The caller began to speak, and the old one answers meanwhile."""
    plan = serving()
    plan.going_away(50, 10.0)
    plan.turn(Moment.AGENT, 10.1)
    assert plan.opened(2, 0.0, 10.3) == []
    assert plan.turn(Moment.IDLE, 13.0) == [ev.SwitchLive(2, resumed=True, planned=True), ev.DropLive(1)]


def test_a_caller_who_speaks_does_not_hold_up_the_swap() -> None:
    """What was said since the handle is sent again."""
    plan = serving()
    plan.going_away(50, 10.0)
    plan.turn(Moment.CALLER, 10.1)
    assert plan.opened(2, 0.0, 10.3)[0] == ev.SwitchLive(2, resumed=True, planned=True)


def test_when_time_runs_out_the_swap_is_made_in_any_case() -> None:
    """Three seconds before the server closes."""
    plan = serving()
    plan.turn(Moment.AGENT, 9.0)
    plan.going_away(50, 10.0)
    assert plan.deadline() == 57.0
    assert plan.tick(57.0) == [ev.OpenLive(2, 0, "h1")]
    assert plan.opened(2, 0.0, 57.2)[0] == ev.SwitchLive(2, resumed=True, planned=True)


def test_time_that_runs_out_with_the_next_one_ready_swaps_at_once() -> None:
    """It was held back for the end of an answer that does not end."""
    plan = serving()
    plan.going_away(50, 10.0)
    plan.turn(Moment.AGENT, 10.1)
    plan.opened(2, 0.0, 10.3)
    assert plan.tick(57.0) == [ev.SwitchLive(2, resumed=True, planned=True), ev.DropLive(1)]


def test_a_server_that_refuses_while_the_old_one_is_open_gets_the_other_order() -> None:
    """Learned once, for the whole call."""
    plan = serving()
    plan.going_away(50, 10.0)
    assert plan.failed(2, CONFLICT, 10.25) == [ev.DropLive(1), ev.OpenLive(3, 0, "h1")]
    assert plan.state is Live.RESUMING
    assert plan.opened(3, 0.0, 10.75) == [ev.SwitchLive(3, resumed=True, gap_s=0.5, planned=True)]
    plan.resumable("h3")
    assert plan.going_away(50, 20.0) == [ev.DropLive(3), ev.OpenLive(4, 0, "h3")]


def test_after_a_refusal_in_the_middle_of_a_turn_the_other_order_waits_for_its_end() -> None:
    """A close in mid answer would cut it."""
    plan = serving()
    plan.going_away(50, 10.0)
    plan.turn(Moment.AGENT, 10.1)
    assert plan.failed(2, CONFLICT, 10.2) == []
    assert plan.turn(Moment.IDLE, 11.0) == [ev.DropLive(1), ev.OpenLive(3, 0, "h1")]


def test_a_rotation_with_a_worthless_handle_is_repeated_without_one() -> None:
    """The old connection still serves, so there is time."""
    plan = serving()
    plan.going_away(50, 10.0)
    assert plan.failed(2, UNKNOWN_HANDLE, 10.2) == []
    assert plan.state is Live.READY
    assert plan.turn(Moment.IDLE, 10.3) == []
    assert plan.tick(10.2 + c.ROTATE_AGAIN_S) == [ev.OpenLive(3, 0, "")]


def test_our_own_clock_replaces_a_connection_before_its_end() -> None:
    """Some weeks the server forgets its GoAway. A parked session's age counts."""
    plan = Continuity(ContinuityRules(models=("a",), rotate_after_s=500))
    plan.begin(0.0)
    plan.opened(1, 60.0, 0.0)
    assert plan.deadline() == 440.0
    assert plan.tick(440.0) == [ev.OpenLive(2, 0)]


def test_a_lost_connection_is_resumed_at_once() -> None:
    """Nothing is waited for."""
    plan = serving()
    assert plan.broke(1, ABORTED, 20.0) == [ev.OpenLive(2, 0, "h1")]
    assert plan.state is Live.RESUMING
    assert plan.opened(2, 0.0, 20.25) == [ev.SwitchLive(2, resumed=True, gap_s=0.25)]


def test_what_the_server_choked_on_is_not_sent_again() -> None:
    """1007 in a session: the same audio would bring it about again."""
    plan = serving()
    plan.broke(1, Fault(Stage.SESSION, 1007), 20.0)
    (switch,) = plan.opened(2, 0.0, 20.3)
    assert isinstance(switch, ev.SwitchLive)
    assert not switch.replay


def test_a_connection_lost_while_the_next_one_is_ready_is_replaced_by_it() -> None:
    """The work is done already."""
    plan = serving()
    plan.going_away(50, 10.0)
    plan.turn(Moment.AGENT, 10.1)
    plan.opened(2, 0.0, 10.3)
    assert plan.broke(1, ABORTED, 11.0) == [ev.SwitchLive(2, resumed=True)]


def test_a_connection_lost_while_the_next_one_is_on_its_way_waits_for_it() -> None:
    """Two at once would be refused."""
    plan = serving()
    plan.going_away(50, 10.0)
    assert plan.broke(1, ABORTED, 10.0) == []
    assert plan.opened(2, 0.0, 10.25) == [ev.SwitchLive(2, resumed=True, gap_s=0.25)]


def test_a_refused_handle_makes_a_fresh_session() -> None:
    """At once: somebody is waiting."""
    plan = serving()
    plan.broke(1, ABORTED, 20.0)
    assert plan.failed(2, UNKNOWN_HANDLE, 20.1) == [ev.OpenLive(3, 0, "")]
    (switch,) = plan.opened(3, 0.0, 20.3)
    assert isinstance(switch, ev.SwitchLive)
    assert not switch.resumed


def test_a_handle_that_fails_twice_is_given_up() -> None:
    """Whatever the reason."""
    plan = serving()
    plan.broke(1, ABORTED, 20.0)
    assert plan.failed(2, CONFLICT, 20.1) == [ev.OpenLive(3, 0, "")]


def test_a_provider_that_is_down_is_tried_with_growing_pauses_and_then_given_up() -> None:
    """The caller waits no longer than the limit."""
    plan = serving(handle="")
    now, opened = 20.0, 1
    effects = plan.broke(1, ABORTED, now)
    while not isinstance(effects[-1], ev.LiveGone):
        (opening,) = effects
        assert isinstance(opening, ev.OpenLive)
        opened = opening.connection
        effects = plan.failed(opened, DOWN, now)
        if not effects:
            due = plan.deadline()
            assert due is not None
            now = due
            effects = plan.tick(now)
    assert plan.state is Live.GONE
    assert 3 <= opened <= 10
    assert now <= 20.0 + c.RECOVER_WITHIN_S
    assert plan.deadline() is None


def test_another_model_is_tried_without_the_handle_of_the_first() -> None:
    """A handle is a model's own."""
    plan = serving(ContinuityRules(models=("a", "b")))
    plan.broke(1, ABORTED, 20.0)
    assert plan.failed(2, DOWN, 20.1) == [ev.OpenLive(3, 1, "")]


def test_the_same_model_elsewhere_keeps_the_handle() -> None:
    """A handle may be known in another place, and is tried once."""
    plan = serving(ContinuityRules(models=("a", "a")))
    plan.broke(1, Fault(Stage.SESSION, 1011, "You exceeded your current quota"), 20.0)
    assert plan.target == 1


def test_when_nothing_will_ever_be_accepted_nothing_is_tried() -> None:
    """Every target said no for good."""
    plan = Continuity(ContinuityRules(models=("a", "b")))
    plan.begin(0.0)
    assert plan.failed(1, FORBIDDEN, 0.1) == [ev.OpenLive(2, 1, "")]
    assert plan.failed(2, FORBIDDEN, 0.2) == [ev.LiveGone("unauthorized")]


def test_once_around_the_targets_there_is_a_pause() -> None:
    """And the hopeless ones are left out."""
    plan = Continuity(ContinuityRules(models=("a", "b")))
    plan.begin(0.0)
    plan.failed(1, DOWN, 0.1)
    assert plan.failed(2, DOWN, 0.2) == []
    due = plan.deadline()
    assert due is not None
    assert plan.tick(due) == [ev.OpenLive(3, 0, "")]


def test_a_mute_connection_is_closed_and_resumed_or_replaced() -> None:
    """The ladder of `StallWatch` decides which."""
    plan = serving()
    assert plan.mute(20.0, fresh=False) == [ev.DropLive(1), ev.OpenLive(2, 0, "h1")]
    plan.opened(2, 0.0, 20.2)
    assert plan.mute(23.0, fresh=True) == [ev.DropLive(2), ev.OpenLive(3, 0, "")]
    assert plan.mute(23.1, fresh=True) == []


def test_what_is_heard_of_other_connections_is_history() -> None:
    """Late news of a dropped one changes nothing."""
    plan = serving()
    assert plan.broke(7, ABORTED, 1.0) == []
    assert plan.failed(7, ABORTED, 1.0) == []
    assert plan.opened(7, 0.0, 1.0) == [ev.DropLive(7)]
    plan.going_away(50, 10.0)
    assert plan.broke(2, DOWN, 10.1) == []
    assert plan.state is Live.READY


def test_a_connection_that_answered_makes_the_next_failure_a_new_story() -> None:
    """Else a long call would give up handles in the end."""
    plan = serving()
    for connection in (1, 2, 3, 4):
        assert plan.broke(connection, ABORTED, 20.0 * connection)[0] == ev.OpenLive(connection + 1, 0, "h1")
        plan.opened(connection + 1, 0.0, 20.0 * connection + 0.2)
        plan.served()


def test_a_forced_rotation_that_failed_is_forced_again() -> None:
    """Time has run out, so no turn is waited for."""
    plan = serving()
    plan.turn(Moment.AGENT, 9.0)
    plan.going_away(5, 10.0)
    assert plan.tick(12.0) == [ev.OpenLive(2, 0, "h1")]
    plan.failed(2, DOWN, 12.1)
    assert plan.tick(12.1 + c.ROTATE_AGAIN_S) == [ev.OpenLive(3, 0, "h1")]
    assert plan.tick(99.0) == []


def test_timers_that_are_due_together_do_not_disturb_each_other() -> None:
    """A swap that is made takes the timers of the rest with it."""
    plan = serving(ContinuityRules(models=("a",), rotate_after_s=20))
    plan.turn(Moment.AGENT, 9.0)
    plan.going_away(5, 10.0)
    plan.tick(12.0)
    plan.failed(2, DOWN, 12.1)
    plan.going_away(0.0, 14.1)
    assert plan.tick(14.1) == [ev.OpenLive(3, 0, "h1")]


def broken_and_hanging() -> Continuity:
    """The connection broke, the next one hangs, and a second one is tried beside it."""
    plan = serving()
    assert plan.broke(1, ABORTED, 20.0) == [ev.OpenLive(2, 0, "h1")]
    assert plan.deadline() == 20.0 + c.HEDGE_S
    assert plan.tick(20.0 + c.HEDGE_S) == [ev.OpenLive(3, 0, "h1")]
    return plan


def test_a_setup_that_hangs_gets_a_second_try_beside_it() -> None:
    """Whichever is set up first serves, and the other is closed."""
    plan = broken_and_hanging()
    took_over = ev.SwitchLive(3, resumed=True, gap_s=2.0)
    assert plan.opened(3, 0.0, 22.0) == [ev.DropLive(2), took_over]
    assert plan.opened(2, 0.0, 22.1) == [ev.DropLive(2)], "it comes too late"


def test_a_slow_setup_may_still_win() -> None:
    """It was only slow."""
    plan = broken_and_hanging()
    assert plan.opened(2, 0.0, 21.6)[0] == ev.DropLive(3)
    assert plan.current == 2


def test_of_two_tries_one_may_fail() -> None:
    """A server may refuse two connections for one handle; the other is still on its way."""
    plan = broken_and_hanging()
    assert plan.failed(3, CONFLICT, 21.6) == []
    assert plan.opened(2, 0.0, 22.0) == [ev.SwitchLive(2, resumed=True, gap_s=2.0)]
    plan = broken_and_hanging()
    assert plan.failed(2, CONFLICT, 21.6) == []
    assert plan.failed(3, CONFLICT, 21.7) == [ev.OpenLive(4, 0, "")], "now both have failed"


def test_a_rotation_that_lost_its_old_connection_is_hedged_only_with_the_same_handle() -> None:
    """What the second try knows has to be what the first one knew."""
    plan = serving()
    plan.going_away(50, 10.0)
    assert plan.broke(1, ABORTED, 10.2) == []
    assert plan.tick(10.2 + c.HEDGE_S) == [ev.OpenLive(3, 0, "h1")]
    plan = serving()
    plan.going_away(50, 10.0)
    plan.resumable("h2")
    plan.broke(1, ABORTED, 10.2)
    assert plan.tick(10.2 + c.HEDGE_S) == []


def test_a_switch_names_its_target() -> None:
    """Each model has its own way with texts and tools."""
    plan = serving(ContinuityRules(models=("a", "b")))
    plan.broke(1, ABORTED, 20.0)
    plan.failed(2, DOWN, 20.1)
    assert plan.opened(3, 0.0, 20.5) == [ev.SwitchLive(3, resumed=False, target=1, gap_s=0.5)]
