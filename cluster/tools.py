"""The tools of an agent: those that are built in, and those that a profile declares over HTTP.

A model calls a tool by its name and with arguments that fit a JSON schema; what it can't be trusted with (where a call
is transferred to, which host is asked, with which credentials) stands in the profile and never in an argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import AfterValidator, Discriminator, Field, Tag

from cluster.addresses import is_public
from cluster.marked_yaml import Part

if TYPE_CHECKING:
    from cluster.models import Model

END_CALL = "end_call"
TRANSFER_CALL = "transfer_call"
SEND_DTMF = "send_dtmf"
SCHEDULE_CALLBACK = "schedule_callback"
OPT_OUT = "opt_out"
TRANSFER_LIMIT_S = 100.0
"""A transfer rings for as long as a dial may (80 s at most), and LiveKit is waited for a little longer."""
MAX_DIGITS = 32
PROBLEM_CHARS = 200
"""A validator quotes the argument, however long it is."""
_WORDS = {"type": "string", "minLength": 1, "maxLength": 500}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OURS = frozenset({"host", "connection", "content-length", "content-type", "idempotency-key", "transfer-encoding"})
"""Headers that are made from the request itself."""


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool as a call knows it."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=_object)
    timeout_s: float = 10.0
    blocking: bool = False
    """The model waits for the result; else it talks on."""
    filler: str = ""
    """What the agent says while the caller waits for a result that takes long."""
    silent: bool = False
    """The model need not say anything about the result."""
    can_be_cancelled: bool = True
    http: HttpTool | None = None

    def problem(self, args: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, for the model to put right; empty if nothing is."""
        error = next(iter(Draft202012Validator(self.parameters).iter_errors(args)), None)
        if error is None:
            return ""
        where = error.json_path.removeprefix("$").removeprefix(".") or "arguments"
        return f"{where}: {error.message[:PROBLEM_CHARS]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """The tools of one call, as its model takes them."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    input_refused: bool = False
    """While the model waits for a blocking tool, nothing but the result may reach it."""
    destinations: Mapping[str, str] = field(default_factory=dict, repr=False)  # pii
    """Where `transfer_call` may go: label to `tel:` or `sip:` address."""


def toolbox(tools: tuple[str | HttpTool, ...], transfer: Mapping[str, str], model: Model) -> Toolbox:
    """The tools of a profile; which of them the model waits for follows from what it allows."""
    found = [_built_in(tool, transfer) if isinstance(tool, str) else _of_http(tool) for tool in tools]
    return Toolbox(
        tools={tool.name: replace(tool, blocking=_waits(tool, model)) for tool in found},
        input_refused=model.input_during_tool == "refused",
        destinations=transfer,
    )


def _waits(tool: Tool, model: Model) -> bool:
    return model.tools == "blocking" or (tool.blocking and model.tools == "optional")


# Built in.


_BUILT_IN = (
    Tool(
        name=END_CALL,
        description=("Hang up the phone. Say goodbye in the same turn; the caller hears it before the line closes."),
        silent=True,
    ),
    Tool(
        name=TRANSFER_CALL,
        description=(
            "Hand the caller over to somebody else. Say first that you are connecting them. You leave the call as soon "
            "as it is answered; if it is not, you are told, and the conversation goes on."
        ),
        timeout_s=TRANSFER_LIMIT_S,
        can_be_cancelled=False,  # a REFER can't be taken back
    ),
    Tool(
        name=SEND_DTMF,
        description=(
            "Press keys of the telephone, as a menu or an extension asks for: digits, * and #. A w waits for half a "
            "second, a W for a second. Then listen."
        ),
        parameters=_object(digits={"type": "string", "pattern": f"^[0-9A-D*#wW]{{1,{MAX_DIGITS}}}$"}),
        timeout_s=MAX_DIGITS * 1.5,
        silent=True,
    ),
    Tool(
        name=SCHEDULE_CALLBACK,
        description="Note that somebody calls back later. Confirm it only once the tool has returned.",
        parameters=_object(
            time=_WORDS | {"description": "When, as a date and time in ISO 8601 if you know it, else as it was said."},
            reason=_WORDS | {"description": "What the call is to be about."},
        ),
    ),
    Tool(
        name=OPT_OUT,
        description="Note that this person does not want to be called again. Confirm it once the tool has returned.",
        parameters=_object(reason=_WORDS | {"description": "What was said, in a few words."}),
    ),
)
BUILT_IN: Mapping[str, Tool] = {tool.name: tool for tool in _BUILT_IN}


