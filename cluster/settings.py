"""What an operator sets: one frozen tree, read once from the environment.

The docstring under a field is its documentation: `describe_settings()` makes the table of the README from it. An empty
variable is an unset one. A value that is wrong, or a RINGMASTER_ variable that does not exist, fails at the start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cluster.errors import SettingsError

PREFIX = "RINGMASTER_"
EXAMPLES = Path(__file__).with_name("examples")
PRICES = Path(__file__).with_name("budget") / "prices.yaml"
_PARKED = re.compile(r"[a-z0-9-]+=[0-9]+(,[a-z0-9-]+=[0-9]+)*")


def _url(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if not separator or not rest or scheme not in schemes:
            message = f"should be a URL that starts with {' or '.join(f'{s}://' for s in schemes)}"
            raise ValueError(message)
        return url.rstrip("/")

    return AfterValidator(check)


def _parked(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if not _PARKED.fullmatch(text.replace(" ", "")):
        raise ValueError("should be profile=count pairs with commas between, such as receptionist=2,reminder=1")
    return {name: int(count) for name, count in (pair.split("=") for pair in text.replace(" ", "").split(","))}


LivekitUrl = Annotated[str, _url("ws", "wss", "http", "https")]
WebUrl = Annotated[str, _url("http", "https")]
Home = Annotated[Path, AfterValidator(Path.expanduser)]
PositiveSeconds = Annotated[float, Field(gt=0)]
PositiveCount = Annotated[int, Field(gt=0)]
_G = TypeVar("_G", bound="_Group")


class _Group(BaseSettings):
    """Reads only what it is given, so that a test or a demo need not change the process's environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it by these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The variables come as arguments, under their own names."""
        return (init_settings,)


class LivekitSettings(_Group):
    """The LiveKit server that carries the calls."""

    url: LivekitUrl = Field(validation_alias="LIVEKIT_URL")
    """Where the server listens, such as wss://example.livekit.cloud."""
    api_key: str = Field(validation_alias="LIVEKIT_API_KEY")
    """Names the key pair; needs the grants for rooms, SIP and agents."""
    api_secret: SecretStr = Field(validation_alias="LIVEKIT_API_SECRET")
    """Signs every token and verifies every webhook."""
    sip_url: WebUrl | None = Field(default=None, validation_alias="RINGMASTER_SIP_URL")
    """The SIP API, where another host than LIVEKIT_URL serves it. LiveKit serves both on one host, hence none."""


class LiveSettings(_Group):
    """The Gemini Live endpoint, by API key or through Vertex AI."""

    api_key: SecretStr | None = Field(default=None, validation_alias="GEMINI_API_KEY")
    """Key of the Gemini Developer API; needed unless Vertex AI is used."""
    base_url: WebUrl | None = Field(default=None, validation_alias="GOOGLE_GEMINI_BASE_URL")
    """Another endpoint than Google's. It must speak TLS: the SDK has no other way."""
    use_vertex: bool = Field(default=False, validation_alias="GOOGLE_GENAI_USE_VERTEXAI")
    """True for Vertex AI; then GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION are needed."""
    project: str | None = Field(default=None, validation_alias="GOOGLE_CLOUD_PROJECT")
    """Project that Vertex AI bills."""
    location: str | None = Field(default=None, validation_alias="GOOGLE_CLOUD_LOCATION")
    """Region of Vertex AI, such as europe-west4, or `global`."""
    credentials_file: Home | None = Field(default=None, validation_alias="GOOGLE_APPLICATION_CREDENTIALS")
    """Service account for Vertex AI. None: what the machine has (application default credentials)."""
    ca_file: Home | None = Field(default=None, validation_alias="SSL_CERT_FILE")
    """Certificates to trust (PEM), for an endpoint with a CA of its own. None: the public ones."""
    setup_timeout_s: PositiveSeconds = Field(default=8, validation_alias="RINGMASTER_LIVE_SETUP_TIMEOUT_S")
    """Seconds until a session must be set up. The SDK itself waits for ever; a set-up takes about 1 s, 5 s when Google
    is slow, and a caller does not listen to silence for longer than this."""
    rotate_after_s: PositiveSeconds = Field(default=500, validation_alias="RINGMASTER_LIVE_ROTATE_AFTER_S")
    """Seconds after which a connection is replaced, between two turns. Google closes it after about 600, mostly with a
    GoAway 50 s before; in bad weeks without one at 523."""

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        if self.use_vertex and not (self.project and self.location):
            message = "Vertex AI needs GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION; set both"
            raise ValueError(message)
        if not self.use_vertex and not self.api_key:
            message = "GEMINI_API_KEY is not set; set it, or GOOGLE_GENAI_USE_VERTEXAI=true for Vertex AI"
            raise ValueError(message)
        return self

    @property
    def backend(self) -> Literal["developer", "vertex"]:
        """Which of the two services answers."""
        return "vertex" if self.use_vertex else "developer"


