"""The command line, as far as it needs no Ray: a client of the HTTP API, and the keys in the database.

`actors.cli` adds what starts or examines a cluster. Exit codes: 0 as wished, 1 it went wrong, 2 the input is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cluster import __version__
from cluster.client import Client
from cluster.errors import InputError, RingmasterError
from cluster.records.timeline import timeline, without_words
from cluster.settings import database_url, describe_settings, load_client_settings, prices_file, profiles_dir
from cluster.show import calls_table, columns, console, facts, progress, show, utc

if TYPE_CHECKING:
    from cluster.doctor import Check

app = typer.Typer(
    name="ringmaster",
    help="AI phone calls on Ray, LiveKit and Gemini Live.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="API keys, straight in the database that DATABASE_URL names.", no_args_is_help=True)
app.add_typer(keys, name="key")
manifests = typer.Typer(help="The manifest of a cluster on KubeRay.", no_args_is_help=True)
app.add_typer(manifests, name="manifest")
prices = typer.Typer(help="The table of prices.", no_args_is_help=True)
app.add_typer(prices, name="prices")
books = typer.Typer(help="The ledger, straight in the database that DATABASE_URL names.", no_args_is_help=True)
app.add_typer(books, name="ledger")
policies = typer.Typer(help="The operator's policy: who may call, how much, when.", no_args_is_help=True)
app.add_typer(policies, name="policy")

Url = Annotated[str | None, typer.Option("--url", help="Where the API is [RINGMASTER_URL].", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
CallId = Annotated[str, typer.Argument(help="As `ringmaster calls` shows it.", show_default=False)]


def run(application: typer.Typer) -> None:
    """Run the command line; a person never sees a traceback for what was wrong with the input."""
    try:
        application()
    except RingmasterError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the command line's own output
        sys.exit(2 if isinstance(error, InputError) else 1)


@app.command()
def call(
    to: Annotated[str, typer.Argument(help="Number to dial, E.164, such as +15551230001.", show_default=False)],
    *,
    profile: Annotated[str, typer.Option(help="Which agent speaks.", show_default=False)],
    from_: Annotated[str | None, typer.Option("--from", help="Number to show, one of the trunk's.")] = None,
    context: Annotated[list[str] | None, typer.Option(help="name=text for a {variable} of the profile.")] = None,
    priority: Annotated[int, typer.Option(help="0 to 9; higher is served first.")] = 0,
    max_duration_s: Annotated[float | None, typer.Option(help="Seconds; tightens the profile's limit.")] = None,
    max_cost_usd: Annotated[str | None, typer.Option(help="US dollars; tightens the profile's limit.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key within 24 h is the same call.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the call as it happens, until it ends.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Place a call. With --wait, exits with 1 if it did not go well."""
    wish = {
        "to": to,
        "from": from_,
        "profile": profile,
        "context": _context(context or []),
        "priority": priority,
        "max_duration_s": max_duration_s,
        "max_cost_usd": max_cost_usd,
    }
    body = {name: value for name, value in wish.items() if value is not None}
    with _client(url) as api:
        accepted = api.create_call(body, idempotency_key)
        if not wait:
            show(accepted, f"{accepted['call_id']}  {accepted['state']}", as_json=as_json)
            return
        for event in api.events(accepted["call_id"]):
            show(event, progress(event), as_json=as_json)
        ended = api.call(accepted["call_id"])
    show(ended, calls_table([ended]), as_json=as_json)
    if (ended.get("outcome") or {}).get("result") != "success":
        raise typer.Exit(1)


