"""The kinds of records in a report: their marks, their shapes and the commands that write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.record import Record, read_document
from runtime.errors import FaceMeshError, one_line

LARGEST = 1e15  # of any number in a record
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")  # all but white space
NUMBER = (int, float, type(None))  # numbers that were not finite are null
STAGE = {"p50_ms": NUMBER, "p90_ms": NUMBER, "p99_ms": NUMBER, "max_ms": NUMBER, "cv": NUMBER, "samples_us": [NUMBER]}
PEER = {
    "name": str,
    "note": str,
    "vertices": int,
    "faces": int,
    "stages": {"*": {"median_ms": NUMBER, "p90_ms": NUMBER, "vertices_per_ms": NUMBER}},
}
ACCURACY = {"boxes": str, "measure": str, "faces": int, "mean": NUMBER, "bins": [NUMBER], "balanced": NUMBER}
ROBUSTNESS = {
    "kind": str,
    "condition": str,
    "boxes": str,
    "faces": int,
    "found": int,
    **dict.fromkeys(("nme", "median", "spread", "ratio", "over_10", "score", "confidence"), NUMBER),
}
INT8 = {
    "model": str,
    "target": str,
    "method": str,
    "fp32_nme": NUMBER,
    "int8_nme": NUMBER,
    "shift_px": NUMBER,
    "size": NUMBER,
}
ROOF = {
    "network": str,
    "device_name": str,
    "family": str,
    "precision": str,
    "least_ms": NUMBER,
    "expected_low_ms": NUMBER,
    "expected_high_ms": NUMBER,
}
TRACKING = {
    "film": str,
    **dict.fromkeys(("frames", "missed", "missed_detected", "nme", "nme_detected", "detector", "changes"), NUMBER),
    **dict.fromkeys(("ms", "ms_faces", "ratio"), NUMBER),
}
JITTER = {"method": str, "jitter": NUMBER, "lag": NUMBER}
SOAK = {"time_s": NUMBER, "p50_ms": NUMBER}
TREND = {"per_hour": dict.fromkeys(("estimate", "low", "high"), NUMBER), "problem": (str, type(None))}
ARM = {"epochs": [{"mean": (str, *NUMBER), "balanced": (str, *NUMBER)}]}


TIMES = {"p50_ms": NUMBER, "p90_ms": NUMBER, "max_ms": NUMBER, "count": int}


@dataclass(frozen=True)
class Kind:
    """One kind of record."""

    name: str
    command: str  # writes it; after ``python -m benchmarks``
    fits: Callable[[dict[str, Any]], bool]
    shape: dict[str, Any]  # see `mismatch`


KINDS = (
    Kind("latency", "run", lambda d: d.get("kind") == "latency", {"engine": {}, "stages": {"*": STAGE}}),
    Kind("peers", "peers", lambda d: "peers" in d, {"peers": [PEER], "threads": int, "interval_ms": NUMBER}),
    Kind(
        "robustness",
        "robustness -o STEM",
        lambda d: d.get("kind") == "robustness",
        {"subject": {}, "table": [ROBUSTNESS]},
    ),
    Kind(
        "accuracy",
        "accuracy",
        lambda d: "subject" in d and "table" in d,
        {"subject": {}, "table": [ACCURACY]},
    ),
    Kind(
        "int8",
        "int8",
        lambda d: "table" in d and "subject" not in d and "kind" not in d,
        {"table": [INT8]},
    ),
    Kind(
        "rewrites",
        "rewrites",
        lambda d: "rewritten" in d,
        {"plain": {"times_ms": [NUMBER]}, "rewritten": {"times_ms": [NUMBER]}, "threads": int},
    ),
    Kind("tracking", "tracking", lambda d: d.get("kind") == "tracking", {"model": str, "table": [TRACKING]}),
    Kind(
        "jitter",
        "jitter -o STEM",
        lambda d: d.get("kind") == "jitter",
        {"model": str, "methods": [{**JITTER, "closing": NUMBER}], "equal_lag": [{**JITTER, "our_jitter": NUMBER}]},
    ),
    Kind("library", "library", lambda d: d.get("kind") == "library", {"frame": {"*": TIMES}, "threads": int}),
    Kind("soak", "soak", lambda d: d.get("kind") == "soak", {"lines": [SOAK], "trends": {"*": TREND}}),
    Kind("ablation", "…", lambda d: "arms" in d, {"base": str, "arm": str, "arms": [ARM]}),
    Kind("roofline", "roofline --json", lambda d: d.get("kind") == "roofline", {"rows": [ROOF], "batch": int}),
)


def read_records(paths: Sequence[Path]) -> list[Record]:
    """Read every file and find its kind; raises `FaceMeshError` for a file of no kind or of another shape."""
    return [read_record(path) for path in paths]


def read_record(path: Path) -> Record:
    """Read one file; see `read_records`."""
    document = read_document(path)
    kind = next((kind for kind in KINDS if isinstance(document, dict) and kind.fits(document)), None)
    if kind is None:
        name = document.get("kind") if isinstance(document, dict) else None
        named = f" {one_line(repr(name), 100)}" if isinstance(name, str) else ""
        kinds = ", ".join(kind.name for kind in KINDS)
        raise FaceMeshError(f"{path}: a report cannot be made of this kind of file{named}; it takes {kinds}")
    if fault := mismatch(document, kind.shape) or unfit(document):
        command = f"python -m benchmarks {kind.command}"
        raise FaceMeshError(f"{path}: not a sound {kind.name} record: {fault}; write it again with '{command}'")
    return Record(path, kind.name, document)


def mismatch(value: Any, shape: Any, where: str = "") -> str | None:
    """Return the first difference between ``value`` and ``shape`` in words, None without one.

    A shape is a type or several, a list with the shape of every item, or a dict with the required keys. The key ``*``
    stands for every key.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where or 'the file'} is not an object"
        wanted = dict.fromkeys(value, shape["*"]) if "*" in shape else shape
        if missing := [key for key in wanted if key not in value]:
            return f"{where + '.' if where else ''}{missing[0]} is missing"
        if "*" in shape and not value:
            return f"{where} is empty"
        faults = (mismatch(value[key], inner, f"{where + '.' if where else ''}{key}") for key, inner in wanted.items())
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return f"{where} is not a list with something in it"
        faults = (mismatch(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value))
    else:
        fits = isinstance(value, shape) and not isinstance(value, bool)
        return None if fits else f"{one_line(where)} is {one_line(repr(value), 200)}"
    return next((fault for fault in faults if fault), None)


def unfit(value: Any, where: str = "") -> str | None:
    """Return in words the first number or text anywhere in ``value`` that no page can show, None without one."""
    if isinstance(value, str):
        return None if not _CONTROL.search(value) else f"{one_line(where)} has control characters"
    if isinstance(value, (int, float)):
        return None if abs(value) <= LARGEST else f"{one_line(where)} is beyond {LARGEST:g}"
    if isinstance(value, dict):
        faults = (unfit(name, "a name") or unfit(inner, f"{where}.{name}".lstrip(".")) for name, inner in value.items())
    elif isinstance(value, list):
        faults = (unfit(item, f"{where}[{i}]") for i, item in enumerate(value))
    else:
        return None
    return next((fault for fault in faults if fault), None)
