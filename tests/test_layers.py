"""The shape of the code: which way imports go, what may decide, and how large things may grow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("cluster/**/*.py"), *ROOT.glob("actors/**/*.py"), ROOT / "serve_app.py"])
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES if path.exists()}

LAYERS = ("cluster", "actors", "serve_app")
"""Each may import itself and what stands before it. `actors.up` deploys the application: the one arrow back."""
ARROW_BACK = ("actors/up.py", "serve_app")
LOCAL_STACK_USERS = frozenset({"actors/demo.py"})
"""Who may know that the embedded stack exists."""

DECIDING = (
    "cluster/kube.py",
    "cluster/outcome.py",
    "cluster/messages.py",
    "cluster/call/account.py",
    "cluster/call/core.py",
    "cluster/call/continuity.py",
    "cluster/call/events.py",
    "cluster/call/faults.py",
    "cluster/call/floor.py",
    "cluster/call/live_desk.py",
    "cluster/call/live_messages.py",
    "cluster/call/meter.py",
    "cluster/call/playout.py",
    "cluster/call/prompts.py",
    "cluster/call/quality.py",
    "cluster/call/rules.py",
    "cluster/call/stalls.py",
    "cluster/call/states.py",
    "cluster/call/tools.py",
    "cluster/call/turns.py",
    "cluster/call/usage.py",
    "cluster/budget/admission.py",
    "cluster/budget/breaker.py",
    "cluster/budget/budgets.py",
    "cluster/budget/calls.py",
    "cluster/budget/fleet.py",
    "cluster/budget/leases.py",
    "cluster/budget/ledger.py",
    "cluster/budget/pool.py",
    "cluster/budget/pricing.py",
    "cluster/budget/queue.py",
    "cluster/budget/rate.py",
    "cluster/campaign/contacts.py",
    "cluster/campaign/forecast.py",
    "cluster/campaign/hours.py",
    "cluster/campaign/retries.py",
    "cluster/dispatch/requests.py",
    "cluster/dispatch/worker_protocol.py",
    "cluster/records/refusal.py",
    "cluster/records/views.py",
    "cluster/telephony/dialling.py",
    "cluster/telephony/hours.py",
    "cluster/telephony/masking.py",
    "cluster/telephony/numbers.py",
)
"""They decide, and so are pure: what they do follows from their arguments alone."""
CLAIM = re.compile(r"\bpure\b(?!, but)", re.IGNORECASE)
CLAIMING = [path for path, tree in TREES.items() if CLAIM.search(ast.get_docstring(tree) or "")]
"""A module whose docstring says that it is pure is held to it; the embedded stack is only told."""
PURE = sorted({*DECIDING, *(path for path in CLAIMING if not path.startswith("cluster/local/"))})
IMPURE = frozenset(
    {
        *("aiohttp", "asyncio", "fastapi", "fsspec", "google", "httpx2", "livekit", "logging", "multiprocessing", "os"),
        *("random", "ray", "secrets", "socket", "sqlalchemy", "ssl", "starlette", "subprocess", "threading", "time"),
        *("urllib", "websockets"),
    }
)
NEUTRAL = ("cluster/errors.py", "cluster/machine.py", "cluster/models.py", "cluster/profiles.py", "cluster/tools.py")
"""Data and errors, which anybody may know."""
PLAIN_MESSAGES = ("google.protobuf", "livekit.protocol")

LINES_PER_MODULE = 400
LINES_PER_FUNCTION = 60
PUBLIC_METHODS_PER_CLASS = 15
Function = ast.FunctionDef | ast.AsyncFunctionDef


def imports(path: str) -> Iterator[str]:
    """The full name of everything that a file imports at run time, wherever in the file."""
    for node in running(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from running(child)


def top(module: str) -> str:
    """The package that a module is in."""
    return module.partition(".")[0]


def files_of(module: str) -> set[str]:
    """Where a module of ours, or the module that a name was imported from, stands."""
    return {f"{name.replace('.', '/')}.py" for name in (module, module.rpartition(".")[0])}


def test_imports_go_one_way() -> None:
    """serve_app → actors → cluster, and never back."""
    wrong = [
        f"{path} imports {module}"
        for path in TREES
        for module in imports(path)
        if top(module) in LAYERS[LAYERS.index(path.partition("/")[0].removesuffix(".py")) + 1 :]
        and (path, top(module)) != ARROW_BACK
    ]
    assert wrong == []


def test_only_actors_know_ray() -> None:
    """Everything that can be tested without Ray is."""
    assert [path for path in TREES if path.startswith("cluster/") and "ray" in map(top, imports(path))] == []


def test_production_code_does_not_know_the_embedded_stack() -> None:
    """It is reached by URL and key like any other; only the demo starts it."""
    users = {
        path
        for path in TREES
        if not path.startswith("cluster/local/") and any(module.startswith("cluster.local") for module in imports(path))
    }
    assert users <= LOCAL_STACK_USERS


def test_what_decides_is_pure() -> None:
    """No event loop, clock, environment, randomness, network or SDK at run time, nor a module of ours that has them."""
    wrong = [
        f"{path} imports {module}"
        for path in PURE
        for module in imports(path)
        if (top(module) in IMPURE and not module.startswith(PLAIN_MESSAGES))
        or (top(module) == "cluster" and not files_of(module) & {*PURE, *NEUTRAL})
    ]
    assert wrong == []


def test_nothing_grows_too_large() -> None:
    """The tail is what makes code hard to read: it is cut before it grows."""
    wrong = [path for path in TREES if len((ROOT / path).read_text().splitlines()) > LINES_PER_MODULE]
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno >= LINES_PER_FUNCTION:
                wrong.append(f"{path}:{node.lineno} {node.name}")
            if isinstance(node, ast.ClassDef) and sum(map(is_public, node.body)) > PUBLIC_METHODS_PER_CLASS:
                wrong.append(f"{path}:{node.lineno} {node.name}")
    assert wrong == []


def is_public(node: ast.stmt) -> bool:
    """It is a method that others may call."""
    return isinstance(node, Function) and not node.name.startswith("_")


def test_every_module_says_what_it_is_for() -> None:
    """Its first line is a sentence."""
    assert [path for path, tree in TREES.items() if not ast.get_docstring(tree)] == []
