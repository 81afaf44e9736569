"""Frozen dataclasses as JSON files: written whole, and every field checked by its type when read."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from runtime.errors import FaceMeshError, one_line, reason
from runtime.storage.bounded_files import read_bounded
from runtime.storage.limits import DEPTH, DIGITS, JSON_BYTES
from runtime.storage.whole_files import whole_file

T = TypeVar("T")

# A whole pair of surrogates, (1) half of one, another escape, or what opens and closes texts, objects and arrays.
_MARK = re.compile(
    rb'\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F])|\\.|["\[\]{}]',
    re.DOTALL,
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def save_document(document: Any, path: str | os.PathLike[str]) -> None:
    """Write a dataclass as the JSON file ``path``, whole or not at all.

    Raises `FaceMeshError` if it cannot be written.
    """
    with whole_file(Path(path)) as file:
        file.write(document_bytes(document))


def document_bytes(document: Any) -> bytes:
    """Return the bytes that `save_document` writes."""
    return (json.dumps(dataclasses.asdict(document), indent=2) + "\n").encode()


def load_document(cls: type[T], path: str | os.PathLike[str], what: str, writer: str) -> T:
    """Return the dataclass ``cls`` from the JSON file ``path``.

    Fields with a default may be missing: they are younger than some files.
    Raises `FaceMeshError` for a file that cannot be read and for a field that is unknown, missing or wrong. The texts
    use ``what``, the kind of document ("model spec"), and ``writer``, the command that makes it.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        remedy = f"it belongs beside the file that it describes, '{writer}' writes both"
        raise FaceMeshError(f"{path}: no {what} there; {remedy}") from None
    except (OSError, ValueError) as error:
        fault = f"cannot be read as a {what} ({reason(error)})"
        raise FaceMeshError(f"{path}: {fault}; make it again with '{writer}'") from None
    try:
        return _from_document(cls, document, what)
    except FaceMeshError as error:  # of the document's own class: it is of another kind
        raise FaceMeshError(f"{path}: {error}") from None
    except ValueError as error:
        raise FaceMeshError(
            f"{path}: {one_line(error, 400)}; correct the file or make it again with '{writer}'"
        ) from None


def read_json(path: str | os.PathLike[str], **hooks: Any) -> Any:
    """Return the content of a JSON file; ``hooks`` are those of `json.loads`. Raises `OSError` or `ValueError`."""
    content = read_bounded(path, JSON_BYTES)
    if excess := DEPTH.excess(_depth(content)):
        raise ValueError(excess)
    return json.loads(content.decode("utf-8"), parse_int=_bounded_int, object_pairs_hook=_object, **hooks)


def _depth(content: bytes) -> int:
    """Return the levels of objects and arrays in a JSON text; raises `ValueError` for half a character in it."""
    depth = deepest = 0
    in_text = False
    for mark in _MARK.finditer(content):
        if mark[1]:
            raise ValueError(f"{mark[1].decode()}… at byte {mark.start():,} is half of a surrogate pair, no character")
        if mark[0] == b'"':
            in_text = not in_text
        elif not in_text and mark[0] in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not in_text:  # an escape there ends the parser
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in document:
            raise ValueError(f"the field {one_line(repr(name), 100)} stands there twice")
        document[name] = value
    return document


def _bounded_int(digits: str) -> int:
    if excess := DIGITS.excess(len(digits.lstrip("-"))):
        raise ValueError(excess)
    return int(digits)


def _from_document(cls: type[T], document: Any, where: str) -> T:
    if not isinstance(document, dict):
        raise ValueError(f"{where} must be a JSON object")
    kinds = typing.get_type_hints(cls)
    if (types_of := getattr(cls, "document_types", None)) is not None:
        kinds |= types_of(document)
    declared = dataclasses.fields(cls)  # type: ignore[arg-type]
    fields = {field.name: kinds[field.name] for field in declared}
    if unknown := sorted(document.keys() - fields.keys()):
        raise ValueError(f"{where} has unknown fields: {one_line(', '.join(unknown), 200)}")
    optional = {field.name for field in declared if field.default is not dataclasses.MISSING}
    if missing := sorted(fields.keys() - document.keys() - optional):
        raise ValueError(f"{where} lacks fields: {', '.join(missing)}")
    return cls(**{name: _convert(kind, document[name], name) for name, kind in fields.items() if name in document})


def _convert(kind: Any, value: Any, field: str) -> Any:
    """Return a JSON value as ``kind``: str, bool, int, float, dataclass, tuple of these, or one of these or None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    arguments = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _from_document(typing.cast(type, kind), value, field)
    if isinstance(kind, types.UnionType):
        return None if value is None else _convert(arguments[0], value, field)
    if kind is str and isinstance(value, str) and _CONTROL.search(value):
        raise ValueError(f"field {field} must be text without control characters, is {one_line(repr(value), 200)}")
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind is int and is_number and float(value).is_integer():
        return int(value)
    if kind is float and is_number:
        return float(value)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(arguments) == len(value):
            return tuple(_convert(argument, item, field) for argument, item in zip(arguments, value, strict=True))
    expected = kind.__name__ if isinstance(kind, type) and not arguments else kind
    raise ValueError(f"field {field} must be {expected}, is {one_line(repr(value), 200)}")