def _built_in(name: str, transfer: Mapping[str, str]) -> Tool:
    tool = BUILT_IN[name]
    if name != TRANSFER_CALL:
        return tool
    return replace(tool, parameters=_object(to={"type": "string", "enum": sorted(transfer)}))


# Over HTTP.


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not text.isascii() or re.search(r"[\s{}\\]", text):
        raise ValueError("must be a fixed http:// or https:// URL")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("takes neither a user nor a #fragment; credentials go into headers")
    return text


def _headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or name.lower() in _OURS:
            raise ValueError(f"{name!r} is no header that can be set")
        if "${" in _VARIABLE.sub("", value) or not value.isprintable():
            raise ValueError(f"{name}: one line of text, in which ${{NAME}} is an environment variable")
    return headers


def _schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if schema.get("type") != "object":
        raise ValueError("must be a JSON schema of `type: object`")
    try:
        plain = json.loads(json.dumps(schema, allow_nan=False)) == schema
    except (TypeError, ValueError):
        plain = False
    if not plain:
        raise ValueError("holds something that JSON does not have; put dates and keys such as `yes` in quotes")
    if not {"$ref", "$dynamicRef"}.isdisjoint(_keys(schema)):
        raise ValueError("write the schema out: references are not followed")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"is no JSON schema: {'.'.join(map(str, error.path)) or 'it'}: {error.message}") from None
    return schema


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
        for inner in value.values():
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


class HttpTool(Part):
    """A tool that is an HTTP request: arguments go out as JSON (as the query of GET and DELETE), JSON comes back."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    description: Annotated[str, Field(min_length=1)]
    """What the model reads to know when to call it."""
    parameters: Annotated[Mapping[str, Any], AfterValidator(_schema)] = Field(default_factory=_object)
    """JSON schema of the arguments; the default takes none."""
    url: Annotated[str, AfterValidator(_url)]
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: Annotated[Mapping[str, str], AfterValidator(_headers)] = Field(default={}, repr=False)
    """`${NAME}` in a value is the environment variable of the call's process."""
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10
    blocking: bool = False
    """The model waits for the result, where it can; else it talks on, which a caller likes better."""
    filler: Annotated[str, Field(max_length=200)] = ""
    """What the agent is told to say if the result takes longer than a moment, such as: One moment, I am looking."""
    allow_private: bool = False
    """May reach addresses that are not on the public internet, such as a service in the same cluster."""
    idempotent: bool = False
    """The same request twice does no harm: it is repeated once where the connection fails."""

    @property
    def is_private(self) -> bool:
        """The URL itself says that it is not on the public internet; a name is judged when it is resolved."""
        host = urlsplit(self.url).hostname or ""
        try:
            return not is_public(str(ip_address(host)))
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def resolved_headers(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The headers with their variables filled in. Raises `KeyError` with the name of one that is not set."""
        return {
            name: _VARIABLE.sub(lambda found: environment[found[1]].strip(), value)
            for name, value in self.headers.items()
        }


def _of_http(tool: HttpTool) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        timeout_s=tool.timeout_s,
        blocking=tool.blocking,
        filler=tool.filler,
        http=tool,
    )


def _kind(value: Any) -> str:
    return "<http>" if isinstance(value, Mapping | HttpTool) else "<built-in>"


ToolEntry = Annotated[Annotated[str, Tag("<built-in>")] | Annotated[HttpTool, Tag("<http>")], Discriminator(_kind)]
"""A built-in tool's name, or an HTTP tool."""
Destination = Annotated[
    str, Field(pattern=r"^(tel:\+[1-9][0-9]{4,14}|sips?:[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+(:[0-9]+)?)$")
]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([ _-][A-Za-z0-9]+)*$", max_length=40)]
