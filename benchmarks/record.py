"""What every measurement is filed with: the command, the machine and the versions; and the file it goes into."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError
from runtime.files import whole_file

LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime", "torch", "scikit-image")


def provenance() -> dict[str, Any]:
    """Command line, machine and library versions; nothing that names the user or the host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"system": platform.system(), "architecture": platform.machine(), "cpu": _cpu_name(), "cores": cores}
    if hasattr(os, "getloadavg"):
        machine["load_average"] = round(os.getloadavg()[0], 2)  # over the last minute; what else runs makes latencies worthless
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "machine": machine,
        "versions": {"python": platform.python_version(), **{name: version for name in LIBRARIES if (version := _version(name))}},
    }


def check_writable(path: Path | None) -> None:
    """Refuse a JSON path in a folder that is not there, before the measurement instead of after it."""
    if path is not None and not path.parent.is_dir():
        raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another --json file")


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write ``document`` whole or not at all; numbers that are not finite become null."""
    with whole_file(path) as file:
        file.write((json.dumps(_plain(document), indent=1, allow_nan=False) + "\n").encode())


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Fixed-width columns, two spaces apart; the first ``left`` are aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def two_digits(value: float) -> str:
    """A number of a table; – where there is none."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
