"""The record of ``python -m benchmarks run``: its writer, its reader, and its text for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_statistics import summarise, thin
from benchmarks.records.machine import doubts
from benchmarks.records.provenance import provenance, text_table
from benchmarks.records.record import Record, read_document
from runtime.errors import FaceMeshError
from runtime.families.table import FAMILIES
from runtime.inference.interface import Runner
from runtime.models.shipped import shipped_model
from runtime.storage.whole_files import file_sha256

FORMAT = 1
KIND = "latency"
MOST_SAMPLES = 2000  # kept of every stage
MOST_VARIATION = 0.05
HOST_BOUND = 0.8  # trtexec warns at the same share
MOST_US = 1e12
REMEDY = "make it again with 'python -m benchmarks run --json'"


@dataclass(frozen=True, eq=False)
class LatencyMeasurement:
    """Everything that one run has measured."""

    engine: dict[str, Any]  # see `describe_engine`
    settings: dict[str, Any]
    stages: dict[str, NDArray[np.float64]]  # milliseconds (frames,)
    cold_starts: list[dict[str, float]]  # milliseconds by part, "total" among them
    whole_frame: str  # the stage that the next three are about
    idle_s: float
    after_idle_ms: list[float]
    allocations: dict[str, Any]
    peak_memory_mb: float | None
    conditions: dict[str, Any]  # of a `Watch`


def latency_document(measured: LatencyMeasurement) -> dict[str, Any]:
    """Return the JSON document of one run."""
    starts = sorted(measured.cold_starts, key=lambda start: start["total"])
    middle = starts[len(starts) // 2]
    return {
        **provenance(),
        "kind": KIND,
        "format": FORMAT,
        "engine": measured.engine,
        "settings": measured.settings,
        "stages": {stage: stage_record(times) for stage, times in measured.stages.items()},
        "cold_start_ms": round(middle["total"], 1),
        "cold_start": {"runs": len(starts), **{f"{part}_ms": round(ms, 1) for part, ms in middle.items()}},
        "first_after_idle_ms": round(statistics.median(measured.after_idle_ms), 4),
        "first_after_idle": {
            "stage": measured.whole_frame,
            "idle_s": measured.idle_s,
            "all_ms": measured.after_idle_ms,
        },
        "allocations": {"stage": measured.whole_frame, **measured.allocations},
        "peak_memory_mb": measured.peak_memory_mb,
        "conditions": measured.conditions,
        "warnings": [*doubts(measured.conditions), *spread_doubts(measured.stages)],
    }


def without_samples(document: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a document that is short enough for a terminal."""
    stages = {name: {**row, "samples_us": None} for name, row in document["stages"].items()}
    return {**document, "stages": stages}


def describe_engine(path: Path | None, runner: Runner) -> dict[str, Any]:
    """Identify the measured file, the ONNX file behind it, and the face model if the network needs one."""
    file = path or shipped_model()
    has_face_model = FAMILIES[runner.spec.family].has_face_model
    face_model = {"face_model_sha256": file_sha256(runner.spec.topology)} if has_face_model else {}
    return {
        "file": file.name,
        "sha256": file_sha256(file),
        "model": runner.spec.name,
        "precision": runner.spec.precision,
        "model_sha256": runner.spec.onnx_sha256,
        **face_model,
    }


def stage_record(milliseconds: NDArray[np.float64]) -> dict[str, Any]:
    """Summarise the times (frames,) of one stage; samples are microseconds in the order of measuring."""
    figures = {name: round(value, 4) for name, value in summarise(milliseconds).items()}
    samples = (1000 * thin(milliseconds, MOST_SAMPLES)).round(1).tolist()
    return {"frames": len(milliseconds), **figures, "samples_us": samples}


def spread_doubts(columns: dict[str, NDArray[np.float64]]) -> list[str]:
    """List reasons for doubt in the latencies themselves (milliseconds by stage), a line each."""
    found = []
    variations = {stage: summarise(times)["cv"] for stage, times in columns.items()}
    wide = [f"{stage} {100 * cv:.0f} %" for stage, cv in variations.items() if cv > MOST_VARIATION]
    if wide:
        found.append(f"coefficient of variation above {100 * MOST_VARIATION:.0f} %: {', '.join(wide)}")
    if "enqueue" in columns and np.median(columns["enqueue"]) > HOST_BOUND * np.median(columns["device"]):
        takes_long = "handing a frame to the GPU takes nearly as long as the GPU needs for it"
        found.append(f"{takes_long}: the host is what is measured")
    return found