class DispatchSettings(_Group):
    """How calls reach agents."""

    agent_name: str = Field(default="gemini-sip-agent", validation_alias="RINGMASTER_AGENT_NAME")
    """What dispatch rules and `create_dispatch` call this agent; the name that existing rules for it use."""
    default_profile: str = Field(default="receptionist", validation_alias="RINGMASTER_DEFAULT_PROFILE")
    """Profile of a call that names none."""
    room_prefix: str = Field(default="call-", min_length=1, validation_alias="RINGMASTER_ROOM_PREFIX")
    """Start of the names of the rooms that Ringmaster makes, which tells them from others on the same server."""
    outbound_trunk_id: str | None = Field(default=None, validation_alias="RINGMASTER_OUTBOUND_TRUNK_ID")
    """LiveKit's id of the trunk that dials out (ST_…). None: outbound calls are refused."""
    ringing_timeout_s: PositiveSeconds = Field(default=30, le=80, validation_alias="RINGMASTER_RINGING_TIMEOUT_S")
    """Seconds a phone rings before the call counts as not answered. Voicemail takes over at 20 to 30 s in most
    networks; LiveKit allows no more than 80."""


class PoolSettings(_Group):
    """How many calls, and what is kept warm for them."""

    max_calls: PositiveCount = Field(default=8, validation_alias="RINGMASTER_MAX_CALLS")
    """Calls at once. A call takes about 0.1 core: eight leave half of a two-core machine to everything else."""
    parked: Annotated[Mapping[str, NonNegativeInt], BeforeValidator(_parked)] = Field(
        default={}, validation_alias="RINGMASTER_PARKED"
    )
    """Parked call actors per profile at least, such as receptionist=2,reminder=1; as many more are parked as the calls
    of the last minutes would have needed. Not set: two of the default profile, so that bursts of two start warm."""
    min_nodes: PositiveCount = Field(default=1, validation_alias="RINGMASTER_MIN_NODES")
    """Nodes for calls that are kept though fewer would do: the workers' `minReplicas`, on Kubernetes. Of two or more,
    none has all the parked actors, and the calls of one that is lost go on in another at once."""
    memory_mb: PositiveCount | None = Field(default=None, validation_alias="RINGMASTER_POOL_MEMORY_MB")
    """Megabytes (10^6 bytes) that all call processes may take together, some 120 each. Not set: no limit."""
    parked_max_age_s: PositiveSeconds = Field(default=60, le=500, validation_alias="RINGMASTER_PARKED_MAX_AGE_S")
    """Seconds after which a parked session is replaced. Idle sessions were seen to be closed from 86 s on, and the
    ten minutes of a connection run while it waits."""
    actor_max_calls: PositiveCount = Field(default=200, validation_alias="RINGMASTER_ACTOR_MAX_CALLS")
    """Calls after which a call process is replaced: often enough to bound any leak, seldom enough to cost nothing."""
    actor_max_age_s: PositiveSeconds = Field(default=86_400, validation_alias="RINGMASTER_ACTOR_MAX_AGE_S")
    """Seconds after which a call process is replaced: once a day."""
    actor_max_growth_mb: PositiveSeconds = Field(default=40, validation_alias="RINGMASTER_ACTOR_MAX_GROWTH_MB")
    """Megabytes (10^6 bytes) that a call process may have grown since its first call: 40 % of its size."""
    renew_every_s: PositiveSeconds = Field(default=0.5, validation_alias="RINGMASTER_RENEW_EVERY_S")
    """Seconds between a call's heartbeats; each settles the money used so far. After three that are missed, and one
    question that is not answered, another process takes the call over: 2.5 s of silence for the caller."""
    lease_ttl_s: PositiveSeconds = Field(default=15, validation_alias="RINGMASTER_LEASE_TTL_S")
    """Seconds without an answer to its heartbeats until a call ends itself: longer than `BudgetPool` needs to come back
    (5 s; 10 on a busy machine; with a new head pod two minutes). Its money is held ahead for as long, at least 15 s."""

    @model_validator(mode="after")
    def _lease_outlives_a_heartbeat(self) -> Self:
        if self.lease_ttl_s < 2 * self.renew_every_s:
            message = "RINGMASTER_LEASE_TTL_S: at least twice RINGMASTER_RENEW_EVERY_S, or a late one ends a call"
            raise ValueError(message)
        return self


