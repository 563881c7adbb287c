"""YAML read into a frozen pydantic model, with the file and the line of every problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from cluster.errors import InputError

M = TypeVar("M", bound=BaseModel)
Where = tuple[str | int, ...]


class Part(BaseModel):
    """What stands in a file, or a part of it: read once, and nothing in it that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


class _Loader(yaml.SafeLoader):
    """Says where a value stands that looks like one of YAML's kinds and is none, such as the 30th of February."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 as it is inherited
        """The value of one node."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # as Python's own readers and PyYAML's tables raise
            what = f"{node.value!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark) from None


class MarkedFile(Generic[M]):
    """A YAML file that was read, which still knows on which line each of its fields stands."""

    def __init__(self, path: Path, model: type[M], error: type[InputError]) -> None:
        """Read and validate. Every problem raises `error`, one line each: `file:line: field: what is wrong`."""
        self._name = f"{path.parent.name}/{path.name}"
        self._model = model
        self._error = error
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            self._root = loader.get_single_node()
            plain = loader.construct_document(self._root) if self._root is not None else None
        except (OSError, UnicodeDecodeError) as failure:
            raise error(f"{self._name}:1: can't be read: {_reason(failure)}") from None
        except yaml.MarkedYAMLError as failure:
            line = failure.problem_mark.line + 1 if failure.problem_mark else 1
            raise error(f"{self._name}:{line}: not YAML: {failure.problem}") from None
        except yaml.YAMLError as failure:
            raise error(f"{self._name}:1: not YAML: {str(failure).splitlines()[0]}") from None
        if not isinstance(plain, dict):
            raise error(f"{self._name}:1: expected `field: value` lines")
        self._raise(_duplicates(self._root, ()))
        try:
            self.content = model.model_validate(plain)
        except ValidationError as failure:
            self.refuse(self._problem(detail) for detail in failure.errors(include_url=False))

    def refuse(self, problems: Iterable[tuple[Where, str]]) -> None:
        """Raise if there is any problem; each is shown with the line on which its field stands."""
        self._raise((self._line(where), where, what) for where, what in problems)

    def _raise(self, problems: Iterable[tuple[int, Where, str]]) -> None:
        found = [
            f"{self._name}:{line}: {_path(where)}{what}" for line, where, what in sorted(problems, key=itemgetter(0))
        ]
        if found:
            raise self._error("\n".join(found))

    def _line(self, where: Where) -> int:
        """The line of a field, or of the nearest one around it that the file has."""
        node, line = self._root, 1
        for part in where:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def _problem(self, detail: ErrorDetails) -> tuple[Where, str]:
        where = tuple(part for part in detail["loc"] if not _is_tag(part))
        match detail["type"]:
            case "extra_forbidden":
                nearest = get_close_matches(str(where[-1]), _fields(self._model, where[:-1]), n=1)
                return where, f"there is no such field{f'; did you mean {nearest[0]}?' if nearest else ''}"
            case "missing":
                return where, "is missing"
            case "value_error":
                return where, str(detail["ctx"]["error"])
        return where, f"{detail['msg'][0].lower()}{detail['msg'][1:]}"


def _is_tag(part: str | int) -> bool:
    """Which of several kinds a value was read as: `Tag("<kind>")`, which is no place in the file."""
    return isinstance(part, str) and part.startswith("<")


def _path(where: Where) -> str:
    return f"{'.'.join(map(str, where))}: " if where else ""


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8"


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def _duplicates(node: Any, where: Where) -> Iterator[tuple[int, Where, str]]:
    """Of two equal keys a YAML reader keeps the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = (*where, str(key.value))
            if key.value in seen:
                yield key.start_mark.line + 1, here, "stands here for the second time"
            seen.add(key.value)
            yield from _duplicates(value, here)


def _fields(model: type[BaseModel], where: Where) -> list[str]:
    """The names of the fields at a place of the model's tree."""
    for part in where:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation speaks of, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
