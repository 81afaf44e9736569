"""Try the regression gate: it must find a slower decode, and nothing else. ``python -m tests.programs.gate_trial``

It builds the files as they lie and compares them with themselves, ``--tries`` times as they are and as often with a
decode that does ``--extra`` more work. The first must raise no alarm, the second one in decode each time. Exit code 1
if either fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records.machine import Watch
from benchmarks.records.measured_faces import load_measured_faces
from benchmarks.records.provenance import REPOSITORY
from benchmarks.regression.interleave import (
    StageComparison,
    Worker,
    compare_pairs,
    library_paths,
    run_interleaved,
    worker_settings,
)
from benchmarks.regression.revision import build, export_working_tree
from runtime.models.shipped import SHIPPED_MODEL, SHIPPED_PICTURE

SLOW_WORKER = Path(__file__).with_name("slow_worker.py")
LIMIT = 0.1


@contextmanager
def built_here() -> Iterator[tuple[Path, dict[str, Any]]]:
    """This tree, built, and the settings of workers for it."""
    face = load_measured_faces(SHIPPED_PICTURE)[0]
    with tempfile.TemporaryDirectory() as scratch:
        export_working_tree(REPOSITORY, folder := Path(scratch) / "tree")
        root = build(folder, "the working tree", with_cuda=False)
        np.save(picture := Path(scratch) / "picture.npy", face.image)
        yield root, worker_settings(SHIPPED_MODEL, picture, face.box_xyxy.tolist(), threads=1)


def calibrated(root: Path, settings: dict[str, Any], extra: float) -> dict[str, float]:
    """Find the vertices to compute again for ``extra`` more time in decode, and the share measured with them."""
    request = json.dumps({**settings, "root": str(root), "paths": library_paths(), "extra": extra}) + "\n"
    command = [sys.executable, "-I", "-S", str(SLOW_WORKER), "--calibrate"]
    return json.loads(subprocess.run(command, input=request, stdout=subprocess.PIPE, text=True, check=True).stdout)


def trial(root: Path, settings: dict[str, Any], again: float, seconds: float, seed: int) -> list[StageComparison]:
    """Compare this tree, with so many vertices computed again, with itself."""
    slow = partial(Worker, "slow", root, {**settings, "again": again}, SLOW_WORKER)
    new, baseline = (partial(Worker, name, root, settings) for name in ("new", "baseline"))
    rng = np.random.default_rng(seed)
    return compare_pairs(run_interleaved([slow if again else new, baseline], None, seconds, rng), LIMIT, rng)


def right(stages: list[StageComparison], again: float) -> bool:
    """Tell if the alarm is right: in decode if that was slowed down, nowhere else."""
    return [row.stage for row in stages if row.verdict == "slower"] == (["decode"] if again else [])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.gate_trial", description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--extra", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=120)
    args = parser.parse_args()
    failures, started, watch = 0, time.monotonic(), Watch()
    with built_here() as (root, settings):
        for number in range(2 * args.tries):
            slowdown = (
                calibrated(root, settings, args.extra) if number % 2 else None
            )  # anew: it depends on what else uses the caches
            again = slowdown["again"] if slowdown else 0
            stages = trial(root, settings, again, args.seconds, number)
            failures += not (good := right(stages, again))
            what = f"decode {slowdown['share']:+.1%} in one process" if slowdown else "unchanged"
            passed = "right" if good else "WRONG"
            seconds = time.monotonic() - started
            print(f"{seconds:5.0f} s  {what}: {passed}  {'; '.join(map(described, stages))}", flush=True)
    others = watch.finish().get("others", 0)
    print(f"{2 * args.tries - failures} of {2 * args.tries} right; others used {others:.1f} cores meanwhile")
    return 1 if failures else 0


def described(row: StageComparison) -> str:
    change, low, high = (100 * (value - 1) for value in (row.ratio.estimate, row.ratio.low, row.ratio.high))
    return f"{row.stage} {change:+.1f} % ({low:+.1f} … {high:+.1f}) {row.verdict}"


if __name__ == "__main__":
    sys.exit(main())
