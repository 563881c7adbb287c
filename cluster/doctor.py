"""What Ringmaster needs, tried out for real, and what to do where it does not work.

Each check connects, asks one harmless question and leaves nothing behind. It never shows a key or a token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from livekit import api
from livekit.api.sip_service import SipService
from livekit.protocol.room import ListRoomsRequest
from livekit.protocol.sip import ListSIPOutboundTrunkRequest
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from cluster.budget.prices import load_prices
from cluster.budget.tables import api_keys
from cluster.errors import PriceError, ProfileError, RingmasterError, SettingsError
from cluster.logs import redact
from cluster.models import load_models
from cluster.profiles import Profile, load_profiles
from cluster.settings import Settings, load_settings
from cluster.storage import open_engine, upgrade

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_WITHIN_S: Final = 10.0
REFUSES_KEYS: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one check found."""

    name: str
    ok: bool | None
    """None: not needed for what is configured."""
    detail: str
    fix: str = ""


Examination = Callable[[Settings], Awaitable[Check]]


async def examine(examinations: Sequence[Examination], environ: Mapping[str, str] | None = None) -> list[Check]:
    """Read the settings and, if they can be read, do all the checks at once. Never raises."""
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        return [Check(name="settings", ok=False, detail=str(error), fix="set the environment variables that are named")]
    found = await asyncio.gather(*(_finished(examination, settings) for examination in examinations))
    return [Check(name="settings", ok=True, detail=f"the Live API is reached by {_way(settings)}"), *found]


def _way(settings: Settings) -> str:
    return "Vertex AI" if settings.live.use_vertex else "API key"


async def _finished(examination: Examination, settings: Settings) -> Check:
    name = examination.__name__.removeprefix("check_")
    try:
        async with asyncio.timeout(2 * ANSWER_WITHIN_S):
            return await examination(settings)
    except TimeoutError:
        return Check(name=name, ok=False, detail=f"no answer within {2 * ANSWER_WITHIN_S:g} s")
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        return Check(name=name, ok=False, detail=redact(f"{type(error).__name__}: {error}"))


async def check_profiles(settings: Settings) -> Check:
    """They load, have prices, can be served by the configured backend, and those that are to be parked exist."""
    try:
        profiles = load_profiles(settings.profiles_dir, load_models())
        problems = [problem for profile in profiles.values() for problem in _unserved(profile, settings)]
    except (ProfileError, PriceError) as error:
        return Check(name="profiles", ok=False, detail=str(error), fix="mend the file at that line")
    wanted = {settings.dispatch.default_profile, *settings.pool.parked}
    problems += [f"there is no profile {name!r}" for name in sorted(wanted - profiles.keys())]
    if problems:
        fix = "set RINGMASTER_PROFILES_DIR, RINGMASTER_DEFAULT_PROFILE or RINGMASTER_PARKED, or change the profile"
        return Check(name="profiles", ok=False, detail="; ".join(problems), fix=fix)
    return Check(name="profiles", ok=True, detail=", ".join(profiles))


def _unserved(profile: Profile, settings: Settings) -> list[str]:
    models, backend = load_models(), settings.live.backend
    prices, today = load_prices(settings.budget.prices_file), datetime.now(UTC).date()
    problems = []
    for target in profile.targets():
        prices.rates(target.model, today)
        if backend not in models[target.model].backends or (target.location and backend != "vertex"):
            problems.append(f"{profile.name}: {target} is not served by {_way(settings)}")
    return problems


