"""The library that lets calls fail, and the process that it is loaded into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("failing_calls.c")
REPOSITORY = Path(__file__).resolve().parents[2]


def compiler() -> str | None:
    """Return the C compiler; None without one, or where libraries cannot be preloaded so."""
    return shutil.which(os.environ.get("CC", "cc")) if sys.platform == "linux" else None


def build_library(folder: Path) -> Path:
    """Compile the library into ``folder``."""
    library = folder / "failing_calls.so"
    subprocess.run([compiler(), "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def let_calls_fail(
    scenario: str, library: Path, most: int, points: Sequence[str] = (), lanes: int = 1
) -> dict[str, Any]:
    """Run `tests.faults.worker`; return its report."""
    quiet = {"OMP_NUM_THREADS": "1", "LD_PRELOAD": str(library), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.faults.worker", scenario, str(library), str(lanes), str(most), *points]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **quiet}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)
