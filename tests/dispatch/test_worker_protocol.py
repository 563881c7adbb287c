"""The worker protocol, message by message, against the server's own message types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol import agent as pb
from livekit.protocol.models import ParticipantInfo, Room

from cluster.dispatch import worker_protocol as w
from cluster.dispatch.requests import Arrival

JOB = pb.Job(
    id="AJ_1",
    agent_name="gemini-sip-agent",
    metadata='{"profile": "reminder"}',
    room=Room(sid="RM_1", name="call-1"),
    attributes={"a": "1"},
    participant=ParticipantInfo(attributes={"b": "2"}),
)
SAME_JOB = w.Job(
    "AJ_1",
    "gemini-sip-agent",
    Arrival(room="call-1", room_sid="RM_1", metadata='{"profile": "reminder"}', attributes={"a": "1", "b": "2"}),
)


def opened() -> w.WorkerProtocol:
    """A connection on which nothing was said."""
    return w.WorkerProtocol("gemini-sip-agent", "1.0")


def ready() -> w.WorkerProtocol:
    """A connection on which we are registered."""
    protocol = opened()
    protocol.register()
    protocol.receive(pb.ServerMessage(register=pb.RegisterWorkerResponse(worker_id="AW_1")).SerializeToString())
    return protocol


def sent(frame: bytes) -> pb.WorkerMessage:
    """What LiveKit reads."""
    return pb.WorkerMessage.FromString(frame)


def test_registering() -> None:
    """The first message names the agent, asks for room jobs, and is answered with our id."""
    protocol = opened()
    message = sent(protocol.register()).register
    assert (message.type, message.agent_name, message.version) == (pb.JT_ROOM, "gemini-sip-agent", "1.0")
    assert message.allowed_permissions.can_publish
    answer = pb.ServerMessage(register=pb.RegisterWorkerResponse(worker_id="AW_1"))
    assert protocol.receive(answer.SerializeToString()) == w.Registered("AW_1")
    assert protocol.state is w.State.READY


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (pb.ServerMessage(availability=pb.AvailabilityRequest(job=JOB)), w.Offered(SAME_JOB)),
        (pb.ServerMessage(assignment=pb.JobAssignment(job=JOB, token="secret")), w.Assigned(SAME_JOB)),
        (pb.ServerMessage(termination=pb.JobTermination(job_id="AJ_1")), w.Terminated("AJ_1")),
        (pb.ServerMessage(go_away=pb.AgentHttp.GoAway(reason="drain")), w.GoAway("drain")),
        (pb.ServerMessage(pong=pb.WorkerPong()), w.Ignored()),
        (pb.ServerMessage(), w.Ignored()),
    ],
)
def test_what_the_server_says(message: pb.ServerMessage, event: w.Event) -> None:
    """Each message becomes its event."""
    assert ready().receive(message.SerializeToString()) == event


def test_answers_to_an_offer() -> None:
    """Yes comes with the identity of our agent, no with nothing."""
    yes = sent(ready().accept("AJ_1", "agent-call_1")).availability
    no = sent(ready().decline("AJ_1")).availability
    assert (yes.job_id, yes.available, yes.participant_identity) == ("AJ_1", True, "agent-call_1")
    assert (no.job_id, no.available) == ("AJ_1", False)


def test_the_end_of_a_job() -> None:
    """It succeeded, or failed for a reason."""
    good = sent(ready().ended("AJ_1")).update_job
    bad = sent(ready().ended("AJ_1", "refused")).update_job
    assert (good.job_id, good.status, good.error) == ("AJ_1", pb.JS_SUCCESS, "")
    assert (bad.status, bad.error) == (pb.JS_FAILED, "refused")


def test_only_a_draining_worker_says_that_it_is_full() -> None:
    """A full one still gets offers, so that every caller gets an answer."""
    full = sent(ready().status(8, 8, draining=False)).update_worker
    draining = sent(ready().status(1, 8, draining=True)).update_worker
    assert (full.status, full.job_count) == (pb.WS_AVAILABLE, 8)
    assert (draining.status, draining.draining) == (pb.WS_FULL, True)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_load_never_reaches_the_limit(jobs: int, capacity: int) -> None:
    """LiveKit offers nothing at 0.7 or more."""
    assert 0 <= w.load(jobs, capacity) < w.FULL_LOAD


def test_load_grows_with_the_jobs() -> None:
    """So that the emptier worker gets more of them."""
    assert w.load(0, 8) == 0 < w.load(1, 8) < w.load(7, 8) < w.load(8, 8) == w.load(9, 8)


FRAMES = {
    w.Step.REGISTERED: pb.ServerMessage(register=pb.RegisterWorkerResponse()),
    w.Step.OFFERED: pb.ServerMessage(availability=pb.AvailabilityRequest(job=JOB)),
    w.Step.ASSIGNED: pb.ServerMessage(assignment=pb.JobAssignment(job=JOB)),
    w.Step.TERMINATED: pb.ServerMessage(termination=pb.JobTermination(job_id="AJ_1")),
    w.Step.GO_AWAY: pb.ServerMessage(go_away=pb.AgentHttp.GoAway()),
    w.Step.IGNORED: pb.ServerMessage(pong=pb.WorkerPong()),
}


@pytest.mark.parametrize("step", w.Step)
@pytest.mark.parametrize("state", w.State)
def test_what_the_table_does_not_have_raises_and_changes_nothing(state: w.State, step: w.Step) -> None:
    """Every step in every state: its place in the table, or an error."""
    protocol = opened()
    protocol.state = state

    def take() -> object:
        if step is w.Step.SEND_REGISTER:
            return protocol.register()
        if step is w.Step.SEND:
            return protocol.status(0, 1, draining=False)
        return protocol.receive(FRAMES[step].SerializeToString())

    if step in w.TRANSITIONS[state]:
        take()
        assert protocol.state is w.TRANSITIONS[state][step]
    else:
        with pytest.raises(w.ProtocolError, match="has no place"):
            take()
        assert protocol.state is state


def test_a_frame_that_is_no_message_is_an_error() -> None:
    """The connection is then no good."""
    with pytest.raises(w.ProtocolError, match="no ServerMessage"):
        ready().receive(b"\xff\xff\xff")
