"""Time from the start of a fresh process to its first face.

``python -m benchmarks.latency.cold_start`` reads one JSON object from stdin. Its keys are ``picture`` (.npy, (H, W, 3)
uint8 BGR) and ``runner`` (keywords of `runtime.open_runner`). It prints milliseconds as JSON: ``import``, ``open``
(model, detector, pipeline) and ``first_face`` (detection included; the picture is in memory by then).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from runtime.errors import FaceMeshError  # nothing heavier: the process measures its imports

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.latency.cold_start"]


def cold_starts(picture: Path, runner: dict[str, Any], runs: int) -> list[dict[str, float]]:
    """Measure one fresh process after the other; returns milliseconds by part.

    ``total`` is the time from the start of the process to its first face as seen from outside, the interpreter's
    start included. Raises `FaceMeshError` if the process fails.
    """
    request = json.dumps({"picture": str(picture), "runner": runner})
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        done = subprocess.run(COMMAND, cwd=REPOSITORY, input=request, capture_output=True, text=True)
        total_ms = 1000 * (time.perf_counter() - started)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise FaceMeshError(f"the fresh process of the cold start failed: {reason}")
        parts = json.loads(done.stdout.splitlines()[-1])
        found.append({"total": total_ms - parts.pop("after"), **parts})
    return found


def main() -> None:
    """Measure this process, and print its times."""
    settings = json.load(sys.stdin)

    # Import.
    started = time.perf_counter()
    import numpy as np

    from runtime import FaceMeshPipeline, YuNetDetector, open_runner

    imported = time.perf_counter()
    picture = np.load(settings["picture"])

    # Open, and find the first face.
    ready = time.perf_counter()
    runner = open_runner(**settings["runner"])
    pipeline = FaceMeshPipeline(runner, YuNetDetector(max_faces=1))
    opened = time.perf_counter()
    pipeline(picture)
    done = time.perf_counter()
    runner.close()
    times = {
        "import": imported - started,
        "open": opened - ready,
        "first_face": done - opened,
        "after": time.perf_counter() - done,
    }
    print(json.dumps({name: 1000 * seconds for name, seconds in times.items()}))


if __name__ == "__main__":
    main()
