"""Measure two revisions by turns, block by block, on the same cores.

Everything that disturbs the machine disturbs both, and their ratio stays the same. Each revision runs in a process of
its own (`benchmarks.regression.frame_worker`). A block is a few frames; its fastest tenth stands for it, because other
programs can only add time. Two blocks, one of each revision, make a pair, and the order within pairs alternates. Every
few dozen pairs both processes are started anew: the place of a process in memory can make it a few percent faster or
slower for its whole life.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.latency_statistics import Interval, paired_ratio
from benchmarks.regression.revision import RevisionError
from runtime.errors import FaceMeshError

WORKER = Path(__file__).with_name("frame_worker.py")
BLOCK_S = 0.03  # how long a block should take
BLOCK_FRAMES = (3, 10)  # of a block, at least and at most
PAIRS = 60  # of one start of the processes; even, so that both orders are as frequent
STARTS = 4  # at least
NARROW = 1.08  # an interval whose ends differ by this factor needs no more pairs
# Chance of any false alarm in one comparison in which every stage is slower by exactly the limit.
FAMILY_ERROR = 0.01
# Percentile. Beside nine busy processes on two cores the median was up to ten times as noisy, the quartile up to four.
FAST = 10

Pairs = dict[str, NDArray[np.float64]]  # by stage: microseconds (pairs, 2), new and baseline


class Worker:
    """One revision in its process; a context manager."""

    def __init__(self, name: str, root: Path, settings: Mapping[str, Any], script: Path = WORKER) -> None:
        """Start the process and wait until it is ready.

        ``root`` holds the revision's ``runtime``; ``name`` is for errors. Raises `RevisionError` if it does not run.
        """
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        try:
            answer = self._ask(json.dumps({**settings, "root": str(root), "paths": library_paths()}))
            if "error" in answer:
                raise RevisionError(name, f"cannot be measured: {answer['error']}")
        except BaseException:
            self.__exit__()
            raise
        self.first: dict[str, list[float]] = answer["ready"]

    def run(self, frames: int) -> dict[str, list[float]]:
        """Measure so many frames; returns microseconds by stage."""
        return self._ask(str(frames))

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            code = self._process.wait()
            raise RevisionError(self.name, f"cannot be measured: its process ended with code {code}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # it is gone, with something unsent in the pipe
                pipe.close()
        self._process.wait()


def worker_settings(engine: Path, picture: Path, box_xyxy: list[float], threads: int) -> dict[str, Any]:
    """Return the settings of a `Worker`; workers of equal settings share the last usable cores."""
    cores = list(range(threads))
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[-threads:]
    return {
        "engine": str(engine.resolve()),
        "picture": str(picture),
        "box": box_xyxy,
        "threads": threads,
        "cores": cores,
    }


def library_paths() -> list[str]:
    """List the library folders of this interpreter.

    One of them may have a ``runtime`` too: the worker puts its own before all.
    """
    return [path for path in sys.path if path and Path(path).is_dir()]


@dataclass(frozen=True)
class StageComparison:
    """One stage of a comparison, and its verdict: "slower", "faster", "as fast" or "undecided"."""

    stage: str
    new_us: float
    baseline_us: float
    ratio: Interval
    verdict: str


def run_interleaved(
    openers: Sequence[Callable[[], Worker]],
    stages: list[str] | None,
    seconds: float,
    rng: np.random.Generator,
) -> Pairs:
    """Measure pairs of blocks from two workers (new, baseline) until every interval is narrow or the time is up.

    There are `STARTS` starts of the processes at least. ``stages`` None measures all.
    """
    began = time.monotonic()
    rounds: list[Pairs] = []
    while True:
        rounds.append(_one_start(openers))
        chosen = [stage for stage in rounds[0] if stages is None or stage in stages]
        pairs = {stage: np.concatenate([one[stage] for one in rounds]) for stage in chosen}
        if stages and (missing := set(stages) - pairs.keys()):
            raise FaceMeshError(f"no stage {', '.join(sorted(missing))} by turns; there are {','.join(rounds[0])}")
        if len(rounds) < STARTS:
            continue
        elapsed = time.monotonic() - began
        if elapsed * (1 + 1 / len(rounds)) > seconds or _narrow(pairs, rng):
            return pairs


def compare_pairs(pairs: Pairs, limit: float, rng: np.random.Generator) -> list[StageComparison]:
    """Compare the two revisions stage by stage.

    ``limit`` 0.1 tolerates 10 %. The error is shared among the stages (Bonferroni).
    """
    found = []
    for stage, times in pairs.items():
        ratio = paired_ratio(times[:, 0], times[:, 1], FAMILY_ERROR / len(pairs), rng)
        new, baseline = np.median(times, axis=0).tolist()
        found.append(StageComparison(stage, new, baseline, ratio, verdict(ratio, limit)))
    return found


def verdict(ratio: Interval, limit: float) -> str:
    """Return the verdict on an interval; "slower" only if all of it lies beyond the tolerated slowdown."""
    if ratio.low > 1 + limit:
        return "slower"
    if ratio.high > 1 + limit:
        return "undecided"
    return "faster" if ratio.high * (1 + limit) < 1 else "as fast"


def _one_start(openers: Sequence[Callable[[], Worker]]) -> Pairs:
    with ExitStack() as stack:
        workers = [stack.enter_context(open_worker()) for open_worker in openers]
        frame_s = sum(np.median(times) for times in workers[0].first.values()) / 1e6
        frames = int(np.clip(BLOCK_S / frame_s, *BLOCK_FRAMES))
        pairs: dict[str, list[list[float]]] = {stage: [] for stage in workers[0].first}
        for turn in range(PAIRS):
            blocks: list[dict[str, list[float]]] = [{}, {}]
            for place in (0, 1) if turn % 2 else (1, 0):
                blocks[place] = workers[place].run(frames)
            for stage, rows in pairs.items():
                rows.append([float(np.percentile(block[stage], FAST)) for block in blocks])
    return {stage: np.array(rows) for stage, rows in pairs.items()}


def _narrow(pairs: Pairs, rng: np.random.Generator) -> bool:
    for times in pairs.values():
        interval = paired_ratio(times[:, 0], times[:, 1], FAMILY_ERROR / len(pairs), rng)
        if interval.high / interval.low >= NARROW:
            return False
    return True
