"""A model that does not serve is not asked, but for a probe."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.budget.breaker import BREAKER, Breaker, BreakerEvent, BreakerRules, BreakerState
from cluster.budget.providers import Providers
from cluster.machine import IllegalTransition, step
from cluster.messages import LiveFault
from tests.budget.fakes import MODEL, ManualClock

RULES = BreakerRules()
CLOSED, OPEN, HALF_OPEN = BreakerState


def broken(now: float = 0.0) -> Breaker:
    """One that has just opened, for 5 s."""
    breaker = Breaker(RULES)
    for _ in range(RULES.faults):
        breaker.failed(now, 0.0)
    return breaker


def test_it_opens_after_so_many_faults_and_not_before() -> None:
    """Five, and then nobody asks for a while."""
    breaker = Breaker(RULES)
    for _ in range(4):
        breaker.failed(0.0, 0.0)
    assert (breaker.state, breaker.wait_s(0.0)) == (CLOSED, 0.0)
    breaker.failed(0.0, 0.0)
    assert (breaker.state, breaker.wait_s(0.0), breaker.wait_s(4.0), breaker.wait_s(9.0)) == (OPEN, 5.0, 1.0, 0.0)


def test_faults_far_apart_have_nothing_to_do_with_each_other() -> None:
    """The window slides."""
    breaker = Breaker(RULES)
    for now in (0.0, 10.0, 20.0, 30.0, 30.1, 40.1):
        breaker.failed(now, 0.0)
        assert breaker.state is CLOSED
    breaker.failed(40.2, 0.0)
    assert breaker.state is OPEN


def test_a_success_between_begins_the_count_anew() -> None:
    """Nine faults, and never five in a row."""
    breaker = Breaker(RULES)
    for _ in range(2):
        for _ in range(4):
            breaker.failed(0.0, 0.0)
        breaker.succeeded()
    breaker.failed(0.0, 0.0)
    assert breaker.state is CLOSED


def test_one_probe_is_let_through() -> None:
    """Whoever asks first when it is due; its success closes."""
    breaker = broken()
    breaker.ask(4.9)
    assert breaker.state is OPEN
    breaker.ask(5.0)
    assert (breaker.state, breaker.wait_s(5.0)) == (HALF_OPEN, 20.0)
    breaker.ask(6.0)
    assert breaker.wait_s(6.0) == 19.0
    breaker.succeeded()
    assert (breaker.state, breaker.wait_s(6.0)) == (CLOSED, 0.0)
    breaker.ask(6.0)
    assert breaker.state is CLOSED


def test_a_lost_probe_gives_its_place_to_another() -> None:
    """An actor that died with it tells nothing."""
    breaker = broken()
    breaker.ask(5.0)
    breaker.ask(25.0)
    assert (breaker.state, breaker.wait_s(25.0)) == (HALF_OPEN, 20.0)


def test_it_stays_open_ever_longer_up_to_a_minute() -> None:
    """Twice as long each time, up to twice of that by chance, and from the beginning after a success."""
    breaker, now, pauses = broken(), 0.0, []
    for jitter in (0.0, 1.0, 0.0, 1.0, 0.5):
        now += breaker.wait_s(now)
        breaker.ask(now)
        breaker.failed(now, jitter)
        pauses.append(breaker.wait_s(now))
    assert pauses == [10.0, 40.0, 30.0, 60.0, 45.0]
    breaker.succeeded()
    for _ in range(5):
        breaker.failed(now, 1.0)
    assert breaker.wait_s(now) == pytest.approx(10.0)


def test_what_fails_while_it_is_open_tells_nothing_new() -> None:
    """Callers who ring are let in all the same."""
    breaker = broken()
    breaker.failed(4.0, 1.0)
    assert (breaker.state, breaker.wait_s(4.0)) == (OPEN, 1.0)


def test_the_table_has_no_other_way() -> None:
    """A closed one needs no probe."""
    with pytest.raises(IllegalTransition):
        step(BREAKER, CLOSED, BreakerEvent.PROBE)


@given(st.lists(st.tuples(st.sampled_from(["fail", "ask", "succeed"]), st.floats(0, 40), st.floats(0, 1))))
def test_whatever_happens_somebody_is_let_through_within_a_minute(events: list[tuple[str, float, float]]) -> None:
    """It never shuts for ever, and never lets two probes through at the same time."""
    breaker = Breaker(RULES)
    probes: list[float] = []
    for (event, _, jitter), now in zip(events, itertools.accumulate(after for _, after, _ in events), strict=True):
        may_ask = breaker.wait_s(now) == 0.0
        was_closed = breaker.state is CLOSED
        if event == "fail":
            breaker.failed(now, jitter)
            probes.clear()
        elif event == "ask":
            breaker.ask(now)
            if may_ask and not was_closed:
                assert not probes or now - probes[-1] >= RULES.probe_within_s
                probes.append(now)
        else:
            breaker.succeeded()
            probes.clear()
            assert breaker.state is CLOSED
        assert 0.0 <= breaker.wait_s(now) <= RULES.pause_max_s


def fault(name: str = "quota", *, blames_provider: bool = True, model: str = MODEL) -> LiveFault:
    """What a call met."""
    return LiveFault(model=model, name=name, blames_provider=blames_provider)


def test_each_model_has_a_breaker_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """All faults are counted for the metrics, and only the provider's for the breaker; what changes is logged."""
    clock = ManualClock()
    providers = Providers(RULES, clock.now, lambda: 0.0)
    providers.failed([fault(), fault("bad-key", blames_provider=False)] * 4)
    assert providers.wait_s(MODEL) == 0.0
    providers.failed([fault(), fault(model="other@europe-west4")])
    assert (providers.wait_s(MODEL), providers.wait_s("other@europe-west4")) == (5.0, 0.0)
    assert "does not serve (quota)" in caplog.text
    assert providers.faults[MODEL, "bad-key"] == 4
    assert providers.states()[MODEL] == {"state": "open", "wait_s": 5.0}
    clock.advance(5.0)
    providers.ask(MODEL)
    assert providers.states()[MODEL]["state"] == "half-open"
    providers.succeeded(MODEL)
    providers.succeeded(MODEL)
    assert caplog.text.count("serves again") == 1
    assert providers.states()[MODEL] == {"state": "closed", "wait_s": 0.0}
