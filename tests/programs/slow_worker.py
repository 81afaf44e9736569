"""`benchmarks.regression.frame_worker` with a slower decode, to try the gate. Stand-alone, run like the original.

After each decode the first ``settings["again"]`` vertices are scaled once more; if there are not so many, some twice.
``slow_worker.py --calibrate`` finds the number that takes ``settings["extra"]`` of a decode's time (0.2: a fifth),
between frames as elsewhere, and prints ``{"again": number, "share": measured}``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

SPEC = importlib.util.spec_from_file_location(
    "frame_worker", Path(__file__).resolve().parents[2] / "benchmarks" / "regression" / "frame_worker.py"
)
frame_worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(frame_worker)
import_revision = frame_worker.import_revision

FIRST = 20000  # vertices that are tried
ROUNDS = 8  # at most: what a vertex takes depends on what else uses the caches
again = 0  # vertices


def import_slow_revision(settings: dict[str, Any]) -> None:
    """Import the revision with another ``Decoder`` for everything that is imported afterwards."""
    import_revision(settings)
    from runtime.families import position_map as decode

    class SlowDecoder(decode.Decoder):
        def __call__(self, position_map, matrix):
            vertices, landmarks = super().__call__(position_map, matrix)
            for done in range(0, again, len(vertices)):
                vertices[: again - done] *= 1.0
            return vertices, landmarks

    decode.Decoder = SlowDecoder
    use(settings.get("again", 0))


def use(count: int) -> None:
    """Scale so many vertices again from now on."""
    global again
    again = count


def calibrate(settings: dict[str, Any]) -> dict[str, float]:
    """Find the vertices that make decode slower by ``settings["extra"]``, nearly, and measure their share."""
    runner, measure = frame_worker.open_revision(settings)
    with runner:
        extra, count = settings["extra"], FIRST
        for _ in range(ROUNDS):
            share = measured_share(measure, count, 60)
            if abs(share - extra) < extra / 6:
                break
            count = int(count * min(extra / max(share, 1e-6), 2))
        return {"again": count, "share": share}


def measured_share(measure, count: int, blocks: int) -> float:
    """Measure the slowdown by ``count`` vertices scaled again: the median of neighbouring blocks of one process."""
    import numpy as np

    ratios = []
    for turn in range(blocks):
        times = {}
        for number in (0, count) if turn % 2 else (count, 0):
            use(number)
            times[number] = np.percentile(measure(10)["decode"], 10)
        ratios.append(times[count] / times[0])
    return float(np.median(ratios)) - 1


if __name__ == "__main__":
    frame_worker.import_revision = import_slow_revision
    if sys.argv[1:] == ["--calibrate"]:
        print(json.dumps(calibrate(json.loads(sys.stdin.readline()))))
    else:
        frame_worker.main()
