"""Settings: what the environment gives, and one clear line for what it gives wrongly."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from cluster.errors import SettingsError
from cluster.settings import describe_settings, load_client_settings, load_settings

REQUIRED = {
    "LIVEKIT_URL": "wss://livekit.example",
    "LIVEKIT_API_KEY": "key-id",
    "LIVEKIT_API_SECRET": "very-secret",
    "GEMINI_API_KEY": "also-secret",
}
VERTEX = {
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_CLOUD_PROJECT": "a-project",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
}


def test_four_variables_are_enough() -> None:
    """With the required variables alone every other setting has its default."""
    settings = load_settings(REQUIRED)
    assert settings.livekit.url == "wss://livekit.example"
    assert settings.live.backend == "developer"
    assert settings.dispatch.agent_name == "gemini-sip-agent"
    assert settings.pool.max_calls == 8
    assert settings.budget.daily_usd_micros == 50_000_000
    assert settings.profiles_dir.joinpath("receptionist.yaml").is_file()


def test_values_are_read_from_their_variables() -> None:
    """Every kind of value arrives as what it is."""
    settings = load_settings(
        REQUIRED
        | VERTEX
        | {
            "RINGMASTER_PARKED": "receptionist=2, reminder=0",
            "RINGMASTER_DAILY_BUDGET_USD": "0.000001",
            "RINGMASTER_STATE_DIR": "~/rm",
            "RINGMASTER_HTTP_PORT": "9",
            "RINGMASTER_SIP_URL": "http://127.0.0.1:5000/",
            "RINGMASTER_RAY_DASHBOARD": "false",
        }
    )
    assert settings.live.backend == "vertex"
    assert settings.pool.parked == {"receptionist": 2, "reminder": 0}
    assert settings.budget.daily_usd == Decimal("0.000001")
    assert settings.budget.daily_usd_micros == 1
    assert settings.state_dir == Path.home() / "rm"
    assert settings.database_url == f"sqlite:///{Path.home()}/rm/ringmaster.db"
    assert settings.livekit.sip_url == "http://127.0.0.1:5000"
    assert settings.ray.dashboard is False


def test_the_default_profile_is_parked_by_default() -> None:
    """What is parked follows the default profile, unless it is said."""
    assert load_settings(REQUIRED).pool.parked == {"receptionist": 2}
    named = REQUIRED | {"RINGMASTER_DEFAULT_PROFILE": "reminder"}
    assert load_settings(named).pool.parked == {"reminder": 2}


def test_rays_own_variable_names_the_cluster() -> None:
    """RAY_ADDRESS counts where Ringmaster's own variable is not set."""
    there = REQUIRED | {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert load_settings(there).ray.address == "10.0.0.1:6379"
    assert load_settings(there | {"RINGMASTER_RAY_ADDRESS": "auto"}).ray.address == "auto"
    assert load_settings(REQUIRED).ray.address is None


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's environment is read only where none is given."""
    monkeypatch.setenv("RINGMASTER_HTTP_PORT", "1234")
    assert load_settings(REQUIRED).http.port == 8080
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    assert load_settings().http.port == 1234


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LIVEKIT_URL": ""}, "LIVEKIT_URL is not set"),
        ({"LIVEKIT_URL": "livekit.example"}, "LIVEKIT_URL should be a URL that starts with ws:// or wss://"),
        ({"GEMINI_API_KEY": ""}, "GEMINI_API_KEY is not set; set it, or GOOGLE_GENAI_USE_VERTEXAI=true"),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "1"}, "Vertex AI needs GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION"),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "perhaps"}, "GOOGLE_GENAI_USE_VERTEXAI: input should be a valid boolean"),
        ({"RINGMASTER_HTTP_PORT": "http"}, "RINGMASTER_HTTP_PORT: input should be a valid integer"),
        ({"RINGMASTER_HTTP_PORT": "70000"}, "RINGMASTER_HTTP_PORT: input should be less than or equal to 65535"),
        ({"RINGMASTER_MAX_CALLS": "0"}, "RINGMASTER_MAX_CALLS: input should be greater than 0"),
        ({"RINGMASTER_PARKED": "receptionist"}, "RINGMASTER_PARKED should be profile=count pairs"),
        ({"RINGMASTER_LEASE_TTL_S": "nan"}, "RINGMASTER_LEASE_TTL_S: input should be a finite number"),
        ({"RINGMASTER_LEASE_TTL_S": "0.9"}, "RINGMASTER_LEASE_TTL_S: at least twice RINGMASTER_RENEW_EVERY_S"),
        ({"RINGMASTER_LOG_LEVEL": "loud"}, "RINGMASTER_LOG_LEVEL: input should be 'debug', 'info'"),
        (
            {"RINGMASTER_DAILY_BUDGET_USD": "0.0000001"},
            "RINGMASTER_DAILY_BUDGET_USD: decimal input should have no more",
        ),
        ({"RINGMASTER_HTTP_PRT": "1"}, "RINGMASTER_HTTP_PRT is not a setting; did you mean RINGMASTER_HTTP_PORT?"),
        ({"RINGMASTER_QQQQQQQQQQQQQ": "1"}, "is not a setting; `ringmaster settings` lists those that exist"),
    ],
)
def test_one_line_says_what_to_mend(changes: dict[str, str], message: str) -> None:
    """A wrong value is refused at once, by the name of its variable and without the value."""
    with pytest.raises(SettingsError) as refused:
        load_settings(REQUIRED | changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_that_is_missing_is_named_at_once() -> None:
    """An empty environment takes one attempt to mend, not four."""
    with pytest.raises(SettingsError) as refused:
        load_settings({})
    for name in REQUIRED:
        assert name in str(refused.value)


def test_a_wrong_secret_is_not_shown() -> None:
    """Neither an error nor a repr holds a secret, not even one in the wrong variable."""
    with pytest.raises(SettingsError) as refused:
        load_settings(REQUIRED | {"LIVEKIT_URL": "hunter2", "RINGMASTER_HTTP_PORT": "hunter2"})
    assert "hunter2" not in str(refused.value)
    shown = repr(load_settings(REQUIRED | {"DATABASE_URL": "postgresql://me:hunter2@db/calls"}))
    assert "secret" not in shown.replace("api_secret", "")
    assert "hunter2" not in shown


def test_settings_travel_to_other_processes() -> None:
    """What an actor unpickles is what the driver read, secrets included, and can't be changed."""
    settings = load_settings(REQUIRED)
    there = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own bytes
    assert there == settings
    assert there.livekit.api_secret.get_secret_value() == "very-secret"
    with pytest.raises(ValueError, match="frozen"):
        there.livekit.url = "ws://elsewhere"


def test_the_command_line_needs_no_livekit() -> None:
    """A client of the API reads its own two variables only."""
    settings = load_client_settings({"RINGMASTER_URL": "https://calls.example/", "RINGMASTER_API_KEY": "rm_x"})
    assert settings.url == "https://calls.example"
    assert settings.api_key is not None
    assert load_client_settings({}).url == "http://127.0.0.1:8080"


def test_every_variable_is_documented() -> None:
    """Each has a meaning, and each that is ours carries our prefix or is a standard one."""
    variables = list(describe_settings())
    assert len({variable.name for variable in variables}) == len(variables)
    assert all(variable.meaning for variable in variables)
    ours = {variable.name for variable in variables if variable.name.startswith("RINGMASTER_")}
    assert {variable.name for variable in variables} - ours == REQUIRED.keys() | VERTEX.keys() | {
        "DATABASE_URL",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_GEMINI_BASE_URL",
        "SSL_CERT_FILE",
    }


def test_the_readme_lists_them_all() -> None:
    """Its table is made of the docstrings, so it can't go astray."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    missing = [
        v.name for v in describe_settings() if f"| `{v.name}` | {_code(v.default)} | {v.meaning} |" not in readme
    ]
    assert missing == []


def _code(default: str) -> str:
    return f"`{default}`" if default and " " not in default else default