def read_latency_record(path: Path) -> Record:
    """Read the record of a run. Raises `FaceMeshError` with the fault of the file."""
    document = read_document(path)
    kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
    if not isinstance(document, dict) or kind != KIND:
        raise FaceMeshError(f"{path}: not the record of a run (its kind is {kind}); {REMEDY}")
    if document.get("format") != FORMAT:
        written = f"written in format {document.get('format')}, this program reads {FORMAT}"
        raise FaceMeshError(f"{path}: {written}; {REMEDY}")
    return Record(path, KIND, document)


def comparison_facts(record: Record) -> dict[str, Any]:
    """Collect everything that must be equal in two comparable runs, by its name in messages.

    Raises `FaceMeshError` if the record lacks a part.
    """
    machine = _part(record, "machine")
    engine = _part(record, "engine")
    settings = _part(record, "settings")
    source = _part(record, "settings", "source")
    before = _part(record, "conditions", "before")
    if not isinstance(engine.get("sha256"), str):
        raise _fault(record, "engine lacks sha256")
    parts = ("board", "cpu", "cores", "gpu", "system", "architecture")
    return {
        **{f"the machine's {name}": machine.get(name) for name in parts},
        "the power mode": before.get("power_mode"),
        "the governor": before.get("governor"),
        "the engine": engine["sha256"],
        "the face model": engine.get("face_model_sha256"),
        "the picture": source.get("sha256"),
        "the number of pictures": source.get("pictures"),
        "--threads": settings.get("threads"),
    }


def stage_samples(record: Record, least_frames: int) -> dict[str, NDArray[np.float64]]:
    """Return the samples of every stage in microseconds (frames,).

    Raises `FaceMeshError` if a stage has fewer than ``least_frames``, or values that are no times.
    """
    stages = _part(record, "stages")
    if not stages:
        raise _fault(record, "no stage was measured")
    found = {}
    for name, stage in stages.items():
        if not isinstance(stage, dict):
            raise _fault(record, f"stage {name} is no object")
        samples = stage.get("samples_us")
        if not isinstance(samples, list):
            raise _fault(record, f"stage {name} lacks samples_us")
        if len(samples) < least_frames:
            needed = f"a comparison needs {least_frames} at least"
            raise _fault(record, f"stage {name} has {len(samples)} frames, {needed}")
        if not all(isinstance(value, (int, float)) and 0 < value < MOST_US for value in samples):
            raise _fault(record, f"stage {name} has samples that are no times")
        found[name] = np.array(samples, np.float64)
    return found


def format_record(document: dict[str, Any]) -> str:
    """Return the document as text for people."""
    return "\n".join(
        [
            _headline(document),
            text_table(list(_table_rows(document)), left=1),
            _memory_line(document),
            *(f"warning: {warning}" for warning in document["warnings"]),
        ]
    )


def _headline(document: dict[str, Any]) -> str:
    engine = document["engine"]
    machine = document["machine"]
    source = document["settings"]["source"]
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    width, height = source["size_wh"]
    return (
        f"{engine['file']} ({engine['precision']}) on {machine.get('board') or machine['cpu']}, "
        f"{machine['cores']} cores{gpu}; {source['pictures']} × {source['file']}, {width} × {height} px"
    )


def _table_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("stage", "frames", "p50 ms", "p90 ms", "p99 ms", "max ms", "CV %")
    for stage, row in document["stages"].items():
        figures = (f"{row[key]:.3f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
        yield (stage, str(row["frames"]), *figures, f"{100 * row['cv']:.1f}")
    empty = ("", "", "", "")
    yield ("cold start", str(document["cold_start"]["runs"]), f"{document['cold_start_ms']:.1f}", *empty)
    idle = document["first_after_idle"]
    first_ms = f"{document['first_after_idle_ms']:.3f}"
    yield (f"after {idle['idle_s']:g} s idle", str(len(idle["all_ms"])), first_ms, *empty)


def _memory_line(document: dict[str, Any]) -> str:
    held = document["allocations"]
    peak_mb = document["peak_memory_mb"]
    process = "unknown" if peak_mb is None else f"{peak_mb:.0f} MB"
    return (
        f"per {held['stage']}: {held['peak_bytes'] / 1e6:.2f} MB of Python's memory at most, "
        f"{held['bytes_left']:.0f} bytes in {held['blocks_left']:.2f} blocks left behind; "
        f"the process held {process} at most"
    )


def _part(record: Record, *names: str) -> dict[str, Any]:
    """Return the object at ``names``, one inside the other."""
    part = record.document
    for name in names:
        part = part.get(name)
        if part is None:
            raise _fault(record, f"lacks {name}")
        if not isinstance(part, dict):
            raise _fault(record, f"{name} must be dict, is {type(part).__name__}")
    return part


def _fault(record: Record, problem: str) -> FaceMeshError:
    return FaceMeshError(f"{record.path}: {problem}; {REMEDY}")
