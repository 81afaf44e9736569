"""The origin of a measurement (command, commit, machine, versions), and the JSON file that keeps both."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from benchmarks.records.machine import identity
from runtime.errors import FaceMeshError
from runtime.storage.whole_files import require_writable, whole_file

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = "benchmarks/results"
CODE = (".py", ".cpp", ".h", ".cu", ".cuh")
LIBRARIES = (
    *("numpy", "onnx", "onnxruntime", "torch", "scikit-image"),
    *("tensorrt", "tensorrt-lean", "tensorrt-rtx", "pycuda", "cuda-python", "nvidia-ml-py", "jetson-stats"),
)


def provenance() -> dict[str, Any]:
    """Collect command line, commit, machine and library versions; nothing that names the user or the host."""
    machine = identity()
    if hasattr(os, "getloadavg"):
        machine["load_average"] = round(os.getloadavg()[0], 2)  # over the last minute; other programs spoil latencies
    versions = {"python": platform.python_version(), "opencv": cv2.__version__}
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *map(_without_folders, sys.argv[1:])]),
        "commit": commit(),
        "machine": machine,
        "versions": versions | {name: version for name in LIBRARIES if (version := _version(name))},
    }


def commit(repository: Path = REPOSITORY) -> dict[str, Any] | None:
    """Identify the revision that runs and tell if its code differs; None outside a git repository.

    New modules count, results do not: a series of measurements fills benchmarks/results.
    """
    if not (repository / ".git").exists():
        return None
    try:
        revision = git(repository, "rev-parse", "HEAD")
        changes = git(repository, "status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){RESULTS}")
        modules = git(repository, "ls-files", "--others", "--exclude-standard", *(f"*{suffix}" for suffix in CODE))
    except FaceMeshError:  # no git, no commit yet, or somebody else's repository
        return None
    return {"revision": revision, "dirty": bool(changes or modules)}


def git(repository: Path, *command: str) -> str:
    """Run git and return its output without the line's end. Raises `FaceMeshError` with git's own words."""
    try:
        done = subprocess.run(["git", "-C", str(repository), *command], capture_output=True, text=True, check=True)
    except OSError as error:
        raise FaceMeshError(f"git cannot be run ({error.strerror}); install it") from None
    except subprocess.CalledProcessError as error:
        first_line = (error.stderr.strip().splitlines() or ["failed"])[0]
        raise FaceMeshError(f"git {command[0]}: {first_line}") from None
    return done.stdout.strip()


def check_writable(path: Path | None) -> None:
    """Refuse a path in a missing folder, or that cannot be written, before the measurement instead of after it."""
    if path is not None and not path.parent.is_dir():
        raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another place")
    if path is not None:
        require_writable(path)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write ``document`` whole or not at all; numbers that are not finite become null."""
    with whole_file(path) as file:
        file.write((json.dumps(plain(document), indent=1, allow_nan=False) + "\n").encode())


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Lay out rows in fixed-width columns; the first ``left`` are aligned to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            cells.append(cell.ljust(width) if column < left else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def two_digits(value: float) -> str:
    """Format a number of a table, "–" for one that is not finite."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


def plain(value: Any) -> Any:
    """Convert ``value`` for JSON: tuples become lists, numbers that are not finite None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_folders(argument: str) -> str:
    """Strip an absolute path in an argument to its file name: folders may hold the user's name."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else argument


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
