"""LiveKit's agent-worker protocol without I/O: bytes in, events out; wishes in, bytes out.

Rules of this file:
1. It reads no clock and opens no socket; one `WorkerProtocol` is one connection.
2. What the table does not have for the state raises `ProtocolError` and changes nothing; the connection is then no
   good and its owner opens another.
3. `Terminated` is not a hang-up: LiveKit sends it too when an agent rejoins under its own identity.

Sources: livekit-server 1.11.0, run and read. It needs `register` within 10 s of the connection, gives a job to nobody
else when an answer comes after 3 s, and offers nothing at all to a worker whose load is 0.7 or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from google.protobuf.message import DecodeError, Message
from livekit.protocol import agent as pb
from livekit.protocol.models import ParticipantPermission

from cluster.dispatch.requests import Arrival

FULL_LOAD: Final = 0.7
"""LiveKit's `agents.target_load`: from here on a worker gets no offers."""
HIGHEST_LOAD: Final = 0.69
"""What a full worker reports, so that it can still give every caller a final answer."""


class ProtocolError(Exception):
    """The other side, or our own, said something that has no place in the conversation."""


class State(StrEnum):
    """Where the conversation stands."""

    OPENED = "opened"
    REGISTERING = "registering"
    READY = "ready"


class Step(StrEnum):
    """What moves the conversation."""

    SEND_REGISTER = "send-register"
    REGISTERED = "registered"
    OFFERED = "offered"
    ASSIGNED = "assigned"
    TERMINATED = "terminated"
    GO_AWAY = "go-away"
    IGNORED = "ignored"
    SEND = "send"


_READY: Final = State.READY
TRANSITIONS: Final[Mapping[State, Mapping[Step, State]]] = {
    State.OPENED: {Step.SEND_REGISTER: State.REGISTERING},
    State.REGISTERING: {Step.REGISTERED: _READY, Step.GO_AWAY: State.REGISTERING, Step.IGNORED: State.REGISTERING},
    State.READY: {
        Step.OFFERED: _READY,
        Step.ASSIGNED: _READY,
        Step.TERMINATED: _READY,
        Step.GO_AWAY: _READY,
        Step.IGNORED: _READY,
        Step.SEND: _READY,
    },
}


@dataclass(frozen=True, slots=True)
class Registered:
    """The server knows us and may offer jobs from now on."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Job:
    """One wish of LiveKit's for an agent in a room."""

    job_id: str
    agent_name: str
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Offered:
    """The server asks whether we take a job. It waits 3 s at most and asks nobody else."""

    job: Job


@dataclass(frozen=True, slots=True)
class Assigned:
    """The job is ours. The token is left unread: one of our own joins exactly as well."""

    job: Job


@dataclass(frozen=True, slots=True)
class Terminated:
    """The server sees no more of this job: the room is closed, its dispatch deleted, or its agent has rejoined."""

    job_id: str


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server wants us to connect anew."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that asks nothing of us, or that a later version of the protocol has."""


Event = Registered | Offered | Assigned | Terminated | GoAway | Ignored

_STEP_OF: Final[Mapping[type[Event], Step]] = {
    Registered: Step.REGISTERED,
    Offered: Step.OFFERED,
    Assigned: Step.ASSIGNED,
    Terminated: Step.TERMINATED,
    GoAway: Step.GO_AWAY,
    Ignored: Step.IGNORED,
}


@dataclass(slots=True)
class WorkerProtocol:
    """One connection of one worker."""

    agent_name: str
    version: str
    state: State = field(default=State.OPENED, init=False)

    def register(self) -> bytes:
        """The first message, to be sent at once."""
        self._step(Step.SEND_REGISTER)
        allowed = ParticipantPermission(
            can_subscribe=True, can_publish=True, can_publish_data=True, can_update_metadata=True, agent=True
        )
        message = pb.RegisterWorkerRequest(
            type=pb.JT_ROOM, agent_name=self.agent_name, version=self.version, allowed_permissions=allowed
        )
        return _frame(pb.WorkerMessage(register=message))

    def receive(self, frame: bytes) -> Event:
        """What a frame of the server's means. Raises `ProtocolError`."""
        try:
            message = pb.ServerMessage.FromString(frame)
        except DecodeError:
            raise ProtocolError("LiveKit sent a frame that is no ServerMessage") from None
        event = _event(message)
        self._step(_STEP_OF[type(event)])
        return event

    def accept(self, job_id: str, identity: str) -> bytes:
        """Take an offered job, as a participant with this identity."""
        self._step(Step.SEND)
        answer = pb.AvailabilityResponse(job_id=job_id, available=True, participant_identity=identity)
        return _frame(pb.WorkerMessage(availability=answer))

    def decline(self, job_id: str) -> bytes:
        """Leave an offered job to another worker; without one, LiveKit drops it."""
        self._step(Step.SEND)
        return _frame(pb.WorkerMessage(availability=pb.AvailabilityResponse(job_id=job_id, available=False)))

    def status(self, jobs: int, capacity: int, *, draining: bool) -> bytes:
        """How busy this worker is. Only a draining one says that it is full: it then gets no more offers."""
        self._step(Step.SEND)
        status = pb.UpdateWorkerStatus(
            status=pb.WS_FULL if draining else pb.WS_AVAILABLE,
            load=load(jobs, capacity),
            job_count=jobs,
            draining=draining,
        )
        return _frame(pb.WorkerMessage(update_worker=status))

    def ended(self, job_id: str, error: str = "") -> bytes:
        """A job is over: with success, or with `error`, which holds no personal data."""
        self._step(Step.SEND)
        status = pb.JS_FAILED if error else pb.JS_SUCCESS
        return _frame(pb.WorkerMessage(update_job=pb.UpdateJobStatus(job_id=job_id, status=status, error=error)))

    def _step(self, step: Step) -> None:
        try:
            self.state = TRANSITIONS[self.state][step]
        except KeyError:
            raise ProtocolError(f"{step} has no place in a connection that is {self.state}") from None


def load(jobs: int, capacity: int) -> float:
    """From 0 to `HIGHEST_LOAD`: LiveKit spreads offers over workers by it."""
    return round(HIGHEST_LOAD * min(1.0, jobs / max(1, capacity)), 4)


def _frame(message: Message) -> bytes:
    return message.SerializeToString()


def _event(message: pb.ServerMessage) -> Event:
    match message.WhichOneof("message"):
        case "register":
            return Registered(message.register.worker_id)
        case "availability":
            return Offered(_job(message.availability.job))
        case "assignment":
            return Assigned(_job(message.assignment.job))
        case "termination":
            return Terminated(message.termination.job_id)
        case "go_away":
            return GoAway(message.go_away.reason)
        case _:
            return Ignored()


def _job(job: pb.Job) -> Job:
    attributes = dict(job.attributes) | dict(job.participant.attributes)
    arrival = Arrival(room=job.room.name, room_sid=job.room.sid, metadata=job.metadata, attributes=attributes)
    return Job(job.id, job.agent_name, arrival)
