"""Run the parts of `benchmarks.gpu.gpu_report` in a process of their own; it may crash or hang.

``python -m benchmarks.gpu.worker`` reads the tasks from stdin as one JSON list and answers each with one JSON object
per line.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.gpu.clocks import SeriesLength
from benchmarks.gpu.detection import detection, detection_check, make_detector
from benchmarks.gpu.device_and_copies import build, copies, describe_device, torch_version
from benchmarks.gpu.frames import check, frames, host_work, newcomers, stages, throughput
from benchmarks.gpu.kernels import kernels, launches
from benchmarks.gpu.scene import PartSkipped
from benchmarks.gpu.without_tensorrt.provider_frames import provider_frames
from benchmarks.records.provenance import plain
from benchmarks.records.ranges import named_range
from runtime.console.extras import EXTRA_OF, remedy
from runtime.cuda.errors import CudaError
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError

FUNCTIONS = (describe_device, build, copies, kernels, launches, check, stages, host_work, frames, throughput)
FUNCTIONS += (newcomers, provider_frames, torch_version, make_detector, detection, detection_check)
PARTS = {part.__name__: part for part in FUNCTIONS}
COMMAND = [sys.executable, "-m", "benchmarks.gpu.worker"]
END_S = 10  # to close the device
OUT_OF_TIME = "the time of --quick is over; run it without --quick"
MOST_LINES = 20  # kept of what a process said that did not end well
# Keys: group, name, outcome ("measured", "left out", "failed"), reason, notes, rows, facts, seconds, last.
Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One part, to be done within ``limit_s`` seconds."""

    group: str  # in the report
    name: str
    part: str  # of PARTS
    arguments: dict[str, Any]
    limit_s: float


def run_apart(tasks: Sequence[Task], until: float = math.inf) -> Iterator[Result]:
    """Yield the result of every task, in order.

    If the process ends or hangs, its task has failed and another process does the rest. No task begins after ``until``,
    by the monotonic clock.
    """
    waiting = list(tasks)
    while waiting and time.monotonic() < until:
        with tempfile.TemporaryFile() as errors, _Worker(waiting, errors) as worker:
            is_over = False
            while waiting and not is_over:
                result = worker.answer(waiting.pop(0))
                is_over = result["last"] or time.monotonic() >= until
                if waiting and is_over and not result["last"]:
                    worker.stop()
                yield result
    for task in waiting:
        yield new_result(task.group, task.name, "left out", OUT_OF_TIME)


def work(tasks: Sequence[Task]) -> Iterator[Result]:
    """Yield the results of the tasks, up to one that lost the device."""
    for task in tasks:
        result = _attempt(task)
        yield result
        if result["last"]:
            return


def _attempt(task: Task) -> Result:
    """Run a task; whatever its errors are, they cost this task alone."""
    arguments = dict(task.arguments)
    if "length" in arguments:
        arguments["length"] = SeriesLength(**arguments["length"])
    started = time.monotonic()
    outcome, reason, is_lost = "measured", "", False
    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    # Rows that come before an error stay.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with named_range(f"{task.group}: {task.name}"):
                found = PARTS[task.part](**arguments)
                if isinstance(found, dict):
                    facts = found
                else:
                    for row in found:
                        rows.append(row)
        except PartSkipped as error:
            outcome, reason = "left out", str(error)
        except Exception as error:
            outcome, reason = "failed", _error_line(error)
            is_lost = isinstance(error, CudaError) and error.lost
    # Warnings become notes, each once.
    shown = [warning for warning in caught if issubclass(warning.category, (RuntimeWarning, UserWarning))]
    notes = list(dict.fromkeys(str(warning.message) for warning in shown))
    seconds = round(time.monotonic() - started, 2)
    result = new_result(task.group, task.name, outcome, reason, facts=facts, rows=rows, notes=notes)
    return {**result, "seconds": seconds, "last": is_lost}


def new_result(group: str, name: str, outcome: str, reason: str = "", **more: Any) -> Result:
    """Return a result that is empty but for the arguments."""
    nothing = {"notes": [], "rows": [], "facts": {}, "seconds": 0.0, "last": False}
    return {"group": group, "name": name, "outcome": outcome, "reason": reason, **nothing, **more}


def _error_line(error: Exception) -> str:
    """Return an error as one line, with the place of origin unless it is an error of this project."""
    if isinstance(error, FaceMeshError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (library := (error.name or "").split(".")[0]) in EXTRA_OF:
        return f"this needs {library}, which is not installed: {remedy(library)}"
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(where.filename).name}:{where.lineno})"


class _Worker:
    """The process, seen from the report."""

    def __init__(self, tasks: Sequence[Task], errors: BinaryIO) -> None:
        self._errors = errors  # what it says on stderr
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: it has ended
        threading.Thread(target=self._read, daemon=True).start()
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps([dataclasses.asdict(task) for task in tasks]).encode())

    def answer(self, task: Task) -> Result:
        """Return the result of the next task; it fails with the process."""
        try:
            line = self._lines.get(timeout=task.limit_s)
        except queue.Empty:
            self._process.kill()
            reason = f"no result within {task.limit_s:g} s, so it was stopped"
            return new_result(task.group, task.name, "failed", reason, last=True)
        return self._end(task) if line is None else json.loads(line)

    def stop(self) -> None:
        """Stop the tasks that are left."""
        self._process.kill()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _end(self, task: Task) -> Result:
        """Return the result of a task that ended the process, with the last lines from stderr."""
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        reason = ": ".join([f"its process {how}", *said[-1:]])
        return new_result(task.group, task.name, "failed", reason, notes=said[-MOST_LINES:-1], last=True)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if kind else END_S)
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Answer on the original stdout; prints of libraries go to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    tasks = [Task(**task) for task in json.load(sys.stdin)]
    with ExitStack() as stack:
        with suppress(FaceMeshError):
            stack.enter_context(open_cuda())  # so that the device's context need not be made anew for every part
        for result in work(tasks):
            print(json.dumps(plain(result)), file=answers)


if __name__ == "__main__":
    main()
