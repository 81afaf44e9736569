"""Records of ``python -m benchmarks run`` as files: read, judged, and refused where two of them cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_record import FORMAT, KIND
from runtime.errors import FaceMeshError

LEAST_FRAMES = 30  # fewer do not make an interval
MOST_US = 1e12
REMEDY = "make it again with 'python -m benchmarks run --json'"


@dataclass(frozen=True, eq=False)
class Record:
    """What a comparison needs of one run."""

    path: Path
    facts: dict[str, Any]  # what has to be the same in both runs, by the name it has in messages
    versions: dict[str, str]
    stages: dict[str, NDArray[np.float64]]  # microseconds (frames,)


def load_record(path: Path) -> Record:
    """Raises `FaceMeshError` that says what is wrong with the file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FaceMeshError(f"{path}: cannot be read as the record of a run ({reason}); {REMEDY}") from None
    try:
        return _checked(path, document)
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; {REMEDY}") from None


def differences(new: Record, baseline: Record) -> Iterator[str]:
    """Why the two cannot be compared, a clause each."""
    for name, wanted in baseline.facts.items():
        if (found := new.facts[name]) != wanted:
            yield f"{name} is {_short(found)}, the baseline's is {_short(wanted)}"


def _checked(path: Path, document: Any) -> Record:
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ValueError(f"not the record of a run (its kind is {document.get('kind') if isinstance(document, dict) else type(document).__name__})")
    if document.get("format") != FORMAT:
        raise ValueError(f"written in format {document.get('format')}, this program reads {FORMAT}")
    machine, engine, settings = (_part(document, name, dict) for name in ("machine", "engine", "settings"))
    source, before = _part(settings, "source", dict), _part(_part(document, "conditions", dict), "before", dict)
    facts = {f"the machine's {name}": machine.get(name) for name in ("board", "cpu", "cores", "gpu", "system", "architecture")}
    facts |= {"the power mode": before.get("power_mode"), "the governor": before.get("governor")}
    facts |= {"the engine": _part(engine, "sha256", str), "the picture": source.get("sha256"), "the number of pictures": source.get("pictures")}
    facts["--threads"] = settings.get("threads")
    stages = _part(document, "stages", dict)
    if not stages:
        raise ValueError("no stage was measured")
    return Record(path, facts, document.get("versions") or {}, {name: _samples(name, stage) for name, stage in stages.items()})


def _samples(name: str, stage: Any) -> NDArray[np.float64]:
    samples = _part(stage, "samples_us", list) if isinstance(stage, dict) else None
    if samples is None:
        raise ValueError(f"stage {name} is no object")
    if len(samples) < LEAST_FRAMES:
        raise ValueError(f"stage {name} has {len(samples)} frames, a comparison needs {LEAST_FRAMES} at least")
    if not all(isinstance(value, (int, float)) and 0 < value < MOST_US for value in samples):
        raise ValueError(f"stage {name} has samples that are no times")
    return np.array(samples, np.float64)


def _part(document: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(part := document.get(name), kind):
        raise ValueError(f"lacks {name}" if part is None else f"{name} must be {kind.__name__}, is {type(part).__name__}")
    return part


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
