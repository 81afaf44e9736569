"""A process that has done nothing yet: how long until its first face. ``python -m benchmarks.latency.cold_start`` reads one JSON object from stdin.

Its keys are ``picture`` (.npy, (H, W, 3) uint8 BGR) and ``runner`` (keywords of `runtime.open_runner`). It prints milliseconds as JSON:
``import``, ``open`` (model, detector, pipeline) and ``first_face`` (detection included; the picture is in memory by then).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError


def cold_starts(picture: Path, runner: dict[str, Any], runs: int) -> list[dict[str, float]]:
    """One fresh process after the other; ``total`` is from its start to its first face as seen from outside, the interpreter's start included."""
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.latency.cold_start"],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, errors = process.communicate(json.dumps({"picture": str(picture), "runner": runner}))
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            reason = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise FaceMeshError(f"the fresh process of the cold start failed: {reason}")
        parts = json.loads(out.splitlines()[-1])
        found.append({"total": 1000 * seconds - parts.pop("after"), **parts})
    return found


def main() -> None:
    """Measure this process."""
    settings = json.load(sys.stdin)
    started = time.perf_counter()
    import numpy as np

    from runtime import FaceMeshPipeline, YuNetDetector, open_runner

    imported = time.perf_counter()
    picture = np.load(settings["picture"])
    ready = time.perf_counter()
    runner = open_runner(**settings["runner"])
    pipeline = FaceMeshPipeline(runner, YuNetDetector(max_faces=1))
    opened = time.perf_counter()
    pipeline(picture)
    done = time.perf_counter()
    runner.close()
    times = {"import": imported - started, "open": opened - ready, "first_face": done - opened, "after": time.perf_counter() - done}
    print(json.dumps({name: 1000 * seconds for name, seconds in times.items()}))


if __name__ == "__main__":
    main()
