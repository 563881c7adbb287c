"""The doctor: against a real livekit-server, the local Live endpoint and a real database, healthy and ill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.cli import check_ray
from cluster.doctor import EXAMINATIONS, Check, check_profiles, examine
from cluster.local.live import LiveEndpoint
from cluster.local.livekit_server import LivekitServer, ensure_binary
from cluster.local.scenario import SHIPPED
from cluster.settings import load_settings
from tests.test_settings import REQUIRED, VERTEX

NOWHERE = "127.0.0.1:9"


@pytest.fixture
async def environ(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The variables that lead to what is running."""
    async with LivekitServer(ensure_binary(print)) as livekit, LiveEndpoint(SHIPPED / "load.yaml") as live:
        yield {
            "LIVEKIT_URL": livekit.url,
            "LIVEKIT_API_KEY": livekit.api_key,
            "LIVEKIT_API_SECRET": livekit.api_secret,
            "GEMINI_API_KEY": "any",
            "GOOGLE_GEMINI_BASE_URL": live.url,
            "SSL_CERT_FILE": str(live.ca_file),
            "RINGMASTER_STATE_DIR": str(tmp_path / "state"),
        }


async def checks(environ: dict[str, str]) -> dict[str, Check]:
    """Every check by name."""
    return {check.name: check for check in await examine((*EXAMINATIONS, check_ray), environ)}


async def test_what_works_is_said_to_work_and_what_does_not_is_named(environ: dict[str, str]) -> None:
    """A healthy machine; then wrong keys; then nobody there: each with what to do, and without a key in any line."""
    found = await checks(environ)
    assert {name: check.ok for name, check in found.items()} == {
        "settings": True,
        "profiles": True,
        "livekit": True,
        "sip": None,
        "live": True,
        "database": True,
        "ray": None,
    }
    assert "no SIP service" in found["sip"].detail
    assert "gemini-3.8-live is set up in" in found["live"].detail

    found = await checks(
        environ | {"LIVEKIT_API_SECRET": "not-this-one-" * 3, "RINGMASTER_SIP_URL": f"http://{NOWHERE}"}
    )
    assert found["livekit"].ok is False
    assert "refuses the keys" in found["livekit"].detail
    assert "LIVEKIT_API_SECRET" in found["livekit"].fix
    assert found["sip"].ok is False
    assert "RINGMASTER_SIP_URL" in found["sip"].fix

    found = await checks(
        environ
        | {
            "LIVEKIT_URL": f"ws://{NOWHERE}",
            "GOOGLE_GEMINI_BASE_URL": f"https://{NOWHERE}",
            "DATABASE_URL": "sqlite:////dev/null/no.db",
        }
    )
    for name in ("livekit", "live", "database"):
        assert found[name].ok is False
        assert found[name].fix
    shown = repr(found)
    assert environ["LIVEKIT_API_SECRET"] not in shown
    assert "eyJ" not in shown


async def test_an_outbound_trunk_needs_a_sip_service(environ: dict[str, str]) -> None:
    """Without a trunk there is nothing to miss; with one it is a fault."""
    found = await checks(environ | {"RINGMASTER_OUTBOUND_TRUNK_ID": "ST_1"})
    assert found["sip"].ok is False
    assert "no SIP service" in found["sip"].detail


async def test_without_settings_nothing_else_is_tried() -> None:
    """The one line says which variables to set."""
    (check,) = await examine(EXAMINATIONS, {})
    assert check.ok is False
    assert "LIVEKIT_URL is not set" in check.detail


async def test_a_check_that_breaks_does_not_hide_the_others() -> None:
    """Its name and what it raised are told, without the token in it."""

    async def check_broken(_settings: object) -> Check:
        raise RuntimeError("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln")

    found = await examine((check_broken, check_profiles), REQUIRED)
    assert [check.ok for check in found] == [True, False, True]
    assert found[1].name == "broken"
    assert found[1].detail == "RuntimeError: token [removed]"


@pytest.mark.parametrize(
    ("profile", "environ", "detail"),
    [
        ("voice: Kor", {}, "profiles/a.yaml:2: voice: there is no voice 'Kor'"),
        ("model: gemini-live-2.5-flash", {}, "a: gemini-live-2.5-flash is not served by API key"),
        ("fallback: [{location: global}]", {}, "a: gemini-3.8-live@global is not served by API key"),
        ("model: gemini-3.1-flash-live-preview", VERTEX, "gemini-3.1-flash-live-preview is not served by Vertex AI"),
        ("voice: Kore", {"RINGMASTER_PARKED": "b=1"}, "there is no profile 'b'"),
        ("voice: Kore", {"RINGMASTER_DEFAULT_PROFILE": "c"}, "there is no profile 'c'"),
    ],
)
async def test_profiles_that_cant_be_served_are_found(
    tmp_path: Path, profile: str, environ: dict[str, str], detail: str
) -> None:
    """A wrong file, a model of the other backend, and names that lead nowhere."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "a.yaml").write_text(f"instructions: x\n{profile}\n")
    settings = load_settings(
        REQUIRED | {"RINGMASTER_DEFAULT_PROFILE": "a", "RINGMASTER_PROFILES_DIR": str(folder)} | environ
    )
    check = await check_profiles(settings)
    assert check.ok is False
    assert detail in check.detail
    assert check.fix