@app.command()
def calls(
    call_id: Annotated[str | None, typer.Argument(help="Show this one call.", show_default=False)] = None,
    *,
    state: Annotated[str | None, typer.Option(help="live or ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List calls, newest first; or show one, with its transcript."""
    with _client(url) as api:
        if call_id is None:
            found = api.calls(state, limit)
            show({"calls": found}, calls_table(found), as_json=as_json)
            return
        one = api.call(call_id)
    show(one, calls_table([one]), as_json=as_json)
    if not as_json:
        for line in one["transcript"]:
            console().print(progress(line | {"kind": "line"}), markup=False)
        console().print(facts(one))


@app.command("timeline")
def show_timeline(
    call_id: CallId,
    *,
    words: Annotated[bool, typer.Option(help="Show what was said, too.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """What happened in a call, when, in which layer, and how long it took."""
    with _client(url) as api:
        one = api.call(call_id)
    entries = timeline(one["events"] if words else map(without_words, one["events"]))
    table = columns("at", "layer", "what", "took")
    for entry in entries:
        took = "" if entry.ms is None else f"{entry.ms:.0f} ms"
        table.add_row(
            f"{entry.at_s:.3f} s", entry.layer, Text(entry.text), took, style="red" if entry.trouble else None
        )
    show({"call_id": call_id, "timeline": [asdict(entry) for entry in entries]}, table, as_json=as_json)


@app.command()
def hangup(call_id: CallId, *, url: Url = None, as_json: AsJson = False) -> None:
    """End a call now."""
    with _client(url) as api:
        answer = api.hang_up(call_id)
    show(answer, f"{answer['call_id']}  {answer['state']}", as_json=as_json)


@app.command()
def settings(*, as_json: AsJson = False) -> None:
    """List every environment variable that is read, with its default and its reason."""
    rows = list(describe_settings())
    table = columns("variable", "default", "meaning")
    for row in rows:
        table.add_row(*row)
    show([row._asdict() for row in rows], table, as_json=as_json)


@app.command()
def version() -> None:
    """Show the version."""
    console().print(__version__)


@keys.command("create")
def create(
    *,
    tenant: Annotated[str, typer.Option(help="Whose calls and budget the key is for.")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="calls, campaigns or admin; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it; it is stored as a hash and can't be shown again."""
    from cluster.keys import KeyScopeError, create_key

    try:
        key = create_key(database(), tenant, scope or ["calls"])
    except KeyScopeError as error:
        raise InputError(str(error)) from None
    show({"key": key, "tenant": tenant, "scopes": scope or ["calls"]}, key, as_json=as_json)


@prices.command("check")
def check_prices(
    file: Annotated[Path, typer.Argument(help="A table as RINGMASTER_PRICES_FILE takes it.", show_default=False)],
) -> None:
    """Read a table of prices, and say where it is wrong."""
    from cluster.budget.prices import load_prices

    tables = load_prices(file).tables
    found = ", ".join(f"from {table.from_}: {len(table.models)} models" for table in tables)
    console().print(f"{file.name}: {found}", markup=False)


@books.command("check")
def check_ledger(*, as_json: AsJson = False) -> None:
    """Prove that no money was lost or spent twice; every cost is worked out once more from what was metered."""
    from cluster.budget.audit import audit
    from cluster.budget.prices import load_prices

    found = audit(database(), load_prices(prices_file()))
    balance = f"{found.debits_usd_micros} debits, {found.credits_usd_micros} credits in micro-dollars"
    summary = f"{found.leases} leases, {found.entries} entries, {balance}: {len(found.problems)} problems"
    show(asdict(found), "\n".join([*found.problems, summary]), as_json=as_json)
    if found.problems:
        raise typer.Exit(1)


@keys.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """Show which keys there are, without their secrets."""
    from cluster.keys import list_keys

    rows: list[dict[str, Any]] = [
        {
            "key_id": key.principal.key_id,
            "tenant": key.principal.tenant,
            "scopes": sorted(key.principal.scopes),
            "created_at": utc(key.created_at),
            "revoked_at": utc(key.revoked_at) if key.revoked_at else None,
        }
        for key in list_keys(database())
    ]
    table = columns("key", "tenant", "scopes", "created", "revoked")
    for row in rows:
        table.add_row(row["key_id"], row["tenant"], " ".join(row["scopes"]), row["created_at"], row["revoked_at"])
    show({"keys": rows}, table, as_json=as_json)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `ringmaster key list` shows it.", show_default=False)],
) -> None:
    """End a key's use."""
    from cluster.keys import revoke_key

    if not revoke_key(database(), key_id):
        raise InputError(f"there is no key {key_id!r} in use; `ringmaster key list` shows those there are")
    console().print(f"{key_id} is revoked")


@manifests.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="Such as ray-cluster.yaml.", show_default=False)],
    *,
    profiles: Annotated[Path | None, typer.Option(help="Folder [RINGMASTER_PROFILES_DIR].", show_default=False)] = None,
) -> None:
    """Refuse a manifest that would end a worker before its calls have ended."""
    from cluster.kube import check_manifest, longest_call
    from cluster.models import load_models
    from cluster.profiles import load_profiles

    known = load_profiles(profiles or profiles_dir(), load_models())
    try:
        groups = check_manifest(file.read_text(encoding="utf-8"), str(file), known)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    longest = longest_call(known)
    for group in groups:
        console().print(
            f"{group.where}: {group.name} waits {group.drain_s:g} s for its calls to end; "
            f"the longest are those of {longest.name}, {longest.limits.max_duration_s:g} s"
        )


@policies.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(help="A YAML file, as RINGMASTER_POLICY_FILE.", show_default=False)],
) -> None:
    """Say whether a policy file is right; exits with 2 where it is not, with the line."""
    from cluster.budget.policy import load_policy

    load_policy(file)
    console().print(f"{file} is right")


@policies.command("apply")
def apply_policy(
    file: Annotated[Path, typer.Argument(help="A YAML file, as RINGMASTER_POLICY_FILE.", show_default=False)],
    *,
    url: Url = None,
) -> None:
    """Have a policy hold from now on, without a restart; exits with 2 where the file is wrong."""
    from cluster.budget.policy import load_policy

    policy = load_policy(file).model_dump(mode="json")
    with _client(url) as api:
        api.apply_policy(policy)
    console().print(f"{file} holds from now on")


@policies.command("show")
def show_policy(*, url: Url = None) -> None:
    """Show the policy that holds, as JSON."""
    with _client(url) as api:
        console().print(json.dumps(api.policy(), indent=2, ensure_ascii=False), markup=False)


def show_checks(found: Sequence[Check], *, as_json: bool) -> None:
    """What the doctor found, with what to do."""
    table = columns("", "check", "found", "what to do")
    for check in found:
        sign = {True: "ok", False: "FAILS", None: "-"}[check.ok]
        table.add_row(sign, check.name, check.detail, "" if check.ok else check.fix)
    show([asdict(check) for check in found], table, as_json=as_json)


def database() -> Any:
    """The one that DATABASE_URL names, at the newest migration."""
    from cluster.storage import open_engine, upgrade

    engine = open_engine(database_url())
    upgrade(engine)
    return engine


@contextmanager
def _client(url: str | None) -> Iterator[Client]:
    client = Client(load_client_settings(None if url is None else os.environ | {"RINGMASTER_URL": url}))
    try:
        yield client
    finally:
        client.close()


def _context(pairs: Sequence[str]) -> dict[str, str]:
    context = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"--context {pair!r}: expected name=text")
        context[name] = text
    return context
