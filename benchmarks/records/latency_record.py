"""The record of a latency measurement: its stages, doubts and text form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_statistics import summarise, thin
from benchmarks.records.provenance import text_table
from runtime.inference.interface import Runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.storage.whole_files import file_sha256

FORMAT = 1
KIND = "latency"
MOST_SAMPLES = 2000  # kept in the record
MOST_VARIATION = 0.05
HOST_BOUND = 0.8  # trtexec warns at the same share


def describe_engine(path: Path | None, runner: Runner) -> dict[str, Any]:
    """Which file ran, and the ONNX file that it comes from."""
    file, spec = path or SHIPPED_MODEL, runner.spec
    return {"file": file.name, "sha256": file_sha256(file), "model": spec.name, "precision": spec.precision, "model_sha256": spec.onnx_sha256}


def stage_record(milliseconds: NDArray[np.float64]) -> dict[str, Any]:
    """What the record holds of one stage; samples are microseconds in the order in which they were taken."""
    figures = {name: round(value, 4) for name, value in summarise(milliseconds).items()}
    return {"frames": len(milliseconds), **figures, "samples_us": (1000 * thin(milliseconds, MOST_SAMPLES)).round(1).tolist()}


def spread_doubts(columns: dict[str, NDArray[np.float64]]) -> list[str]:
    """Why the latencies themselves (milliseconds by stage) say that they should not be trusted."""
    variations = {stage: summarise(times)["cv"] for stage, times in columns.items()}
    wide = [f"{stage} {100 * variation:.0f} %" for stage, variation in variations.items() if variation > MOST_VARIATION]
    found = [f"coefficient of variation above {100 * MOST_VARIATION:.0f} %: {', '.join(wide)}"] if wide else []
    if "enqueue" in columns and np.median(columns["enqueue"]) > HOST_BOUND * np.median(columns["device"]):
        found.append("handing a frame to the GPU takes nearly as long as the GPU needs for it: the host is what is measured")
    return found


def format_record(document: dict[str, Any]) -> str:
    """The record for people."""
    engine, settings, machine = document["engine"], document["settings"], document["machine"]
    source, held = settings["source"], document["allocations"]
    lines = [("stage", "frames", "p50 ms", "p90 ms", "p99 ms", "max ms", "CV %")]
    for stage, row in document["stages"].items():
        figures = (f"{row[key]:.3f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
        lines.append((stage, str(row["frames"]), *figures, f"{100 * row['cv']:.1f}"))
    lines.append(("cold start", str(document["cold_start"]["runs"]), f"{document['cold_start_ms']:.1f}", "", "", "", ""))
    idle = document["first_after_idle"]
    lines.append((f"after {idle['idle_s']:g} s idle", str(len(idle["all_ms"])), f"{document['first_after_idle_ms']:.3f}", "", "", "", ""))
    memory = "unknown" if document["peak_memory_mb"] is None else f"{document['peak_memory_mb']:.0f} MB"
    return "\n".join(
        [
            f"{engine['file']} ({engine['precision']}) on {machine.get('board') or machine['cpu']}, {machine['cores']} cores"
            + (f", {machine['gpu']}" if "gpu" in machine else "")
            + f"; {source['pictures']} × {source['file']}, {source['size_wh'][0]} × {source['size_wh'][1]} px",
            text_table(lines, left=1),
            f"per {held['stage']}: {held['peak_bytes'] / 1e6:.2f} MB of Python's memory at most, {held['bytes_left']:.0f} bytes in "
            f"{held['blocks_left']:.2f} blocks left behind; the process held {memory} at most",
            *(f"warning: {warning}" for warning in document["warnings"]),
        ]
    )
