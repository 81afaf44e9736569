"""Does the parts of `benchmarks.gpu.gpu_report` in a process of its own: a device that is lost, a crash or a hang ends that process and no more.

``python -m benchmarks.gpu.worker`` reads the tasks from stdin as one JSON list and answers each with one JSON object per line.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
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

from benchmarks.gpu.clocks import Effort
from benchmarks.gpu.device_and_copies import build, copies, describe_device
from benchmarks.gpu.frames import check, frames, host_work, stages, throughput
from benchmarks.gpu.kernels import kernels, launches
from benchmarks.gpu.scene import LeftOut
from benchmarks.records.provenance import plain
from runtime.console.exit_codes import EXTRA_OF
from runtime.cuda.errors import CudaError
from runtime.cuda.open_cuda import open_cuda
from runtime.errors import FaceMeshError

PARTS = {part.__name__: part for part in (describe_device, build, copies, kernels, launches, check, stages, host_work, frames, throughput)}
COMMAND = [sys.executable, "-m", "benchmarks.gpu.worker"]
END_S = 10  # to close the device
MOST_LINES = 20  # kept of what a process said that did not end well
Result = dict[str, Any]  # group, name, outcome ("measured", "left out", "failed"), reason, notes, rows, facts, seconds, last


@dataclass(frozen=True)
class Task:
    """One part, to be done within ``limit_s`` seconds."""

    group: str  # in the report
    name: str
    part: str  # of PARTS
    arguments: dict[str, Any]
    limit_s: float


def run_apart(tasks: Sequence[Task]) -> Iterator[Result]:
    """The result of every task, in order. Where the process ends or hangs its task has failed, and another process does the rest."""
    waiting = list(tasks)
    while waiting:
        with tempfile.TemporaryFile() as errors, _Worker(waiting, errors) as worker:
            is_over = False
            while waiting and not is_over:
                result = worker.answer(waiting.pop(0))
                is_over = result["last"]
                yield result


def work(tasks: Sequence[Task]) -> Iterator[Result]:
    """The results of the tasks that this process can do: none after one has lost the device."""
    for task in tasks:
        result = _attempt(task)
        yield result
        if result["last"]:
            return


def _attempt(task: Task) -> Result:
    arguments = {key: Effort(**value) if key == "effort" else value for key, value in task.arguments.items()}
    started, facts, rows = time.monotonic(), {}, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = PARTS[task.part](**arguments)
            if isinstance(found, dict):
                facts = found
            else:
                for row in found:  # what comes before an error stays
                    rows.append(row)
            outcome, reason, is_lost = "measured", "", False
        except LeftOut as error:
            outcome, reason, is_lost = "left out", str(error), False
        except Exception as error:  # whatever it is, it costs this part alone
            outcome, reason, is_lost = "failed", _in_words(error), isinstance(error, CudaError) and error.lost
    notes = dict.fromkeys(str(warning.message) for warning in caught if issubclass(warning.category, (RuntimeWarning, UserWarning)))
    found = {"facts": facts, "rows": rows, "notes": list(notes), "seconds": round(time.monotonic() - started, 2), "last": is_lost}
    return new_result(task.group, task.name, outcome, reason, **found)


def new_result(group: str, name: str, outcome: str, reason: str = "", **more: Any) -> Result:
    """One with nothing in it but this."""
    nothing = {"notes": [], "rows": [], "facts": {}, "seconds": 0.0, "last": False}
    return {"group": group, "name": name, "outcome": outcome, "reason": reason, **nothing, **more}


def _in_words(error: Exception) -> str:
    """One line; where it is none of this project's errors, with the place that raised it."""
    if isinstance(error, FaceMeshError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (library := (error.name or "").split(".")[0]) in EXTRA_OF:
        return f"this needs {library}, which is not installed: pip install 'facemesh-edge[{EXTRA_OF[library]}]'"
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(where.filename).name}:{where.lineno})"


class _Worker:
    """The process, from the side of the report."""

    def __init__(self, tasks: Sequence[Task], errors: BinaryIO) -> None:
        self._errors = errors  # what it says on stderr
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: it has ended
        threading.Thread(target=self._read, daemon=True).start()
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(json.dumps([dataclasses.asdict(task) for task in tasks]).encode())

    def answer(self, task: Task) -> Result:
        """The result of the next task, or that it failed with the process."""
        try:
            line = self._lines.get(timeout=task.limit_s)
        except queue.Empty:
            self._process.kill()
            return new_result(task.group, task.name, "failed", f"no result within {task.limit_s:g} s, so it was stopped", last=True)
        return self._end(task) if line is None else json.loads(line)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _end(self, task: Task) -> Result:
        """How it ended, with what it said last."""
        code = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return new_result(task.group, task.name, "failed", ": ".join([f"its process {how}", *said[-1:]]), notes=said[-MOST_LINES:-1], last=True)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if kind else END_S)
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Answer on the stdout that it was started with; what libraries print goes to stderr."""
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
