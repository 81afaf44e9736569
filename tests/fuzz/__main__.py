"""``python -m tests.fuzz --seconds 20 [--seed N] [--targets a,b]``: feed every reader with damaged files.

A defect is kept as build/fuzz/TARGET-SEED-NUMBER and named; the exit code is 1 then. A reader that ends the process
leaves the case in build/fuzz/TARGET-last.
"""

from __future__ import annotations

import argparse
import faulthandler
import shutil
import sys
import time
import traceback
from pathlib import Path

from runtime.console.terminal import quiet_libraries
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target
from tests.standins.bounded_run import is_refused

KEPT = Path("build/fuzz")
MOST_DEFECTS = 5  # of one target; more are usually the same


def main(arguments: list[str] | None = None) -> int:
    """Run the targets one after the other and print a line for each; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: another one at every run")
    parser.add_argument("--targets", default=",".join(TARGETS))
    args = parser.parse_args(arguments)
    faulthandler.enable()
    KEPT.mkdir(parents=True, exist_ok=True)
    defects = 0
    with quiet_libraries():
        for name in args.targets.split(","):
            defects += fuzz(name, TARGETS[name], args.seed, args.seconds)
    print(f"seed {args.seed}: {defects} defects")
    return 1 if defects else 0


def fuzz(name: str, target: Target, seed: int, seconds: float) -> int:
    """Feed one reader for ``seconds``; return the number of defects."""
    defects = refused = number = 0
    seeds, end = target.seeds(), time.monotonic() + seconds
    folder = KEPT / f"{name}-last"
    folder.mkdir(exist_ok=True)
    path = folder / f"case{target.suffix}"
    with open(path, "wb", buffering=0) as file:
        while time.monotonic() < end and defects < MOST_DEFECTS:
            content = target.wrap(mutated(seeds, seed, number))
            file.seek(0)  # in place: a new file costs more than most readers take
            file.write(content)
            file.truncate()
            try:
                refused += is_refused(target.read, path)
            except Exception:
                defects += 1
                print(f"DEFECT {name} {seed} {number}: {traceback.format_exc(limit=-3)}")
                (KEPT / f"{name}-{seed}-{number}").write_bytes(content)
            number += 1
    shutil.rmtree(folder)
    print(f"{name}: {number} cases, {refused} refused, {defects} defects", flush=True)
    return defects


if __name__ == "__main__":
    sys.exit(main())
