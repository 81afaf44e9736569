"""Two revisions by turns, block by block, on the same cores: what disturbs the machine disturbs both, and their ratio stays what it is.

Each revision runs in a process of its own (`benchmarks.regression.frame_worker`). A block is a few frames; its fastest tenth stands for it, because what
else runs on the machine can only add time. Two blocks, one of each, make a pair, and the order within pairs alternates. Every few dozen pairs both
processes are started anew, because where a process happens to lie in memory can make it a few percent faster or slower for its whole life.
"""

from __future__ import annotations

import contextlib
import json
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
BLOCK_S, BLOCK_FRAMES = 0.03, (3, 10)  # how long a block should take, and how many frames it has at least and at most
PAIRS = 60  # of one start of the processes; even, so that both orders are as frequent
STARTS = 4  # at least
NARROW = 1.08  # an interval whose ends differ by this factor needs no more pairs
FAMILY_ERROR = 0.01  # chance of any false alarm in one comparison where every stage is slower by exactly the limit
FAST = 10  # percentile; beside nine busy processes on two cores the median was up to ten times as noisy, the quartile up to four times

Pairs = dict[str, NDArray[np.float64]]  # by stage: microseconds (pairs, 2), new and baseline


class Worker:
    """One revision in its process; a context manager."""

    def __init__(self, name: str, root: Path, settings: Mapping[str, Any], script: Path = WORKER) -> None:
        """``root`` holds the revision's ``runtime``; ``name`` is what errors call it. `RevisionError` where it does not run."""
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
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
        """Microseconds of so many frames by stage."""
        return self._ask(str(frames))

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise RevisionError(self.name, f"cannot be measured: its process ended with code {self._process.wait()}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # it is gone, with something unsent in the pipe
                pipe.close()
        self._process.wait()


def library_paths() -> list[str]:
    """Where this interpreter finds libraries. A folder among them may have a ``runtime`` too: the worker puts its own before all."""
    return [path for path in sys.path if path and Path(path).is_dir()]


@dataclass(frozen=True)
class Judgement:
    """One stage of a comparison."""

    stage: str
    new_us: float
    baseline_us: float
    ratio: Interval
    verdict: str  # "slower", "faster", "as fast" or "undecided"


def run_interleaved(openers: Sequence[Callable[[], Worker]], stages: list[str] | None, seconds: float, rng: np.random.Generator) -> Pairs:
    """Pairs of blocks from two workers (new, baseline), until every interval is narrow or the time is up, but from `STARTS` starts at least."""
    began, rounds = time.monotonic(), []
    while True:
        rounds.append(_one_start(openers))
        pairs = {stage: np.concatenate([one[stage] for one in rounds]) for stage in rounds[0] if stages is None or stage in stages}
        if stages and (missing := set(stages) - pairs.keys()):
            raise FaceMeshError(f"no stage {', '.join(sorted(missing))} by turns; there are {','.join(rounds[0])}")
        elapsed = time.monotonic() - began
        if len(rounds) >= STARTS and (elapsed * (1 + 1 / len(rounds)) > seconds or _narrow(pairs, rng)):
            return pairs


def judge(pairs: Pairs, limit: float, rng: np.random.Generator) -> list[Judgement]:
    """A verdict for each stage. ``limit`` 0.1 tolerates 10 %; the error is shared among the stages (Bonferroni)."""
    found = []
    for stage, times in pairs.items():
        ratio = paired_ratio(times[:, 0], times[:, 1], FAMILY_ERROR / len(pairs), rng)
        new, baseline = np.median(times, axis=0).tolist()
        found.append(Judgement(stage, new, baseline, ratio, verdict(ratio, limit)))
    return found


def verdict(ratio: Interval, limit: float) -> str:
    """What an interval says about a tolerated slowdown: it is "slower" only where the whole interval lies beyond the limit."""
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
    intervals = (paired_ratio(times[:, 0], times[:, 1], FAMILY_ERROR / len(pairs), rng) for times in pairs.values())
    return all(interval.high / interval.low < NARROW for interval in intervals)