class BudgetSettings(_Group):
    """How much may be spent."""

    daily_usd: Decimal = Field(
        default=Decimal(50), ge=0, decimal_places=6, validation_alias="RINGMASTER_DAILY_BUDGET_USD"
    )
    """US dollars per UTC day, of each tenant for which the policy has no daily budget. Five minutes of talk cost about
    0.21: the default is some 240 such calls, and what a mistake may cost before somebody looks."""
    concise_at: float = Field(default=0.7, gt=0, le=1, validation_alias="RINGMASTER_BUDGET_CONCISE_AT")
    """Share of a budget from which on agents are told to be brief: early enough for it to have an effect."""
    priority_at: float = Field(default=0.9, gt=0, le=1, validation_alias="RINGMASTER_BUDGET_PRIORITY_AT")
    """Share of a budget from which on only inbound calls and requests with a priority of 5 or more are admitted."""

    prices_file: Home = Field(default=PRICES, validation_alias="RINGMASTER_PRICES_FILE")
    """Table of prices (YAML), to add what carrier and LiveKit charge; `ringmaster prices check` says if it is right."""

    @property
    def daily_usd_micros(self) -> int:
        """The same in micro-dollars."""
        return int(self.daily_usd * 1_000_000)


class HttpSettings(_Group):
    """The HTTP API."""

    host: str = Field(default="127.0.0.1", validation_alias="RINGMASTER_HTTP_HOST")
    """Address to listen on. Loopback, since the API spends money: open it on purpose, behind TLS."""
    port: int = Field(default=8080, ge=1, le=65_535, validation_alias="RINGMASTER_HTTP_PORT")
    """Port to listen on; Ray's own default of 8000 is too often taken."""


class RaySettings(_Group):
    """The Ray cluster."""

    address: str | None = Field(default=None, validation_alias="RINGMASTER_RAY_ADDRESS")
    """Cluster to join: host:port or `auto`. Not set: RAY_ADDRESS, else a cluster is started on this machine."""
    dashboard: bool = Field(default=True, validation_alias="RINGMASTER_RAY_DASHBOARD")
    """Start Ray's own dashboard with a cluster on this machine. It takes about 120 MB."""
    dashboard_url: WebUrl = Field(default="http://127.0.0.1:8265", validation_alias="RINGMASTER_RAY_DASHBOARD_URL")
    """Ray's own dashboard as people's browsers reach it: where links to a call's actor lead. Ray's default on one
    machine."""


class Settings(_Group):
    """Everything. Frozen and picklable: it is handed to every actor."""

    livekit: LivekitSettings
    live: LiveSettings
    dispatch: DispatchSettings
    pool: PoolSettings
    budget: BudgetSettings
    http: HttpSettings
    ray: RaySettings
    state_dir: Home = Field(
        default=Path("~/.local/state/ringmaster"), validate_default=True, validation_alias="RINGMASTER_STATE_DIR"
    )
    """Folder for what must survive a restart on one machine: the database. The XDG place for state."""
    database_url: str = Field(default="", repr=False, validation_alias="DATABASE_URL")
    """SQLAlchemy URL: sqlite:///file or postgresql://…. Not set: ringmaster.db in the state folder, so that one
    machine needs nothing."""
    profiles_dir: Home = Field(default=EXAMPLES, validation_alias="RINGMASTER_PROFILES_DIR")
    """Folder of the profiles, one YAML file each. The examples that are shipped, until there are others."""
    policy_file: Home | None = Field(default=None, validation_alias="RINGMASTER_POLICY_FILE")
    """YAML file of limits on tenants, campaigns and trunks, of blocked numbers, calling hours and the queue. None:
    nothing is limited but by these settings."""
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", validation_alias="RINGMASTER_LOG_LEVEL"
    )
    """Least important level that is logged; `debug` also lets LiveKit and the HTTP libraries speak of themselves."""
    log_format: Literal["auto", "json", "console"] = Field(default="auto", validation_alias="RINGMASTER_LOG_FORMAT")
    """`json` for machines, `console` for people; `auto` is `console` on a terminal."""


class ClientSettings(_Group):
    """What the command line needs to reach a running Ringmaster."""

    url: WebUrl = Field(default="http://127.0.0.1:8080", validation_alias="RINGMASTER_URL")
    """The HTTP API, for the command line. Where `ringmaster up` listens by default."""
    api_key: SecretStr | None = Field(default=None, validation_alias="RINGMASTER_API_KEY")
    """Key for the HTTP API, for the command line; `ringmaster key create` makes one."""


