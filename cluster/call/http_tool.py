"""One HTTP request for a tool: to the public internet and nowhere else, with an answer of bounded size.

What shapes this file: a host name can point anywhere, and to another place a moment later (DNS rebinding), so the check
is made on the very address that the socket is about to connect to. Nothing of a request or an answer is logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from cluster.addresses import is_public
from cluster.tools import HttpTool

log = logging.getLogger(__name__)

ANSWER_MAX_BYTES: Final = 64 * 1024
"""Some 16,000 tokens, which the model reads, and which are billed, again with every turn."""
IN_QUERY: Final = frozenset({"GET", "DELETE"})
WORTH_REPEATING: Final = frozenset({502, 503, 504})
NOT_SET_UP: Final = {"error": "the tool is not set up; tell the caller that it does not work now"}
UNREACHABLE: Final = {"error": "the service could not be reached"}

Response = dict[str, Any]


class _PublicOnly:
    """Makes sockets for public addresses only; aiohttp asks it for each one right before it connects."""

    def __init__(self) -> None:
        self.has_refused = False

    def __call__(self, target: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = target
        if not is_public(str(address[0])):
            self.has_refused = True
            raise PermissionError("not an address of the public internet")
        return socket.socket(family, kind, protocol)


async def fetch(
    tool: HttpTool, args: Mapping[str, Any], *, idempotency_key: str, environment: Mapping[str, str]
) -> Response:
    """What the model is told: the JSON object that came back, `{"result": …}` around anything else, or `{"error": …}`.

    Never raises for what the network or the other side does. An idempotent tool is asked twice where the first request
    may not have been carried out.
    """
    try:
        headers = tool.resolved_headers(environment) | {"Idempotency-Key": idempotency_key}
    except KeyError as missing:
        what = {"tool": tool.name, "variable": missing.args[0]}
        log.error("a tool's header needs an environment variable that is not set", extra=what)  # noqa: TRY400 - all is said
        return NOT_SET_UP
    guard = None if tool.allow_private else _PublicOnly()
    try:
        async with asyncio.timeout(tool.timeout_s):
            response = await _ask_until_final(tool, args, headers, guard)
    except TimeoutError:
        return {"error": f"the tool gave no result within {tool.timeout_s:g} s"}
    if guard is not None and guard.has_refused and response == UNREACHABLE:
        log.error("a tool's host is not on the public internet, see `allow_private`", extra={"tool": tool.name})
        return NOT_SET_UP
    return response


async def _ask_until_final(
    tool: HttpTool, args: Mapping[str, Any], headers: Mapping[str, str], guard: _PublicOnly | None
) -> Response:
    # A connection for each request: no pool that could hand out one that was made under other rules.
    connector = aiohttp.TCPConnector(socket_factory=guard, force_close=True, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        response, is_final = await _ask(http, tool, args, headers)
        if is_final or not tool.idempotent:
            return response
        response, _ = await _ask(http, tool, args, headers)
        return response


async def _ask(
    http: aiohttp.ClientSession, tool: HttpTool, args: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[Response, bool]:
    """What came back, and whether asking again is pointless. Redirects are not followed: they lead anywhere."""
    sent = {"params": _query(args)} if tool.method in IN_QUERY else {"json": dict(args)}
    try:
        async with http.request(tool.method, tool.url, headers=headers, allow_redirects=False, **sent) as answer:
            if not 200 <= answer.status < 300:  # noqa: PLR2004 - success, as HTTP has it
                return {"error": f"HTTP {answer.status}"}, answer.status not in WORTH_REPEATING
            return await _content(answer), True
    except aiohttp.ClientError:
        return UNREACHABLE, False


def _query(args: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in args.items()}


async def _content(answer: aiohttp.ClientResponse) -> Response:
    body = bytearray()
    async for piece in answer.content.iter_chunked(ANSWER_MAX_BYTES):
        body += piece
        if len(body) > ANSWER_MAX_BYTES:
            return {"error": f"the answer is larger than {ANSWER_MAX_BYTES // 1024} KiB"}
    text = body.decode("utf-8", "replace").strip()
    return _object(text) if text else {"result": "done"}


def _object(text: str) -> Response:
    """The Live API takes strict JSON only, so what Python reads more kindly (NaN, half a surrogate) stays text."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {"result": text}
    return value if isinstance(value, dict) else {"result": value}


def _refuse(constant: str) -> None:
    raise ValueError(constant)