async def check_livekit(settings: Settings) -> Check:
    """The server answers and takes the keys."""
    livekit = settings.livekit
    began = time.monotonic()
    async with api.LiveKitAPI(livekit.url, livekit.api_key, livekit.api_secret.get_secret_value()) as client:
        try:
            await client.room.list_rooms(ListRoomsRequest())
        except (api.TwirpError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            return _livekit_failure("livekit", livekit.url, error)
    return Check(name="livekit", ok=True, detail=f"{livekit.url} answers in {_ms(began)} and takes the keys")


async def check_sip(settings: Settings) -> Check:
    """There is a SIP service; the trunk for outbound calls, if one is set, exists."""
    livekit, trunk = settings.livekit, settings.dispatch.outbound_trunk_id
    url = livekit.sip_url or livekit.url
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)) as http:
        sip = SipService(http, url, livekit.api_key, livekit.api_secret.get_secret_value())
        try:
            trunks = (await sip.list_outbound_trunk(ListSIPOutboundTrunkRequest())).items
        except api.TwirpError as error:
            if error.status in REFUSES_KEYS:
                return _livekit_failure("sip", url, error)
            fix = "start livekit-sip and give it and LiveKit the same Redis; without it there are no telephone calls"
            return Check(name="sip", ok=False if trunk else None, detail=f"no SIP service at {url}", fix=fix)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return _livekit_failure("sip", url, error)
    if trunk and trunk not in {item.sip_trunk_id for item in trunks}:
        fix = "set RINGMASTER_OUTBOUND_TRUNK_ID to one of `lk sip outbound list`"
        return Check(name="sip", ok=False, detail=f"there is no outbound trunk {trunk}", fix=fix)
    if not trunk:
        fix = "set RINGMASTER_OUTBOUND_TRUNK_ID to dial out"
        return Check(name="sip", ok=None, detail=f"answers; {len(trunks)} outbound trunks, none chosen", fix=fix)
    return Check(name="sip", ok=True, detail=f"answers; calls go out by {trunk}")


def _livekit_failure(name: str, url: str, error: Exception) -> Check:
    if isinstance(error, api.TwirpError) and error.status in REFUSES_KEYS:
        fix = "set LIVEKIT_API_KEY and LIVEKIT_API_SECRET to a pair that the server knows"
        return Check(name=name, ok=False, detail=f"{url} refuses the keys", fix=fix)
    detail = redact(f"no answer from {url}: {error or type(error).__name__}")
    fix = "set LIVEKIT_URL" if name == "livekit" else "set RINGMASTER_SIP_URL or LIVEKIT_URL"
    return Check(name=name, ok=False, detail=detail, fix=f"{fix} to where it listens, and see that it runs")


async def check_live(settings: Settings) -> Check:
    """The endpoint sets up a session for the default profile: key, model, voice and all."""
    from cluster.call.live import LiveUnavailable, make_client, open_session

    models = load_models()
    profile = load_profiles(settings.profiles_dir, models).get(settings.dispatch.default_profile)
    if profile is None:
        return Check(name="live", ok=None, detail="not tried: there is no default profile")
    began = time.monotonic()
    client = await asyncio.to_thread(make_client, settings.live)
    try:
        async with await open_session(client, profile, settings.live.setup_timeout_s):
            return Check(name="live", ok=True, detail=f"{profile.model} is set up in {_ms(began)}, by {_way(settings)}")
    except LiveUnavailable as error:
        fix = "check the key, the model's name, GOOGLE_GEMINI_BASE_URL and SSL_CERT_FILE"
        if settings.live.use_vertex:
            fix = "check the project, the location, the credentials, and that the Vertex AI API is enabled"
        return Check(name="live", ok=False, detail=redact(str(error)), fix=fix)
    finally:
        await client.aio.aclose()


async def check_database(settings: Settings) -> Check:
    """It opens, is at the newest migration and can be written."""
    return await asyncio.to_thread(_database, settings.database_url)


def _database(url: str) -> Check:
    fix = "set DATABASE_URL, or make the place writable"
    try:
        engine = open_engine(url)
        upgrade(engine)
        with engine.begin() as connection:
            connection.execute(delete(api_keys).where(api_keys.c.key_id == ""))
    except (RingmasterError, SQLAlchemyError, OSError) as error:
        return Check(name="database", ok=False, detail=redact(str(error).splitlines()[0]), fix=fix)
    shown = engine.url.render_as_string()
    engine.dispose()
    return Check(name="database", ok=True, detail=f"{shown} is up to date and can be written")


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


EXAMINATIONS: Final[Sequence[Examination]] = (check_profiles, check_livekit, check_sip, check_live, check_database)
"""All that needs no Ray."""