class Variable(NamedTuple):
    """One environment variable, for documentation."""

    name: str
    default: str
    """Empty where the variable is required or has none."""
    meaning: str


ELSEWHERE = (
    Variable(
        "RINGMASTER_CACHE_DIR", "~/.cache/ringmaster", "Folder for what is built once: livekit-server, for the demo."
    ),
)
"""What the embedded stack reads, of which production code knows nothing else."""

_GROUPS: Mapping[str, type[_Group]] = {
    "livekit": LivekitSettings,
    "live": LiveSettings,
    "dispatch": DispatchSettings,
    "pool": PoolSettings,
    "budget": BudgetSettings,
    "http": HttpSettings,
    "ray": RaySettings,
}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment, by default the process's. Raises `SettingsError`: one line that names what to set."""
    given = _given(environ)
    _refuse_unknown(given)
    given = _derived_defaults(given) | given
    groups: dict[str, _Group] = {}
    problems: list[str] = []
    for name, group in _GROUPS.items():
        try:
            groups[name] = _read(group, given)
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("; ".join(problems))
    return _read(Settings, groups | given)


def database_url(environ: Mapping[str, str] | None = None) -> str:
    """Where the database is, for a command that needs nothing else."""
    given = _given(environ)
    return (_derived_defaults(given) | given)["DATABASE_URL"]


def prices_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where the table of prices is, for a command that needs nothing else."""
    return Path(_given(environ).get("RINGMASTER_PRICES_FILE") or PRICES).expanduser()


def profiles_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where the profiles are, for a command that needs nothing else."""
    return Path(_given(environ).get("RINGMASTER_PROFILES_DIR", EXAMPLES)).expanduser()


def load_client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """What the command line needs. Raises `SettingsError`."""
    return _read(ClientSettings, _given(environ))


def describe_settings() -> Iterator[Variable]:
    """Every variable, in the order of this file."""
    groups: tuple[type[_Group], ...] = (*_GROUPS.values(), Settings, ClientSettings)
    for group in groups:
        for name, field in _variables(group).items():
            yield Variable(name, _shown(field), " ".join((field.description or "").split()))
    yield from ELSEWHERE


_SHIPPED = {EXAMPLES: "the shipped examples", PRICES: "the shipped table"}


def _shown(field: FieldInfo) -> str:
    default = field.default
    if field.is_required() or default in (None, "", {}):
        return ""
    if default in _SHIPPED:
        return _SHIPPED[default]
    return str(default).lower() if isinstance(default, bool) else str(default)


def _given(environ: Mapping[str, str] | None) -> dict[str, str]:
    return {name: text for name, text in (os.environ if environ is None else environ).items() if text}


def _derived_defaults(given: Mapping[str, str]) -> dict[str, str]:
    """Defaults that follow from other settings."""
    profile = given.get("RINGMASTER_DEFAULT_PROFILE") or DispatchSettings.model_fields["default_profile"].default
    folder = Path(given.get("RINGMASTER_STATE_DIR") or Settings.model_fields["state_dir"].default).expanduser()
    defaults = {"RINGMASTER_PARKED": f"{profile}=2", "DATABASE_URL": f"sqlite:///{folder}/ringmaster.db"}
    return defaults | ({"RINGMASTER_RAY_ADDRESS": given["RAY_ADDRESS"]} if "RAY_ADDRESS" in given else {})


def _variables(group: type[_Group]) -> dict[str, FieldInfo]:
    fields = group.model_fields.values()
    return {field.validation_alias: field for field in fields if isinstance(field.validation_alias, str)}


def _refuse_unknown(given: Mapping[str, str]) -> None:
    known = {variable.name for variable in describe_settings()}
    for name in sorted(given):
        if name.startswith(PREFIX) and name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "`ringmaster settings` lists those that exist"
            raise SettingsError(f"{name} is not a setting; {hint}")


def _read(group: type[_G], given: Mapping[str, Any]) -> _G:
    own = {name: given[name] for name in (*_variables(group), *_GROUPS) if name in given}
    try:
        return group(**own)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise SettingsError("; ".join(map(_problem, details))) from None


def _problem(detail: ErrorDetails) -> str:
    """One problem with one variable; never its value, which may be a secret."""
    if detail["type"] == "missing":
        return f"{detail['loc'][0]} is not set"
    if detail["type"] == "value_error":
        reason = str(detail["ctx"]["error"])
        return f"{detail['loc'][0]} {reason}" if detail["loc"] else reason
    return f"{detail['loc'][0]}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
