"""``python -m tests.faults [--most N] [--scenarios a,b] [--points kind:n] [--lanes N]``: let each call fail once.

Afterwards files are whole or absent, the exit code is not 0 and one line names the reason; or the failure was of no
consequence, and everything is as without it. The exit code is 1 if one point was not survived. Memory counts from
160 kB on: below lie NumPy's own buffers, without which NumPy ends the process by itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from runtime.cores import usable_cores
from tests.faults.preloaded import build_library, let_calls_fail
from tests.faults.scenarios import SCENARIOS


def main() -> int:
    """Run the scenarios one after the other and print a line for each; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--most", type=int, default=0, help="calls of each kind to try (default: all)")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--points", default="", help="kinds, or single calls such as read:3")
    parser.add_argument("--lanes", type=int, default=usable_cores(), help="at a time (default: as many as cores)")
    args = parser.parse_args()
    tried = defects = 0
    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder))
        for name in args.scenarios.split(","):
            points = [point for point in args.points.split(",") if point]
            report = let_calls_fail(name, library, args.most, points, args.lanes)
            tried += report["tried"]
            defects += len(report["defects"])
            for point, fault, said in report["defects"]:
                print(f"DEFECT {name} {point}: {fault}\n{said}")
            calls = ", ".join(f"{count} {kind}" for kind, count in report["counts"].items() if count)
            survived = f"{report['tried'] - len(report['defects'])} of {report['tried']} survived"
            print(f"{name}: {survived}, {report['unnoticed']} of no consequence; calls: {calls}", flush=True)
    print(f"{tried - defects} of {tried} points survived")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
