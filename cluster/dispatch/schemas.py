"""The shapes of the API's answers, for its documentation and for programs that are made from it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """An answer; later versions may add members to any of them."""

    model_config = ConfigDict(extra="allow")


class Waiting(Answer):
    """What a queued call knows of its turn."""

    position: int | None = Field(None, description="Of a queued call: 1 is the tenant's next one")
    estimated_wait_s: float | None = Field(None, description="Of a queued call: at the pace of the last calls")
    waits_for: str | None = Field(None, description="Of a queued call: `result/reason`, as in a call's outcome")


class CallAccepted(Waiting):
    """A call that was admitted, is queued or is being ended."""

    call_id: str = Field(examples=["call_01k3v8m2q9x4t7z0c5b6n1d8hj"])
    state: str = Field(description="`starting`, `queued`, `ending` or `ended`")


class Cost(Answer):
    """Money."""

    usd: float
    usd_micros: int
    by_kind_usd_micros: dict[str, int] = Field(
        description="What it is made of: `model`, `trunk`, `livekit`, `tools`, as far as there is any"
    )


class OutcomeShape(Answer):
    """How a call ended and whose doing it was."""

    result: str = Field(description="`success`, `caller`, `carrier`, `model`, `policy` or `ours`")
    reason: str
    detail: str | None = None


class CallSummary(Waiting):
    """A call as a list shows it. Numbers are masked unless the key has the scope `admin`."""

    call_id: str
    state: str = Field(description="`queued`, `starting`, `dialling`, `ringing`, `answered` or `ended`")
    direction: str = Field(description="`inbound` or `outbound`")
    profile: str
    model: str | None = None
    to: str = ""
    from_: str = Field("", alias="from")
    started_at: str | None = Field(None, description="UTC, RFC 3339")
    ended_at: str | None = None
    answered_s: float | None = Field(None, description="Seconds from the start to the answer")
    duration_s: float | None = None
    talk_s: float | None = None
    cost: Cost
    outcome: OutcomeShape | None = None


class CallDetail(CallSummary):
    """A call with everything that is known of it."""

    legs: list[dict[str, Any]] = Field(description="The phone's connection: its state, and when it reached each")
    transcript: list[dict[str, Any]] = Field(description="`who`, `text`, `at_s`, `heard`")
    usage: dict[str, int] | None = Field(None, description="Tokens by modality")
    timings_ms: dict[str, float]
    quality: dict[str, float]
    recording_url: str | None = None
    events: list[dict[str, Any]] = Field(description="The timeline: `seq`, `kind`, `at_s`, and the kind's own members")


class CallList(Answer):
    """Calls, newest first."""

    calls: list[CallSummary]
    next_before: str | None = Field(description="Send as `before` to get the older ones; null if there are none")


class BudgetStanding(Answer):
    """One budget in one of its windows."""

    scope: str = Field(description="`tenant`, `campaign` or `profile`")
    name: str
    window: str = Field(description="`day`, `month` or `total`")
    time_zone: str = Field(description="Whose midnights begin the days and months")
    begins_at: float | None = Field(description="UTC seconds; null for `total`")
    ends_at: float | None
    cap_usd_micros: int
    spent_usd_micros: int = Field(description="By calls that have ended")
    held_usd_micros: int = Field(description="For calls that run")
    free_usd_micros: int
    mode: str = Field(description="`open`, `concise`, `priority` or `used-up`")


class BudgetList(Answer):
    """How every budget stands."""

    budgets: list[BudgetStanding]


class QueuedCall(Waiting):
    """A call that can't start yet."""

    call_id: str
    tenant: str
    direction: str
    profile: str
    campaign: str
    priority: int
    number: str = Field(description="Masked")
    waited_s: float
    expires_in_s: float = Field(description="It is given up if it can't start by then")


class QueueList(Answer):
    """Calls that wait, in the order of their arrival."""

    calls: list[QueuedCall]


class PooledProfile(Answer):
    """The parked actors of a profile."""

    profile: str
    baseline: int = Field(description="As `RINGMASTER_PARKED` says")
    wanted: int = Field(description="As many as came while one actor starts, at the worst of the last minutes")
    parked: int
    parking: int = Field(description="Their Live sessions are being set up")
    calls_per_minute: float
    lent_warm: int = Field(description="Calls that found one parked, since the pool's start")
    lent_cold: int = Field(description="Calls that did not")


class PoolNode(Answer):
    """A node that call actors run on."""

    node: str = Field(description="Ray's id of it")
    call_slots: int | None = Field(description="null: the node is gone, or was not seen yet")
    live: int
    waiting: int
    draining: bool = Field(description="It ends with its last call")
    leaving: bool = Field(description="It drains or is not needed: nothing is parked there, and no call begins")


class Use(Answer):
    """How much there is of something, and how much there may be."""

    now: int
    most: int | None = Field(description="null: not limited")


class PoolView(Answer):
    """The call actors."""

    profiles: list[PooledProfile]
    nodes: list[PoolNode]
    start_s: float = Field(description="From asking for a new actor until it is parked, on average")
    actors: Use
    sessions: Use = Field(
        description="Live sessions, those of calls included; `most` is the policy's `gemini_sessions`"
    )
    memory_mb: Use = Field(description="Of all call processes (PSS); `most` is `RINGMASTER_POOL_MEMORY_MB`")


class ProblemDocument(Answer):
    """RFC 9457."""

    type: str = Field(examples=["/docs/problems/over-capacity"])
    title: str
    status: int
    detail: str
    instance: str
    reason: str | None = Field(None, description="`result/reason`, as in a call's outcome")
    retry_after_s: float | None = None
    errors: list[dict[str, str]] | None = Field(None, description="`pointer` (RFC 6901) or `parameter`, and `detail`")
